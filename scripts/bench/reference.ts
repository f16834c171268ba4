/**
 * The reference: the same kernel objects, made by iproute2 in batches on a VXLAN device made by hand in a
 * namespace of its own. iproute2 gets all objects beforehand and needs no network, so its time is nearly the
 * kernel's own.
 */
import { writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { Host } from '../../test/lab/lab'
import { inNamespace, ipBatch } from '../../test/lab/namespace'
import { type Command, runOk } from '../../test/lab/process'
import type { Stage } from './case'
import { peakRssOf } from './proc'

/** A route through a peer besides that to its subnet. */
export interface Routed {
  readonly prefix: string
  /** The address of the peer's gateway. */
  readonly gateway: string
}

let made = 0

/**
 * Milliseconds. The time for plain routes grows with the square of their number; 50,000 take most of a
 * minute.
 */
const BATCH_DEADLINE = 180_000

/**
 * Times the batches.
 * @param routes `nexthop`: with nexthop objects, like those of overlayd; `plain`: with a gateway, like those
 *   of flannel
 * @param prefixes routes besides those to the peers' subnets
 * @returns seconds
 */
export async function measureBatches(
  { lab, peers }: Stage,
  routes: 'nexthop' | 'plain',
  prefixes: readonly Routed[] = [],
): Promise<number> {
  made += 1
  const namespace = `reference${made}`
  const device = Host.device
  await lab.addNamespace(namespace)
  await ipBatch(namespace, [
    'link set lo up',
    'link add eth0 type bridge',
    'address add 192.168.78.1/24 dev eth0',
    'link set eth0 up',
    `link add ${device} address 02:ff:00:00:00:01 ` +
      'type vxlan id 1 local 192.168.78.1 dev eth0 dstport 8472 nolearning',
    `address add 10.0.1.0/32 dev ${device}`,
    `link set ${device} up`,
  ])
  const batch = (name: string, lines: readonly string[]): string => {
    const file = join(lab.directory, `${namespace}-${name}`)
    writeFileSync(file, `${lines.join('\n')}\n`)
    return file
  }
  const gateways = peers.map(({ subnet }) => subnet.replace('-24', ''))
  const subnets = gateways.map((gateway): Routed => ({ prefix: `${gateway}/24`, gateway }))
  const neighbours = batch(
    'neighbours',
    peers.map(
      ({ mac }, index) => `neigh replace ${gateways[index]} lladdr ${mac} dev ${device} nud permanent`,
    ),
  )
  const fdb = batch(
    'fdb',
    peers.map(({ mac, publicIp }) => `fdb replace ${mac} dev ${device} dst ${publicIp} self permanent`),
  )
  const idOf = new Map(gateways.map((gateway, index) => [gateway, index + 1]))
  const nexthopsAndRoutes = batch(
    'routes',
    routes === 'plain'
      ? [...subnets, ...prefixes].map(
          ({ prefix, gateway }) => `route replace ${prefix} via ${gateway} dev ${device} onlink`,
        )
      : [
          ...gateways.map(
            (gateway, index) => `nexthop replace id ${index + 1} via ${gateway} dev ${device} onlink`,
          ),
          ...[...subnets, ...prefixes].map(
            ({ prefix, gateway }) => `route replace ${prefix} nhid ${idOf.get(gateway)}`,
          ),
        ],
  )
  const run = (...command: Command) => runOk(inNamespace(namespace, command), { timeoutMs: BATCH_DEADLINE })
  const start = performance.now()
  await run('ip', '-batch', neighbours)
  await run('bridge', '-batch', fdb)
  await run('ip', '-batch', nexthopsAndRoutes)
  return (performance.now() - start) / 1000
}

/** The other reference: an empty program in Node.js. */
export async function measureNode(): Promise<{ nodeSeconds: number; nodeRssMb: number }> {
  const start = performance.now()
  await runOk([process.execPath, '-e', '0'])
  const nodeSeconds = (performance.now() - start) / 1000
  const script = `process.stdout.write(require('node:fs').readFileSync('/proc/self/status', 'utf8'))`
  return { nodeSeconds, nodeRssMb: peakRssOf(await runOk([process.execPath, '-e', script])) }
}
