/** Facts that identify this machine. */
import { createHash } from 'node:crypto'
import { readFile } from 'node:fs/promises'

/**
 * Hash of /etc/machine-id, which must not be published itself (machine-id(5)).
 * @returns 32 hex digits; `undefined` if there is no machine id
 */
export async function readMachineDigest(): Promise<string | undefined> {
  for (const path of ['/etc/machine-id', '/var/lib/dbus/machine-id']) {
    const id = (await readFile(path, 'utf8').catch(() => '')).trim()
    if (/^[0-9a-f]{32}$/.test(id))
      return createHash('sha256').update(`overlayd ${id}`).digest('hex').slice(0, 32)
  }
  return undefined
}

/**
 * NET_ADDR_RANDOM of linux/netdevice.h: the kernel generated the MAC, and generates another one next time.
 */
const RANDOM_ADDRESS = '1'

/** Whether an interface has the same MAC after a reboot; true if that is unknown. */
export async function keepsItsMac(link: string): Promise<boolean> {
  const type = await readFile(`/sys/class/net/${link}/addr_assign_type`, 'utf8').catch(() => '')
  return type.trim() !== RANDOM_ADDRESS
}
