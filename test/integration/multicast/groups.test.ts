/**
 * Multicast of containers goes only to hosts whose containers have joined, if the bridges ask for members;
 * otherwise to all hosts.
 */
import { z } from 'zod'
import { type Container, ETCD_PREFIX, type Host, Lab } from '../../lab/lab'
import { patient } from '../../lab/patience'
import { Pending, waitFor } from '../../lab/wait'
import { doctor } from '../../support/doctor'
import {
  DEVICE,
  Listener,
  multicastConfig,
  onceEach,
  residue,
  sendTo,
  sourceOf,
  VNI,
} from '../../support/multicast'

jest.setTimeout(patient(120_000))

/** Groups, one for each kind of plan. */
const GROUPS = ['239.1.2.3', 'ff05::77'] as const
const NOBODYS = '239.66.66.66'
const LINK_LOCAL = ['224.0.0.251', 'ff02::fb'] as const
/**
 * A link-local group, which goes to all hosts. Packets from before the witness have arrived when the witness
 * arrives.
 */
const WITNESS = '224.0.0.99'

let lab: Lab
const listeners: Listener[] = []

/** The hosts that take part. */
const members = (): readonly Host[] => lab.hosts.slice(0, 3)
const container = (host: number): Container => {
  const [found] = lab.host(host).containers
  if (found === undefined) throw new Error(`host${host} has no container`)
  return found
}
async function listen(host: number, ...groups: readonly string[]): Promise<Listener> {
  const listener = await Listener.start(container(host), groups)
  listeners.push(listener)
  return listener
}

beforeAll(async () => {
  lab = await Lab.create({ hosts: 4, config: multicastConfig({ Multicast: true }) })
  // The hosts start in turn, because two hosts that choose at once may choose the same half of a subnet.
  for (const host of lab.hosts) {
    host.start(host === lab.host(4) ? { flags: { multicast: 'off' } } : {})
    await host.subnetEnv()
  }
  await lab.waitConverged()
  for (const host of lab.hosts) await host.addContainer()
  for (const host of members()) await countOnWire(host)
})
afterAll(async () => {
  for (const listener of listeners) await listener.stop()
  await lab.close()
})

/** Has a host's underlay count the encapsulated packets to each group. */
async function countOnWire(host: Host): Promise<void> {
  // From the UDP header on: 8 bytes of UDP, 8 bytes of VXLAN, 14 bytes of the inner Ethernet header, then the
  // address in the IP header.
  const inner = 8 * (8 + 8 + 14)
  const rules = [...GROUPS, ...LINK_LOCAL, NOBODYS, WITNESS].map((group) => {
    const six = group.includes(':')
    const [first = '', last = ''] = group.split('::')
    const value = six
      ? `${first}${last.padStart(32 - first.length, '0')}`
      : group
          .split('.')
          .map((byte) => Number(byte).toString(16).padStart(2, '0'))
          .join('')
    const at = six ? `@th,${inner + 24 * 8},128` : `@th,${inner + 16 * 8},32`
    return `udp dport 8472 @th,96,24 ${VNI} ${at} 0x${value} counter comment "${group}"`
  })
  const chain = ['type filter hook prerouting priority -400', ...rules].join('\n')
  await host.exec('nft', `table ip wire {\nchain in {\n${chain}\n}\n}`)
}

const ruleSchema = z.object({
  nftables: z.array(
    z.object({
      rule: z
        .object({
          comment: z.string(),
          expr: z.array(z.object({ counter: z.object({ packets: z.number() }).optional() })),
        })
        .optional(),
    }),
  ),
})

/** Number of encapsulated packets to a group that a host has received. */
async function onWire(host: Host, group: string): Promise<number> {
  const { nftables } = ruleSchema.parse(
    JSON.parse(await host.exec('nft', '-j', 'list', 'table', 'ip', 'wire')),
  )
  const rule = nftables.find((each) => each.rule?.comment === group)?.rule
  return rule?.expr.find(({ counter }) => counter)?.counter?.packets ?? Number.NaN
}

/** Number of packets of one sender to a group, with the last one. */
const COUNT = 20
let words = 0

/**
 * A container sends. Exactly the given hosts get each packet once on the wire, and each listening container
 * gets each packet once.
 * @param on the hosts that get encapsulated packets
 * @param heardBy the listeners that hear it
 */
