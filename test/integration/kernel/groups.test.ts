/** Groups of a real bridge, and rules that use sets, in the kernel of the machine. */

import { MdbSocket } from '../../../src/kernel/bridges/mdb'
import { MulticastDevice } from '../../../src/kernel/bridges/multicast'
import type { Kernel } from '../../../src/kernel/kernel'
import { formatIp, type IpAddress, ipv4, parseIp } from '../../../src/model/address'
import type { RuleTable } from '../../../src/model/kernel/tables'
import { EVERY_GROUP } from '../../../src/model/multicast'
import { groupMac } from '../../../src/plan/multicast/groups'
import { frameTable, wantedSets } from '../../../src/plan/multicast/rules'
import { Pending, waitFor } from '../../lab/wait'
import {
  existing,
  makeDevice,
  makeUnderlay,
  openKernel,
  removeDevice,
  removeUnderlay,
  reported,
  requireSandbox,
  run,
  show,
} from './network'

const BRIDGE = 'brg0'
let kernel: Kernel
let bridge: number

beforeAll(async () => {
  requireSandbox()
  makeUnderlay()
  run(`ip link add ${BRIDGE} type bridge`)
  run('ip link add port0 type veth peer name member0')
  run(`ip link set port0 master ${BRIDGE} up`)
  for (const name of [BRIDGE, 'member0']) run(`ip link set ${name} up`)
  kernel = await openKernel()
  bridge = show(`ip -j link show dev ${BRIDGE}`)[0]?.['ifindex'] as number
})

afterAll(() => {
  kernel.close()
  run('ip link delete port0')
  run(`ip link delete ${BRIDGE}`)
  removeUnderlay()
  expect(reported).toEqual([])
})

const address = (text: string): IpAddress => parseIp(text) ?? ipv4(0)

describe('the groups of a bridge', () => {
  let groups: MdbSocket
  let told: number[] = []

  beforeAll(async () => {
    groups = await MdbSocket.open(
      kernel,
      (index) => told.push(index),
      (error) => reported.push(error),
    )
  })
  afterAll(() => groups.close())

  const look = async () => (await groups.look([bridge, 9999]))[0]
  const known = async (): Promise<string[]> =>
    (await look())?.members.flatMap((each) => each.groups.map(formatIp)).sort() ?? []
  /** Waits for a notification, so that no poll is needed. */
  async function waitTold(): Promise<void> {
    await waitFor('a word of the bridge', () => told.includes(bridge) || new Pending(told.join()))
    told = []
  }

  test('what is put there by hand, for good or for a while, and taken away, is told and read', async () => {
    run(`bridge mdb add dev ${BRIDGE} port port0 grp 239.1.2.3 permanent`)
    run(`bridge mdb add dev ${BRIDGE} port port0 grp ff05::77 temp`)
    await waitTold()
    expect(await known()).toEqual(expect.arrayContaining(['239.1.2.3', 'ff05::77']))
    run(`bridge mdb del dev ${BRIDGE} port port0 grp ff05::77`)
    await waitTold()
    expect(await known()).not.toContain('ff05::77')
    run(`bridge mdb del dev ${BRIDGE} port port0 grp 239.1.2.3`)
    expect(await known()).not.toContain('239.1.2.3')
  })

  test('what the host joined, and what has only a MAC, does not count', async () => {
    run(`bridge mdb add dev ${BRIDGE} port ${BRIDGE} grp 239.7.7.7`)
    run(`bridge mdb add dev ${BRIDGE} port port0 grp 01:02:03:04:05:06 permanent`)
    const listed = run(`bridge mdb show dev ${BRIDGE}`)
    for (const there of ['239.7.7.7', '01:02:03:04:05:06']) expect(listed).toContain(there)
    expect(await known()).not.toContain('239.7.7.7')
    run(`bridge mdb del dev ${BRIDGE} port ${BRIDGE} grp 239.7.7.7`)
    run(`bridge mdb del dev ${BRIDGE} port port0 grp 01:02:03:04:05:06`)
  })

  test('thousands are read whole', async () => {
    const many = Array.from({ length: 1000 }, (_, n) => formatIp(ipv4(0xef100000 + n)))
    const batch = many.map((group) => `mdb add dev ${BRIDGE} port port0 grp ${group} permanent`)
    run('bridge -batch -', ...batch)
    expect(await known()).toEqual(expect.arrayContaining(many))
    run('bridge -batch -', ...batch.map((line) => line.replace('add', 'del').replace(' permanent', '')))
  })

  test('a querier is seen as it comes and goes, and how long members take to answer', async () => {
    expect((await look())?.bridge).toMatchObject({
      name: BRIDGE,
      // Linux asks twice, 31.24 s apart, and members have 10 s for an answer.
      snooping: { queriers: [], answeredWithin: 72_480 },
    })
    run(`ip link set ${BRIDGE} type bridge mcast_startup_query_interval 100 mcast_query_response_interval 50`)
    run(`ip link set ${BRIDGE} type bridge mcast_querier 1`)
    expect((await look())?.bridge.snooping).toEqual({ queriers: ['IPv4', 'IPv6'], answeredWithin: 2500 })
    run(`ip link set ${BRIDGE} type bridge mcast_querier 0`)
    expect((await look())?.bridge.snooping?.queriers).toEqual([])
    run(`ip link set ${BRIDGE} type bridge mcast_snooping 0`)
    expect((await look())?.bridge.snooping).toBeUndefined()
    run(`ip link set ${BRIDGE} type bridge mcast_snooping 1`)
  })

  test('a router behind a port is seen', async () => {
    const hasRouter = async () => (await look())?.members.some((each) => each.hasRouter)
    run('ip link set port0 type bridge_slave mcast_router 0')
    expect(await hasRouter()).toBe(false)
    run('ip link set port0 type bridge_slave mcast_router 2')
    await waitTold()
    expect(await hasRouter()).toBe(true)
    run('ip link set port0 type bridge_slave mcast_router 1')
  })
})

