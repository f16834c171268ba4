/** Facts from the daemon, from files and from /proc. */
import { stat } from 'node:fs/promises'
import { readDaemon as readDaemonDocument } from '../../client/daemon-socket'
import { readDaemonStatus } from '../../client/daemon-status'
import { readConntrack, readNumber } from '../../host/procfs'
import { readPreviousSubnets, readSubnetVariables } from '../../host/subnet-env'
import {
  type DaemonFacts,
  type FactValues,
  type ForwardingFact,
  NEEDLESS,
  NO_RIGHTS,
  type SubnetFileFacts,
} from '../../judge/facts'
import { readIpForward } from '../../kernel/sysctl'
import { OverlayError } from '../../model/errors'
import { attempt } from '../../model/result'
import type { DoctorOptions } from './edges'

/** @throws {OverlayError} `daemon-down`, `control-socket`, {@link NO_RIGHTS} */
export async function readDaemon({ 'run-dir': runDirectory, known }: DoctorOptions): Promise<DaemonFacts> {
  const status = await readDaemonStatus(runDirectory, false)
  if (status !== undefined) return status
  const nobody = `nobody answers at ${runDirectory}/overlayd.sock`
  // The daemon's settings, which this user may not read, may name another place.
  if (known?.etcdUnknown !== undefined)
    throw new OverlayError(NO_RIGHTS, `${nobody}, and this user may not read where overlayd is told to be`)
  throw new OverlayError('daemon-down', nobody)
}

/** @throws {OverlayError} {@link NEEDLESS} where no daemon answers */
export async function readPrefixes({
  'run-dir': runDirectory,
}: DoctorOptions): Promise<FactValues['prefixes']> {
  const document = await readDaemonDocument(runDirectory, 'prefixes')
  if (document === undefined) throw new OverlayError(NEEDLESS, 'overlayd does not answer')
  return document
}

/** @throws {OverlayError} `sysctl` where neither family can be read */
export async function readForwarding(): Promise<ForwardingFact> {
  const [ipv4, ipv6] = await Promise.all([
    attempt('forwarding', readIpForward),
    readNumber('ipv6/conf/all/forwarding'),
  ])
  if (!ipv4.ok && ipv6 === undefined) throw new OverlayError('sysctl', 'it cannot be read')
  return { ipv4: ipv4.value, ipv6: ipv6 === undefined ? undefined : ipv6 !== 0 }
}

/** @throws {OverlayError} {@link NEEDLESS} where the kernel tracks no connections */
export async function readConnections(): Promise<FactValues['conntrack']> {
  const table = await readConntrack()
  if (table === undefined) throw new OverlayError(NEEDLESS, 'connections are not tracked here')
  return table
}

/** @throws {Error} where there is no such file */
export async function readSubnetFile(path: string): Promise<SubnetFileFacts> {
  const { mtimeMs } = await stat(path)
  const [{ ipv4, ipv6 }, variables] = await Promise.all([
    readPreviousSubnets(path),
    readSubnetVariables(path),
  ])
  const mtu = Number(variables['FLANNEL_MTU'])
  const masq = variables['FLANNEL_IPMASQ']
  return {
    path,
    ipv4,
    ipv6,
    mtu: mtu > 0 ? mtu : undefined,
    ipMasq: masq === undefined ? undefined : masq === 'true',
    writtenAt: mtimeMs,
  }
}
