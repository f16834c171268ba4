/** Objects of the overlay device in a namespace's kernel, read by iproute2 and not by the code under test. */
import { z } from 'zod'
import type { FakePeer } from './leases'
import { exec } from './namespace'
import type { Command } from './process'

/** One line per object, sorted. */
export interface KernelView {
  /** `10.5.2.0/24 via 10.5.2.0 onlink` */
  readonly routes: readonly string[]
  /** Permanent entries: `10.5.2.0 02:00:00:00:00:02` */
  readonly neighbours: readonly string[]
  /** `02:00:00:00:00:02 192.168.77.12` */
  readonly fdb: readonly string[]
  /** Gateways of nexthop objects: `10.5.2.0` */
  readonly nexthops: readonly string[]
}

/** The lines that a peer has to have. */
export function expectedObjects(peer: FakePeer) {
  const gateway = peer.subnet.replace(/-\d+$/, '')
  return {
    route: `${peer.subnet.replace('-', '/')} via ${gateway} onlink`,
    neighbour: `${gateway} ${peer.mac}`,
    fdb: `${peer.mac} ${peer.publicIp}`,
    nexthop: gateway,
  }
}

/** Whether all objects of a peer exist. */
export function holdsPeer(view: KernelView, peer: FakePeer): boolean {
  const { route, neighbour, fdb, nexthop } = expectedObjects(peer)
  return (
    view.routes.includes(route) &&
    view.neighbours.includes(neighbour) &&
    view.fdb.includes(fdb) &&
    view.nexthops.includes(nexthop)
  )
}

/** All lines with a peer's gateway or MAC. */
export function tracesOf(view: KernelView, peer: FakePeer): string[] {
  const gateway = peer.subnet.replace(/-\d+$/, '')
  return Object.values(view)
    .flat()
    .filter((line: string) => line.split(/[ /]/).some((word) => word === gateway || word === peer.mac))
}

const flags = z.array(z.string()).default([])
const routes = z.array(z.object({ dst: z.string(), gateway: z.string().default('-'), flags }))
const neighbours = z.array(z.object({ dst: z.string(), lladdr: z.string().default('-'), state: flags }))
const fdb = z.array(z.object({ mac: z.string(), dst: z.string().default('-') }))
const nexthops = z.array(z.object({ gateway: z.string().default('-') }))

/** A device that does not exist has no objects. @throws {Error} if iproute2 fails for another reason */
export async function readKernel(namespace: string, device: string): Promise<KernelView> {
  const show = async <T>(schema: z.ZodType<T[]>, command: Command): Promise<T[]> => {
    const { code, stdout, stderr } = await exec(namespace, command)
    if (code !== 0 && !/Cannot find device|does not exist/.test(stderr)) {
      throw new Error(`\`${command.join(' ')}\` failed in ${namespace}: ${stderr.trim()}`)
    }
    return stdout.trim() === '' ? [] : schema.parse(JSON.parse(stdout))
  }
  const family = device.includes('v6') ? '-6' : '-4'
  const [routeList, neighbourList, fdbList, nexthopList] = await Promise.all([
    show(routes, ['ip', family, '-j', 'route', 'show', 'dev', device]),
    show(neighbours, ['ip', family, '-j', 'neigh', 'show', 'dev', device]),
    show(fdb, ['bridge', '-j', 'fdb', 'show', 'dev', device]),
    show(nexthops, ['ip', '-j', 'nexthop', 'show', 'dev', device]),
  ])
  return {
    routes: routeList
      .filter(({ gateway }) => family === '-4' || gateway !== '-')
      .map((route) => `${route.dst} via ${route.gateway}${route.flags.includes('onlink') ? ' onlink' : ''}`)
      .sort(),
    neighbours: neighbourList
      .filter((neighbour) => neighbour.state.includes('PERMANENT'))
      .map((neighbour) => `${neighbour.dst} ${neighbour.lladdr}`)
      .sort(),
    fdb: fdbList.map((entry) => `${entry.mac} ${entry.dst}`).sort(),
    nexthops: nexthopList.map((nexthop) => nexthop.gateway).sort(),
  }
}
