/**
 * The network of these tests: an underlay made of a veth pair, a VXLAN device made by the code under test,
 * and what `ip` says of it.
 */

import { execFileSync } from 'node:child_process'
import { Kernel, type KernelChange } from '../../../src/kernel/kernel'
import { type Ipv4, ipv4, type MacAddress, mac, parseIpv4 } from '../../../src/model/address'
import type { LinkSpec, ObservedLink } from '../../../src/model/kernel/link'
import type { ObjectOperation } from '../../../src/model/kernel/objects'
import type { Route } from '../../../src/model/kernel/route'
import { ROUTE_PROTOCOL } from '../../../src/model/kernel/route'
import { patient } from '../../lab/patience'
import { set, setRoute, to } from '../../support/operations'

export function requireSandbox(): void {
  if (process.env['OVERLAYD_SANDBOX'] === '1') return
  throw new Error(
    'these tests change the network they run in: run them as scripts/sandbox node_modules/.bin/jest ...',
  )
}

/** Runs `ip`, `bridge` or another program, and returns the output. */
export function run(command: string, ...input: string[]): string {
  const [program = '', ...args] = command.split(' ')
  return execFileSync(program, args, {
    encoding: 'utf8',
    input: input.join('\n'),
    stdio: ['pipe', 'pipe', 'pipe'],
  })
}

/** The same for a command that prints JSON. */
export function show(command: string): Record<string, unknown>[] {
  return JSON.parse(run(command) || '[]')
}

export const address = (text: string): Ipv4 => parseIpv4(text) ?? ipv4(0)

export const PARENT = 'under0'
export const PARENT_ADDRESS = '192.0.2.1'

/** Makes the underlay interface, with an address and a default route. */
export function makeUnderlay(): void {
  run(`ip link add ${PARENT} type veth peer name ${PARENT}-peer`)
  run(`ip address add ${PARENT_ADDRESS}/24 dev ${PARENT}`)
  run(`ip link set ${PARENT} up`)
  run(`ip link set ${PARENT}-peer up`)
  run('ip route add default via 192.0.2.254')
}

export function removeUnderlay(): void {
  run(`ip link delete ${PARENT}`)
}

/** The kernel and the VXLAN device of a test. */
export interface DeviceSite {
  readonly kernel: Kernel
  /** Of the device. */
  readonly index: number
}

/** Registers what makes the underlay once, and the device for each test of a file. */
export function deviceForEachTest(): DeviceSite {
  let site: DeviceSite | undefined
  const made = (): DeviceSite => {
    if (site === undefined) throw new Error('there is a device only while a test runs')
    return site
  }
  beforeAll(() => {
    requireSandbox()
    makeUnderlay()
  })
  beforeEach(async () => {
    const kernel = await openKernel()
    site = { kernel, index: (await makeDevice(kernel)).index }
  })
  afterEach(async () => {
    const { kernel } = made()
    site = undefined
    await removeDevice(kernel)
    kernel.close()
    expect(reported).toEqual([])
  })
  afterAll(() => removeUnderlay())
  return {
    get kernel() {
      return made().kernel
    },
    get index() {
      return made().index
    },
  }
}

/** Errors that no caller got. A test that expects such errors empties the list. */
export const reported: Error[] = []

export const openKernel = (
  options: { nexthopObjects?: 'auto' | 'off'; eventBuffer?: number } = {},
): Promise<Kernel> => Kernel.openWriter({ report: (error) => reported.push(error), ...options })

export async function linkSpec(kernel: Kernel, changes: Partial<LinkSpec> = {}): Promise<LinkSpec> {
  const parent = await kernel.link(PARENT)
  return {
    name: 'flannel.1',
    mac: mac(0x020000000001),
    mtu: 1450,
    vni: 1,
    port: undefined,
    local: address(PARENT_ADDRESS),
    parent: parent?.index ?? 0,
    learning: false,
    gbp: false,
    ...changes,
  }
}

export async function existing(kernel: Kernel, name: string): Promise<ObservedLink> {
  const link = await kernel.link(name)
  if (link === undefined) throw new Error(`there is no ${name}`)
  return link
}

/** Makes the device `flannel.1`, up, with an address, and watches the device. */
export async function makeDevice(kernel: Kernel, changes: Partial<LinkSpec> = {}): Promise<ObservedLink> {
  const spec = await linkSpec(kernel, changes)
  await kernel.applyLink({ kind: 'create-link', link: spec })
  const { index, name } = await existing(kernel, spec.name)
  await kernel.applyLink({
    kind: 'add-address',
    index,
    address: { address: address('10.5.1.0'), length: 32 },
  })
  await kernel.applyLink({ kind: 'set-link-up', index, name })
  kernel.watchLink(index)
  return existing(kernel, name)
}

export async function removeDevice(kernel: Kernel, name = 'flannel.1'): Promise<void> {
  const link = await kernel.link(name)
  if (link !== undefined) await kernel.applyLink({ kind: 'delete-link', index: link.index, name })
}

/** A peer of these tests: subnet 10.(16 + n / 256).(n % 256).0/24. */
export interface TestPeer {
  readonly subnet: Ipv4
  readonly mac: MacAddress
  readonly publicIp: Ipv4
  readonly nexthop: number
}

export const testPeer = (n: number): TestPeer => ({
  subnet: ipv4(0x0a100000 + n * 256),
  mac: mac(0x020100000000 + n),
  publicIp: ipv4(0xac100000 + n),
  nexthop: 10_000 + n,
})

export function routeOf(peer: TestPeer, target: 'nexthop' | 'gateway' = 'nexthop'): Route {
  return {
    destination: { address: peer.subnet, length: 24 },
    metric: 0,
    tos: 0,
    protocol: ROUTE_PROTOCOL,
    mtu: 0,
    target:
      target === 'nexthop'
        ? { kind: 'nexthop', id: peer.nexthop }
        : { kind: 'gateway', gateway: peer.subnet, onlink: true },
  }
}

/** All four objects of a peer, in the order in which they carry traffic. */
export const peerOperations = (peer: TestPeer): ObjectOperation[] => [
  set('neighbour', peer.subnet, peer.mac),
  set('fdb', peer.mac, to(peer.publicIp)),
  set('nexthop', peer.nexthop, peer.subnet),
  setRoute(routeOf(peer)),
]

/** Collects changes, and waits for a given one. */
export function collectChanges(kernel: Kernel): {
  readonly seen: KernelChange[]
  until(wanted: (change: KernelChange) => boolean): Promise<void>
} {
  const seen: KernelChange[] = []
  const waiting = new Set<() => void>()
  kernel.onChange((change) => {
    seen.push(change)
    for (const check of waiting) check()
  })
  return {
    seen,
    until: (wanted) =>
      new Promise((resolve, reject) => {
        const timer = setTimeout(() => {
          waiting.delete(check)
          reject(new Error(`no such change; seen: ${JSON.stringify(seen.slice(-20))}`))
        }, patient(10_000))
        const check = (): void => {
          if (!seen.some(wanted)) return
          waiting.delete(check)
          clearTimeout(timer)
          resolve()
        }
        waiting.add(check)
        check()
      }),
  }
}
