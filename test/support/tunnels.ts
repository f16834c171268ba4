/** Which way packets between hosts of a lab leave, in a kernel with WireGuard. */
import { Host } from '../lab/host'
import { Pending, waitFor } from '../lab/wait'

/** The kernel's way of saying that a peer has had no handshake, in `wg show DEVICE dump`. */
export const NEVER = '0'

/** The link that a forwarding entry has to use; `none` without one, and undefined without an entry. */
export async function viaTo(from: Host, to: Host): Promise<string | undefined> {
  const shown = await from.exec('bridge', 'fdb', 'show', 'dev', Host.device)
  const entry = shown.split('\n').find((line) => line.includes(` dst ${to.address} `))
  return entry === undefined ? undefined : (/ via (\S+) /.exec(entry)?.[1] ?? 'none')
}

/**
 * Waits until packets leave a host that way.
 * @param wanted as {@link viaTo} gives it
 */
export async function waitVia(
  from: Host,
  to: Host,
  wanted: string | undefined,
  timeoutMs: number,
): Promise<void> {
  await waitFor(
    `packets from ${from.name} to ${to.name} leave by ${wanted}`,
    async () => {
      const via = await viaTo(from, to)
      return via === wanted ? true : new Pending(`by ${via}`)
    },
    { timeoutMs, context: () => from.daemon.tail() },
  )
}

/** The peers of a device: public key, allowed-ips, time of the last handshake, seconds of keepalive. */
export async function tunnelPeers(at: Host, link = 'fl-wg.1') {
  const lines = (await at.exec('wg', 'show', link, 'dump')).trim().split('\n').slice(1)
  return lines.map((line) => {
    const [key = '', , , allowedIps = '', handshake = NEVER, , , keepalive = 'off'] = line.split('\t')
    return { key, allowedIps, handshake, keepalive: keepalive === 'off' ? 0 : Number(keepalive) }
  })
}