async function expectSent(from: number, group: string, on: readonly number[], heardBy: readonly Listener[]) {
  const before = await Promise.all(members().map((host) => onWire(host, group)))
  words += 1
  const word = `word${words}`
  await sendTo(group, container(from), word, { count: COUNT })
  const source = await sourceOf(container(from), group)
  for (const listener of heardBy) {
    await listener.waitForEnd(word)
    expect(listener.countOf(word)).toEqual(onceEach(group, source, word, COUNT))
  }
  await passWitness(from, word)
  const after = await Promise.all(members().map((host) => onWire(host, group)))
  const got = after.map((count, n) => count - (before[n] ?? 0))
  expect(got).toEqual([1, 2, 3].map((host) => (on.includes(host) ? COUNT + 1 : 0)))
}

async function passWitness(from: number, word: string): Promise<void> {
  const others = members().filter((host) => host !== lab.host(from))
  const counts = () => Promise.all(others.map((host) => onWire(host, WITNESS)))
  const before = await counts()
  await sendTo(WITNESS, container(from), `${word}-witness`, { count: 0 })
  await waitFor('the witness', async () => {
    const now = await counts()
    return now.every((count, n) => count > (before[n] ?? 0)) || new Pending(now.join())
  })
}

/** Makes the bridge ask for members, who answer within seconds. */
const ask = (host: Host) =>
  host.exec(
    ...(['ip', 'link', 'set', 'docker0', 'type', 'bridge'] as const),
    ...['mcast_startup_query_interval', '100', 'mcast_query_response_interval', '20'],
    ...['mcast_querier', '1'],
  )

const told = async (): Promise<Record<string, string>> =>
  lab.client.getAll().prefix(`${ETCD_PREFIX}/overlay/`).strings()

const waitForModes = (host: Host, mode: string, timeoutMs = 15_000) =>
  host.waitForStatus(
    `all is sent ${mode}`,
    ({ multicast }) =>
      multicast?.families?.every((each) => each.mode === mode) === true && multicast.hosts === 2,
    timeoutMs,
  )

async function waitForGroups(host: Host, elsewhere: number): Promise<void> {
  await host.waitForStatus(
    `${elsewhere} groups elsewhere`,
    ({ multicast }) => multicast?.groups?.elsewhere === elsewhere,
  )
}

/** Waits until so many hosts are on the list of a MAC. */
const waitForList = (host: Host, mac: string, hosts: number) =>
  host.waitUntil(`${hosts} on the list of ${mac}`, async () => {
    const table = await host.exec('bridge', 'fdb', 'show', 'dev', DEVICE)
    return table.split('\n').filter((line) => line.startsWith(mac)).length === hosts
  })

const keyOf = async (host: Host): Promise<string> => {
  const { lease } = await host.waitForStatus('a lease', (each) => each.lease !== undefined)
  const name = [lease?.subnet, lease?.ipv6Subnet].map((each = '') => each.replace('/', '-')).join('&')
  return `${ETCD_PREFIX}/overlay/groups/${name}`
}

test('without queriers all get everything, nothing is told, and it is said why', async () => {
  for (const host of members()) await waitForModes(host, 'partly')
  expect(await told()).toEqual({})
  const listener = await listen(2, ...GROUPS)
  for (const group of GROUPS) await expectSent(1, group, [2, 3], [listener])
  await listener.stop()
  const status = await lab.host(1).overlayctl('status')
  expect(status.stdout.replace(/\s+/g, ' ')).toContain(
    'IPv4: sent to all (no other host announces the IPv4 groups that it wants), except announced groups; everything comes in (docker0 has no IPv4 querier)',
  )
})

test('with queriers hosts tell what they want, in a key each that ends with its host', async () => {
  for (const host of members()) await ask(host)
  for (const host of members()) await waitForModes(host, 'selective')
  const keys = await told()
  expect(Object.keys(keys).sort()).toEqual((await Promise.all(members().map(keyOf))).sort())
  for (const value of Object.values(keys)) {
    expect(JSON.parse(value)).toEqual({ vni: VNI, families: ['IPv4', 'IPv6'], groups: expect.any(Array) })
  }
  const { kvs } = await lab.client.get(await keyOf(lab.host(1))).exec()
  const { TTL } = await lab.client.leaseClient.leaseTimeToLive({ ID: kvs[0]?.lease ?? '0' })
  expect(Number(TTL)).toBeLessThanOrEqual(30)
  const { checks } = await doctor(lab, lab.host(1), '--only=multicast')
  // All hosts, except the host that takes no part.
  expect(checks[0]?.findings.map(({ code }) => code)).toEqual(['multicast-peers'])
})

test('what nobody has joined does not leave its host, and what is joined later comes at once', async () => {
  for (const group of [...GROUPS, NOBODYS]) await expectSent(1, group, [], [])
  const listener = await listen(2, ...GROUPS)
  for (const number of [1, 3]) await waitForGroups(lab.host(number), 2)
  for (const group of GROUPS) await expectSent(1, group, [2], [listener])
  for (const group of GROUPS) await expectSent(3, group, [2], [listener])
  await expectSent(1, NOBODYS, [], [])
})

