/** Whether containers of this host are connected by CNI, and not by Docker alone. */
import { readdir } from 'node:fs/promises'

/** Where container runtimes look for networks by default (containerd, CRI-O, kubelet). */
export const CNI_DIRECTORY = '/etc/cni/net.d'

/** Whether a network of CNI is configured; false where the directory cannot be read. */
export async function isCniConfigured(): Promise<boolean> {
  const names = await readdir(CNI_DIRECTORY).catch(() => [])
  return names.some((name) => /\.(?:conf|conflist|json)$/.test(name))
}
