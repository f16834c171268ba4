/** Reads what tells this machine from others. */
import { createHash } from 'node:crypto'
import { readFile } from 'node:fs/promises'

/** A digest of the machine id, which itself is not to be passed on (machine-id(5)); undefined where there is none. */
export async function readMachineDigest(): Promise<string | undefined> {
  for (const path of ['/etc/machine-id', '/var/lib/dbus/machine-id']) {
    const id = (await readFile(path, 'utf8').catch(() => '')).trim()
    if (/^[0-9a-f]{32}$/.test(id))
      return createHash('sha256').update(`overlayd ${id}`).digest('hex').slice(0, 32)
  }
  return undefined
}

/** NET_ADDR_RANDOM of linux/netdevice.h: the kernel made the MAC up, and makes up another next time. */
const RANDOM_ADDRESS = '1'

/** Whether an interface has the same MAC after a reboot; true where it is not known. */
export async function keepsItsMac(link: string): Promise<boolean> {
  const type = await readFile(`/sys/class/net/${link}/addr_assign_type`, 'utf8').catch(() => '')
  return type.trim() !== RANDOM_ADDRESS
}