test('all that joined hear each packet once, from two hosts and in the sender’s own', async () => {
  const third = await listen(3, ...GROUPS)
  for (const group of ['01:00:5e:01:02:03', '33:33:00:00:00:77']) await waitForList(lab.host(1), group, 2)
  const [second] = listeners.filter((each) => each.container === container(2)).slice(-1)
  if (second === undefined) throw new Error('nobody listens on host 2')
  for (const group of GROUPS) await expectSent(1, group, [2, 3], [second, third])
  await third.stop()
  for (const group of ['01:00:5e:01:02:03', '33:33:00:00:00:77']) await waitForList(lab.host(1), group, 1)
  for (const group of GROUPS) await expectSent(1, group, [2], [second])
})

test('a member has no loss and no duplicate while others join, leave and stop announcing', async () => {
  const listener = await listen(2, '239.1.2.4')
  await waitForGroups(lab.host(1), 3)
  const count = 3000
  const sending = sendTo('239.1.2.4', container(1), 'meanwhile', { count, intervalMs: 2 })
  const three = lab.host(3)
  const other = await listen(3, '239.1.2.4')
  await waitForList(lab.host(1), '01:00:5e:01:02:04', 2)
  await three.exec('ip', 'link', 'set', 'docker0', 'type', 'bridge', 'mcast_querier', '0')
  await waitForModes(lab.host(1), 'partly')
  await other.stop()
  await ask(three)
  await waitForModes(lab.host(1), 'selective')
  await sending
  await listener.waitForEnd('meanwhile')
  expect(listener.countOf('meanwhile')).toEqual(
    onceEach('239.1.2.4', container(1).address, 'meanwhile', count),
  )
  await listener.stop()
  await waitForGroups(lab.host(1), 2)
})

test('groups of the link go to all, joined or not', async () => {
  const listener = await listen(3, ...LINK_LOCAL)
  for (const group of LINK_LOCAL) await expectSent(1, group, [2, 3], [listener])
  await listener.stop()
})

test('a host without a querier gets everything from then on, and it is named with its key gone', async () => {
  const three = lab.host(3)
  await three.exec('ip', 'link', 'set', 'docker0', 'type', 'bridge', 'mcast_querier', '0')
  await waitFor(
    'its key to go',
    async () => !((await keyOf(three)) in (await told())) || new Pending('it is there'),
  )
  await waitForModes(lab.host(1), 'partly')
  await expectSent(1, GROUPS[0], [2, 3], [])
  await expectSent(1, NOBODYS, [2, 3], [])
  const { checks } = await doctor(lab, three, '--only=multicast')
  expect(checks[0]?.findings.map(({ code }) => code)).toContain('multicast-querier')
  await ask(three)
  await waitForModes(lab.host(1), 'selective')
  await expectSent(1, GROUPS[0], [2], [])
})

test('a key that cannot be read costs its host nothing and no other anything, and is named', async () => {
  const key = await keyOf(lab.host(3))
  // The host of the key would overwrite the value.
  lab.host(3).daemon.signal('SIGSTOP')
  await lab.client.put(key).value('{"vni":')
  const status = await lab
    .host(1)
    .waitForStatus(
      'the bad key',
      ({ multicast, etcd }) => multicast?.unreadable !== undefined && etcd.connected,
    )
  expect(status.multicast?.unreadable).toEqual([
    { key: key.split('/').at(-1), reason: expect.stringContaining('not JSON') },
  ])
  expect(status.problems).toEqual([])
  await waitForModes(lab.host(1), 'partly')
  await expectSent(1, GROUPS[0], [2, 3], [])
  const { checks } = await doctor(lab, lab.host(1), '--only=multicast')
  expect(checks[0]?.findings.map(({ code }) => code)).toContain('multicast-keys')
  lab.host(3).daemon.signal('SIGCONT')
  // A host writes its groups at most ten times a minute, and those before may have been so many.
  await waitForModes(lab.host(1), 'selective', 70_000)
  await expectSent(1, GROUPS[0], [2], [])
})