describe('sets', () => {
  let multicast: MulticastDevice
  const TABLE = 'fl-test'
  const ID = { family: 'netdev', name: TABLE } as const

  beforeAll(async () => {
    multicast = await MulticastDevice.open(
      kernel,
      () => TABLE,
      () => undefined,
      (error) => reported.push(error),
    )
  })
  afterAll(async () => {
    await multicast.tables.delete(ID)
    multicast.close()
  })

  const table = (groups4: readonly IpAddress[], groups6: readonly IpAddress[]): RuleTable =>
    frameTable(
      { name: 'port0', index: 1 },
      [],
      [{ name: BRIDGE, index: bridge, routerBefore: 1 }],
      undefined,
      {
        IPv4: { wanted: groups4 },
        IPv6: { wanted: groups6 },
      },
    )
  const write = (groups4: readonly IpAddress[], groups6: readonly IpAddress[]) =>
    multicast.tables.write({ ...table(groups4, groups6), name: TABLE })
  const shown = () => run(`nft list table netdev ${TABLE}`)
  const read = async () =>
    (await multicast.tables.readSets(ID, wantedSets()))?.map(({ addresses }) =>
      addresses.map(formatIp).sort(),
    )

  test('nft shows them and the rules that look into them as people write them', async () => {
    await write([address('239.1.2.3')], [address('ff05::77')])
    expect(shown()).toMatch(/set wanted4 \{\s+type ipv4_addr\s+elements = \{ 239\.1\.2\.3 \}/)
    expect(shown()).toMatch(/set wanted6 \{\s+type ipv6_addr\s+elements = \{ ff05::77 \}/)
    expect(shown()).toMatch(/ip protocol != igmp .* ip daddr @wanted4 dup to/)
    expect(shown()).toMatch(/ip6 daddr @wanted6 dup to/)
    expect(await read()).toEqual([['239.1.2.3'], ['ff05::77']])
  })

  test('they change by themselves, a table is replaced with them, and one that is gone is seen', async () => {
    const [four, six] = wantedSets()
    if (four === undefined || six === undefined) throw new Error('there are no sets')
    const set = (each: typeof four, ...groups: readonly string[]) => ({
      ...each,
      addresses: groups.map(address),
    })
    const rules = await multicast.tables.read(ID)
    await multicast.tables.changeSets(ID, 'add-addresses', [
      set(four, '239.1.2.4'),
      set(six, 'ff05::78', 'ff05::79'),
    ])
    await multicast.tables.changeSets(ID, 'delete-addresses', [set(four, '239.1.2.3'), set(six)])
    expect(await read()).toEqual([['239.1.2.4'], ['ff05::77', 'ff05::78', 'ff05::79']])
    expect(await multicast.tables.read(ID)).toEqual(rules)
    await write([], [])
    expect(await read()).toEqual([[], []])
    await multicast.tables.delete(ID)
    expect(await read()).toBeUndefined()
  })

  test('rules change in chains that stay', async () => {
    await write([], [])
    const chainsOf = () => run(`nft -a list table netdev ${TABLE}`).match(/chain .*handle \d+/g)
    const before = chainsOf()
    expect(before).toHaveLength(2)
    const { chains } = frameTable(
      { name: 'port0', index: 1 },
      [],
      [{ name: BRIDGE, index: bridge, routerBefore: 1 }],
    )
    await multicast.tables.replaceRules(ID, chains)
    expect(chainsOf()).toEqual(before)
    expect(shown()).not.toContain('@wanted')
    expect(shown().match(/dup to/g)).toHaveLength(3)
  })

  test('as many as there may be fit into one transaction', async () => {
    const many = Array.from({ length: 4096 }, (_, n) => address(`ff05::1:${n.toString(16)}`))
    await write([], many)
    expect((await read())?.[1]).toEqual(many.map(formatIp).sort())
    const { name, family } = wantedSets()[1] ?? { name: '', family: 'IPv6' }
    const half = { name, family, addresses: many.slice(0, 2048) }
    await multicast.tables.changeSets(ID, 'delete-addresses', [half])
    expect((await read())?.[1]).toHaveLength(2048)
  })
})

const openMulticast = (): Promise<MulticastDevice> =>
  MulticastDevice.open(
    kernel,
    () => 'none',
    () => undefined,
    (error) => reported.push(error),
  )

test('a MAC loses its whole list in one operation, and that it has none is no failure', async () => {
  const { index } = await makeDevice(kernel)
  const multicast = await openMulticast()
  try {
    const mac = groupMac(address('239.1.2.3'))
    const add = (to: typeof mac, text: string) =>
      ({
        kind: 'add-destination',
        link: index,
        destination: { mac: to, address: address(text), via: 0 },
      }) as const
    const all = { kind: 'delete-destinations', link: index, mac } as const
    const hosts = ['192.0.2.2', '192.0.2.3', '192.0.2.4']
    const operations = [add(EVERY_GROUP, '192.0.2.2'), ...hosts.map((host) => add(mac, host))]
    expect(await multicast.apply(operations)).toEqual([])
    expect(await multicast.destinations(index)).toHaveLength(4)
    expect(await multicast.apply([all, all])).toEqual([])
    expect(await multicast.destinations(index)).toEqual([
      { mac: EVERY_GROUP, address: address('192.0.2.2'), via: 0 },
    ])
  } finally {
    multicast.close()
    await removeDevice(kernel, (await existing(kernel, 'flannel.1')).name)
  }
})

test('destinations over a link that is gone are deleted, and all others stay', async () => {
  const { index } = await makeDevice(kernel)
  const multicast = await openMulticast()
  try {
    run('ip link add tunnel0 type veth peer name tunnel1')
    const via = show('ip -j link show dev tunnel0')[0]?.['ifindex'] as number
    const mac = groupMac(address('239.1.2.3'))
    const over = (to: typeof mac, text: string, link: number) => ({
      mac: to,
      address: address(text),
      via: link,
    })
    const lost = [over(mac, '192.0.2.2', via), over(EVERY_GROUP, '192.0.2.2', via)]
    const stay = [over(mac, '192.0.2.2', 0), over(mac, '192.0.2.3', 0), over(EVERY_GROUP, '192.0.2.4', 0)]
    const add = [...lost, ...stay].map(
      (destination) => ({ kind: 'add-destination', link: index, destination }) as const,
    )
    expect(await multicast.apply([...add, ...add])).toEqual([])
    expect(new Set(await multicast.destinations(index))).toEqual(new Set([...lost, ...stay]))
    run('ip link delete tunnel0')
    const remove = lost.map(
      (destination) => ({ kind: 'delete-destination', link: index, destination }) as const,
    )
    expect(await multicast.apply([...remove, ...remove])).toEqual([])
    expect(new Set(await multicast.destinations(index))).toEqual(new Set(stay))
  } finally {
    multicast.close()
    await removeDevice(kernel, (await existing(kernel, 'flannel.1')).name)
  }
})