test('what strangers undo is put right, and the doctor sees it while nobody does', async () => {
  const host = lab.host(1)
  const rules = () => host.exec('nft', '-s', 'list', 'table', 'netdev', DEVICE)
  const lists = async () =>
    (await host.exec('bridge', 'fdb', 'show', 'dev', DEVICE)).trim().split('\n').sort().join('\n')
  const [whole, wholeLists] = [await rules(), await lists()]
  expect(whole).toMatch(/elements = \{ 239\.1\.2\.3 \}/)
  const spoil = async () => {
    await host.exec('nft', 'flush', 'set', 'netdev', DEVICE, 'wanted4')
    await host.exec('bridge', 'fdb', 'append', '33:33:00:00:00:77', 'dev', DEVICE, 'dst', lab.host(3).address)
    await host.exec('bridge', 'fdb', 'del', '33:33:00:00:00:77', 'dev', DEVICE, 'dst', lab.host(2).address)
  }
  await spoil()
  await host.waitUntil(
    'it is put right',
    async () => (await rules()) === whole && (await lists()) === wholeLists,
  )
  host.daemon.signal('SIGSTOP')
  await spoil()
  const { checks } = await doctor(lab, host, '--only=multicast')
  const finding = checks[0]?.findings.find(({ code }) => code === 'multicast-groups')
  expect(finding?.evidence).toEqual(
    expect.arrayContaining([
      `frames to 33:33:00:00:00:77 are not sent to ${lab.host(2).address}`,
      '239.1.2.3 does not leave',
    ]),
  )
  host.daemon.signal('SIGCONT')
  await host.waitUntil(
    'it is put right',
    async () => (await rules()) === whole && (await lists()) === wholeLists,
  )
})

test('a daemon that starts again finds what it has written, and writes nothing', async () => {
  const host = lab.host(1)
  const rules = () => host.exec('nft', '-a', 'list', 'table', 'netdev', DEVICE)
  const restarted = async () => {
    const before = await rules()
    expect(before).toContain('@wanted4')
    await host.restart()
    await waitForModes(host, 'selective')
    return { before, after: await rules() }
  }
  // A start without an answer of etcd in time knows no groups, and writes its rules without them.
  const { before, after } = await waitFor('a start with etcd', async () => {
    const seen = await restarted()
    const isAlone = host.daemon.output.includes('etcd has not answered for')
    return isAlone ? new Pending(host.daemon.tail()) : seen
  })
  expect(after).toBe(before)
  await waitForModes(lab.host(2), 'selective')
})

test('a daemon that is killed says nothing soon, and its host gets everything', async () => {
  const key = await keyOf(lab.host(3))
  await lab.host(3).stop('SIGKILL')
  // Nothing changes until the announcement has ended, which on a slow machine may be before the look.
  await expectSent(1, GROUPS[0], [2], []).catch(async (failure: unknown) => {
    if (key in (await told())) throw failure
  })
  await waitForModes(lab.host(1), 'partly', 60_000)
  const listener = await listen(3, ...GROUPS)
  for (const group of GROUPS) await expectSent(1, group, [2, 3], [listener])
  lab.host(3).start()
  await waitForModes(lab.host(1), 'selective')
  for (const group of GROUPS) await expectSent(1, group, [2, 3], [listener])
  await listener.stop()
})

test('with etcd away for long all get everything, so that what is joined meanwhile is heard', async () => {
  await waitForGroups(lab.host(1), 2)
  lab.etcd.pause()
  const status = await lab
    .host(1)
    .waitForStatus(
      'flooding',
      ({ multicast }) => multicast?.families?.every(({ mode }) => mode === 'flooding') === true,
      80_000,
    )
  expect(status.multicast?.families?.[0]?.why).toBe('etcd has not answered for 30 s')
  const listener = await listen(3, ...GROUPS)
  for (const group of GROUPS) await expectSent(1, group, [2, 3], [listener])
  lab.etcd.resume()
  await waitForModes(lab.host(1), 'selective', 40_000)
  for (const group of GROUPS) await expectSent(1, group, [2, 3], [listener])
  const events = await lab.host(1).overlayctl('events', '--kind=multicast-flooding,multicast-selective')
  expect(events.stdout).toContain('etcd has not answered for 30 s')
  await listener.stop()
})

test('metrics tell it', async () => {
  const text = await lab.host(1).metrics()
  if (text instanceof Pending) throw new Error(`no metrics: ${text.seen}`)
  expect(text).toMatch(/^overlayd_multicast_hosts 2$/m)
  expect(text).toMatch(/^overlayd_multicast_flooding\{family="IPv6"\} 0$/m)
  expect(text).toMatch(/^overlayd_multicast_groups\{where="elsewhere"\} \d+$/m)
  expect(text).toMatch(/^overlayd_multicast_packets_total\{direction="sent"\} [1-9]\d*$/m)
})

test('switched off it leaves no key behind', async () => {
  await lab.putConfig(multicastConfig())
  await waitFor('no key', async () => Object.keys(await told()).length === 0 || new Pending('there are some'))
  for (const host of members()) {
    await host.waitUntil('nothing is left', async () => {
      const { device, table, router } = await residue(host)
      return !device && !table && router === 1
    })
  }
})
