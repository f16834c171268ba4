/**
 * Multicast of containers crosses hosts in the kernel: exactly once, with the container's source address, and
 * only to hosts that want multicast.
 */
import { isDeepStrictEqual } from 'node:util'
import {
  addressAfter,
  formatIp,
  formatPrefix,
  type Prefix,
  parseIpv4Prefix,
} from '../../../src/model/address'
import { type Container, ETCD_PREFIX, type Host, Lab } from '../../lab/lab'
import { fakePeer, leaseKey, leaseValue } from '../../lab/leases'
import { execOk, inNamespace, ipBatch } from '../../lab/namespace'
import { patient } from '../../lab/patience'
import { run } from '../../lab/process'
import { Pending, waitFor } from '../../lab/wait'
import { codesOf, doctor } from '../../support/doctor'
import { assertReadable } from '../../support/flannel-reader'
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

jest.setTimeout(patient(60_000))

const GROUPS = ['239.1.2.3', '224.0.0.251', 'ff02::fb', 'ff05::77']

let lab: Lab
let listeners: Listener[] = []

/** With a range from which hosts take further subnets. */
const further = (config: string): string =>
  JSON.stringify({ ...JSON.parse(config), Prefixes: { Allowed: ['10.5.240.0/24'] } })

function prefixOf(text: string): Prefix {
  const prefix = parseIpv4Prefix(text)
  if (prefix === undefined) throw new Error(`${text} is no prefix`)
  return prefix
}

/** The hosts that take part. */
const members = (): readonly Host[] => lab.hosts.slice(0, 3)
const container = (host: number, number = 1): Container => {
  const found = lab.host(host).containers[number - 1]
  if (found === undefined) throw new Error(`host${host} has no container ${number}`)
  return found
}

beforeAll(async () => {
  lab = await Lab.create({ hosts: 4, config: multicastConfig() })
  for (const host of members()) host.start()
  lab.host(4).start({ flags: { multicast: 'off' } })
  await lab.waitConverged()
  await lab.putPeers(fakePeer(0))
  for (const host of lab.hosts) await host.addContainer()
  for (const host of [lab.host(1), lab.host(2)]) await host.addContainer()
  // Until then a link-local address cannot be a source.
  for (const { containers } of lab.hosts)
    for (const { namespace } of containers) await settleAddresses(namespace)
})

const settleAddresses = (namespace: string): Promise<unknown> =>
  waitFor(`addresses in ${namespace} that nobody else has`, async () => {
    return (
      (await execOk(namespace, ['ip', '-6', 'address', 'show', 'tentative'])) === '' ||
      new Pending('tentative')
    )
  })
afterAll(async () => {
  for (const listener of listeners) await listener.stop()
  await lab.close()
})

const NOTHING = { device: false, table: false, router: 1, qdisc: false }
const ALL = { device: true, table: true, router: 2, qdisc: false }

async function waitForHosts(count: number): Promise<void> {
  for (const host of members()) {
    await host.waitForStatus('multicast', ({ multicast, problems }) => {
      return multicast?.hosts === count && multicast.bridges.length === 1 && problems.length === 0
    })
  }
}

const rules = (host: Host): Promise<string> => host.exec('nft', '-s', 'list', 'table', 'netdev', DEVICE)

const destinations = async (host: Host): Promise<string[]> =>
  (await host.exec('bridge', 'fdb', 'show', 'dev', DEVICE)).trim().split('\n').sort()

/** Number of copies that the device of a host has sent. */
async function sent(host: Host): Promise<number> {
  const status = await host.status()
  if (!('multicast' in status)) throw new Error('no multicast in the status')
  return status.multicast?.sent?.packets ?? 0
}

/** Two containers of different hosts send at once, and every other listener hears each packet once. */
async function expectExactlyOnce(group: string, text: string): Promise<void> {
  const senders = [container(1), container(2, 2)]
  const wordOf = (sender: Container): string => `${text}-${group}-${sender.name}`
  await Promise.all(senders.map((sender) => sendTo(group, sender, wordOf(sender))))
  for (const sender of senders) {
    const word = wordOf(sender)
    const source = await sourceOf(sender, group)
    for (const listener of listeners) {
      if (listener.container === sender || listener.container === container(4)) continue
      await listener.waitForEnd(word)
      expect(listener.countOf(word)).toEqual(onceEach(group, source, word))
    }
  }
}

test('it is off by default, and switched on while hosts run without a lost packet', async () => {
  for (const host of lab.hosts) expect(await residue(host)).toEqual(NOTHING)
  const ping = await lab.startPing(container(1), container(2), 5)
  await lab.putConfig(multicastConfig({ Multicast: true }))
  await waitForHosts(2)
  expect(await ping.stop()).toMatchObject({ lost: 0 })
  const [, two, three] = lab.hosts.map(({ address }) => address)
  // No copy goes to the excluded host, and none to the host whose lease does not announce multicast.
  expect(await destinations(lab.host(1))).toEqual([
    `00:00:00:00:00:00 dst ${two} self permanent`,
    `00:00:00:00:00:00 dst ${three} self permanent`,
  ])
  expect(await residue(lab.host(4))).toEqual(NOTHING)
  const leases = await lab.client.getAll().prefix(leaseKey(ETCD_PREFIX, '')).strings()
  for (const [key, value] of Object.entries(leases)) assertReadable(key, value)
  const announced = Object.values(leases).filter((value) => value.includes(`"MulticastVNI":${VNI}`))
  expect(announced).toHaveLength(3)
})

test('the status and the doctor say how it stands', async () => {
  const host = lab.host(1)
  const { checks } = await doctor(lab, host, '--only=multicast')
  expect(checks).toMatchObject([
    {
      name: 'multicast',
      state: 'warn',
      findings: [{ code: 'multicast-querier' }, { code: 'multicast-peers' }],
    },
  ])
  // The excluded host, and the host that does not exist.
  expect(checks[0]?.findings[1]?.what).toBe('2 of 4 other hosts take no part in multicast')
  const status = await host.overlayctl('status')
  expect(status.stdout).toMatch(
    /^mcast {4}fl-mc\.1, VNI 8388609, docker0, to 2 hosts; \d+ packets in, \d+ copies out$/m,
  )
})

test('all that joined hear every packet once, from its own source, with two senders at once', async () => {
  const all = lab.hosts.flatMap(({ containers }) => containers)
  listeners = await Promise.all(all.map((each) => Listener.start(each, GROUPS)))
  for (const group of GROUPS) await expectExactlyOnce(group, 'first')
  const outsider = listeners.find((listener) => listener.container === container(4))
  expect(outsider?.received).toEqual([])
})

test('with a querier on the bridge too', async () => {
  const query = async (on: '1' | '0') => {
    for (const host of members())
      await host.exec('ip', 'link', 'set', 'dev', 'docker0', 'type', 'bridge', 'mcast_querier', on)
  }
  await query('1')
  try {
    for (const group of GROUPS) await expectExactlyOnce(group, 'queried')
  } finally {
    // After 72.5 s of a querier, hosts announce their groups, and packets go to few: groups.test.ts.
    await query('0')
  }
})

/** Adds a container on a bridge of its own, with the last two addresses of a prefix. */
async function addOnBridge(host: Host, bridge: string, { address, length }: Prefix): Promise<Container> {
  const { mtu } = await host.subnetEnv()
  const namespace = `multicast-${bridge}`
  const at = (step: bigint): string => formatIp(addressAfter(address, step))
  await ipBatch(undefined, [`netns add ${namespace}`])
  await ipBatch(host.namespace, [
    `link add ${bridge} mtu ${mtu} type bridge`,
    `address add ${at(1n)}/${length} dev ${bridge}`,
    `link set ${bridge} up`,
    `link add veth-${bridge} mtu ${mtu} type veth peer name eth0 mtu ${mtu} netns ${namespace}`,
    `link set veth-${bridge} master ${bridge} up`,
  ])
  await ipBatch(namespace, [
    'link set lo up',
    `address add ${at(2n)}/${length} dev eth0`,
    'link set eth0 up',
    `route add default via ${at(1n)}`,
  ])
  return { name: namespace, namespace, address: at(2n), address6: undefined }
}

async function removeBridge(host: Host, bridge: string): Promise<void> {
  // The pair first: with a namespace that is deleted it ends later, and its name is in use until then.
  await host.exec('ip', 'link', 'delete', `veth-${bridge}`)
  await run(['ip', 'netns', 'delete', `multicast-${bridge}`])
  await host.exec('ip', 'link', 'delete', bridge)
}

/** A container of host 1 and one of host 2 exchange packets with one on another bridge of host 3. */
async function expectBothWays(member: Container, name: string): Promise<void> {
  const listener = await Listener.start(member, ['239.1.2.3'])
  try {
    await sendTo('239.1.2.3', container(1), `to-${name}`)
    await listener.waitForEnd(`to-${name}`)
    const source = container(1).address
    expect(listener.countOf(`to-${name}`)).toEqual(onceEach('239.1.2.3', source, `to-${name}`))
    await sendTo('239.1.2.3', member, `from-${name}`)
    const other = listeners.find((each) => each.container === container(2))
    await other?.waitForEnd(`from-${name}`)
    expect(other?.countOf(`from-${name}`)).toEqual(onceEach('239.1.2.3', member.address, `from-${name}`))
  } finally {
    await listener.stop()
  }
}

const bridgesAre = (host: Host, names: string): Promise<unknown> =>
  host.waitForStatus(names, ({ multicast }) => multicast?.bridges.join() === names)

test('every bridge with a part of the subnet takes part', async () => {
  const host = lab.host(3)
  const { subnet } = await host.subnetEnv()
  try {
    const member = await addOnBridge(host, 'br-web', prefixOf(subnet.replace(/\d+\/\d+$/, '192/26')))
    await bridgesAre(host, 'docker0,br-web')
    await expectBothWays(member, 'web')
  } finally {
    await removeBridge(host, 'br-web')
  }
  await bridgesAre(host, 'docker0')
})

test('a bridge of a further subnet takes part, for as long as the host has that subnet', async () => {
  const host = lab.host(3)
  await lab.putConfig(further(multicastConfig({ Multicast: true })))
  await host.waitUntil('a further subnet', async () => {
    return (await host.overlayctl('lease', 'add', '--length=26')).code === 0
  })
  const { lease } = await host.waitForStatus('the block', (status) => status.lease?.further !== undefined)
  const block = prefixOf(lease?.further?.[0] ?? '')
  try {
    const member = await addOnBridge(host, 'br-more', block)
    await bridgesAre(host, 'docker0,br-more')
    await expectBothWays(member, 'more')
    expect(codesOf(await doctor(lab, host, '--only=bridge,overlap'))).toEqual([])
    const { checks } = await doctor(lab, host, '--only=multicast')
    expect(checks.map(({ summary }) => summary).join()).toContain('sends from docker0 and br-more to')
    await removeBridge(host, 'br-more')
    await addOnBridge(host, 'br-more', block)
    await bridgesAre(host, 'docker0,br-more')
    // The range is taken away, so that no host routes the block any more.
    await lab.putConfig(multicastConfig({ Multicast: true }))
    await bridgesAre(host, 'docker0')
  } finally {
    await removeBridge(host, 'br-more')
    await host.overlayctl('lease', 'remove', formatPrefix(block))
  }
})

test('what concerns a link alone stays there: IGMP, MLD, neighbour discovery, broadcast', async () => {
  const before = await sent(lab.host(1))
  const { namespace, address } = container(1)
  const listener = await Listener.start(container(1), ['239.9.9.9', 'ff05::99'], 5001)
  await listener.stop()
  await run(inNamespace(namespace, ['ping', '-c', '1', '-W', '1', 'fd00:5::dead']))
  await run(inNamespace(namespace, ['ping', '-b', '-c', '1', '-W', '1', address.replace(/\d+$/, '255')]))
  await run(inNamespace(namespace, ['ping', '-c', '1', '-W', '1', address.replace(/\d+$/, '77')]))
  expect(await sent(lab.host(1))).toBe(before)
  // This witness shows that the packet would have been counted.
  await sendTo('239.1.2.3', container(1), 'witness', { count: 0 })
  await lab.host(1).waitUntil('a copy to each host', async () => (await sent(lab.host(1))) === before + 2)
})

test('a deleted, remade or renamed bridge is followed, and changes of others are put right', async () => {
  const host = lab.host(1)
  const { subnet, ipv6Subnet } = await host.subnetEnv()
  const make = (name: string) =>
    ipBatch(host.namespace, [
      'link delete docker0',
      `link add ${name} mtu 1430 type bridge`,
      `address add ${subnet} dev ${name}`,
      `address add ${ipv6Subnet} dev ${name} nodad`,
      `link set ${name} up`,
      `link set veth1 master ${name}`,
      `link set veth2 master ${name}`,
    ])
  await make('cni0')
  await host.waitForStatus('the new bridge', ({ multicast }) => multicast?.bridges.join() === 'cni0')
  await host.exec('ip', 'link', 'set', 'cni0', 'down')
  await ipBatch(host.namespace, ['link set cni0 name docker0', 'link set docker0 up'])
  await host.waitForStatus('its new name', ({ multicast }) => multicast?.bridges.join() === 'docker0')
  await host.waitUntil('all of it', async () => isDeepStrictEqual(await residue(host), ALL))
  const whole = await rules(host)
  await host.exec('nft', 'flush', 'ruleset')
  await host.exec('ip', 'link', 'set', 'dev', 'docker0', 'type', 'bridge', 'mcast_router', '1')
  await host.exec('bridge', 'fdb', 'delete', '00:00:00:00:00:00', 'dev', DEVICE, 'dst', lab.host(2).address)
  await host.waitUntil('it is put right', async () => {
    return isDeepStrictEqual(await residue(host), ALL) && (await destinations(host)).length === 2
  })
  expect(await rules(host)).toBe(whole)
  await host.exec('nft', 'flush', 'chain', 'netdev', DEVICE, 'in')
  await host.waitUntil('it is put right again', async () => (await rules(host)) === whole)
  await host.exec('ip', 'link', 'delete', DEVICE)
  await host.waitUntil('the device is there again', async () => (await residue(host)).device)
  await host.waitUntil('it sends', async () => (await destinations(host)).length === 2)
  await waitForHosts(2)
  for (const group of GROUPS) await expectExactlyOnce(group, 'again')
})

test('daemons that end and start again lose and double nothing, be it without etcd', async () => {
  const count = 1000
  const sending = sendTo('239.1.2.3', container(1), 'meanwhile', { count, intervalMs: 5 })
  await lab.host(1).restart()
  await lab.host(1).waitForStatus('multicast', ({ multicast }) => multicast?.hosts === 2)
  lab.etcd.pause()
  await lab.host(2).restart('SIGKILL')
  await lab.host(2).waitForStatus('what was known', ({ multicast, stateFile }) => {
    return stateFile?.inUse === true && multicast?.hosts === 2
  })
  lab.etcd.resume()
  await sending
  for (const listener of listeners) {
    if (listener.container === container(1) || listener.container === container(4)) continue
    await listener.waitForEnd('meanwhile')
    expect(listener.countOf('meanwhile')).toEqual(
      onceEach('239.1.2.3', container(1).address, 'meanwhile', count),
    )
  }
  for (const host of members()) expect(await residue(host)).toEqual(ALL)
})

test.each(['SIGTERM', 'SIGKILL'] as const)(
  'ended by %s and started again, it writes nothing',
  async (signal) => {
    const host = lab.host(1)
    const before = await rules(host)
    const monitors = await Promise.all([lab.monitor(host), lab.monitor(host, 'nftables')])
    await host.restart(signal)
    await host.waitForStatus('all of it', ({ multicast, convergence, problems }) => {
      return multicast?.hosts === 2 && convergence.converged && problems.length === 0
    })
    for (const monitor of monitors) expect(await monitor.changes()).toEqual([])
    expect(await rules(host)).toBe(before)
    // This witness shows that the packet would have been seen.
    await host.exec('nft', 'add', 'rule', 'netdev', DEVICE, 'in', 'counter')
    const [, tables] = monitors
    await host.waitUntil('it is put right', async () => (await rules(host)) === before)
    expect((await tables?.changes())?.join('\n')).toMatch(
      /^add rule .*counter[\s\S]*^delete rule netdev fl-mc\.1 in handle \d+$/m,
    )
  },
)

test.each([
  'add rule netdev TABLE in drop',
  'insert rule netdev TABLE out-1-docker0 accept',
  'delete rule netdev TABLE in handle FIRST',
  'replace rule netdev TABLE in handle FIRST accept',
  'flush chain netdev TABLE in',
  'delete table netdev TABLE',
  'add table netdev TABLE { flags dormant; }',
  'add chain netdev TABLE in { policy accept; }',
  'add chain netdev TABLE another',
])('what strangers changed while it was down is put right at its start: %s', async (change) => {
  const host = lab.host(1)
  const before = await rules(host)
  await host.stop()
  const chain = await host.exec('nft', '-a', 'list', 'chain', 'netdev', DEVICE, 'in')
  const first = /(?<=fwd to .*handle )\d+/.exec(chain)?.[0] ?? ''
  await host.exec('nft', change.replace('TABLE', DEVICE).replace('FIRST', first))
  // Only the table has the value from before the daemon.
  await host.exec('ip', 'link', 'set', 'dev', 'docker0', 'type', 'bridge', 'mcast_router', '1')
  const now = (): Promise<string> => rules(host).catch(() => '')
  expect(await now()).not.toBe(before)
  host.start()
  await host.waitUntil('it is put right', async () => (await now()) === before)
  await host.waitUntil('all of it', async () => isDeepStrictEqual(await residue(host), ALL))
  await waitForHosts(2)
})

test('with another VNI too; one that is taken on a host keeps only that one out, and says so', async () => {
  await lab
    .host(3)
    .exec(...(['ip', 'link', 'add', 'other', 'type', 'vxlan', 'id', '99'] as const), 'dstport', '8472')
  await lab.putConfig(multicastConfig({ Multicast: true, MulticastVNI: 99 }))
  await lab.host(3).waitForStatus('the problem', ({ problems }) => {
    return problems.some((each) => /multicast: .*other already uses VNI 99/.test(each))
  })
  expect(await lab.ping(container(1), container(3), { count: 3 })).toMatchObject({ received: 3 })
  await lab.host(3).exec('ip', 'link', 'delete', 'other')
  await waitForHosts(2)
  await expectExactlyOnce('239.1.2.3', 'other')
  await lab.putConfig(multicastConfig({ Multicast: true }))
  for (const host of members()) {
    await host.waitForStatus(
      'the first VNI',
      ({ multicast }) => multicast?.vni === VNI && multicast.hosts === 2,
    )
  }
})

test('with a limit no more than that leaves, and the containers of the host itself hear all', async () => {
  const host = lab.host(1)
  const limit = 50
  const set = (backend: object) => host.overlayctl('config', 'set', '--yes', multicastConfig(backend))
  expect(await set({ Multicast: true, MulticastLimit: 0 })).toMatchObject({
    code: 1,
    stderr: expect.stringContaining('MulticastLimit: Too small'),
  })
  expect(await set({ Multicast: true, MulticastLimit: limit })).toMatchObject({ code: 0 })
  for (const member of members()) {
    await member.waitForStatus(
      'the limit',
      ({ multicast }) => multicast?.limit === limit && multicast.hosts === 2,
    )
  }
  const before = await sent(host)
  const count = 1000
  const since = performance.now()
  await sendTo('239.1.2.3', container(1), 'limited', { count, intervalMs: 1 })
  const seconds = (performance.now() - since) / 1000
  let passed = 0
  await host.waitForStatus('every packet to be counted', ({ multicast }) => {
    passed = ((multicast?.sent?.packets ?? 0) - before) / 2
    return passed + (multicast?.overLimit ?? 0) === count + 1
  })
  expect(passed).toBeGreaterThanOrEqual(limit)
  // The limit allows the packets of one second at once, and the packets of the time meanwhile. Both ends
  // count.
  expect(passed).toBeLessThanOrEqual(limit + limit * seconds + 1)
  const [local, remote] = [container(1, 2), container(3)].map((each) => {
    return listeners.find((listener) => listener.container === each)
  })
  await local?.waitForEnd('limited')
  expect(local?.countOf('limited')).toEqual(onceEach('239.1.2.3', container(1).address, 'limited', count))
  const heard = () => Object.values(remote?.countOf('limited') ?? {})
  await host.waitUntil('what passed to be heard elsewhere', async () => heard().length === passed)
  expect(new Set(heard())).toEqual(new Set([1]))
  const shown = await host.overlayctl('status')
  expect(shown.stdout).toContain(`, to 2 hosts, at most 50 packets/s (${count + 1 - passed} were over it); `)
  expect(await set({ Multicast: true })).toMatchObject({ code: 0 })
  for (const member of members()) {
    await member.waitForStatus(
      'no limit',
      ({ multicast }) => multicast?.hosts === 2 && multicast.limit === undefined,
    )
  }
  await sendTo('239.1.2.3', container(1), 'unlimited', { count, intervalMs: 1 })
  await remote?.waitForEnd('unlimited')
  expect(remote?.countOf('unlimited')).toEqual(
    onceEach('239.1.2.3', container(1).address, 'unlimited', count),
  )
})

test('a peer gets nothing for as long as its subnet covers an address of this host', async () => {
  const host = lab.host(1)
  const peer = fakePeer(1)
  const key = leaseKey(ETCD_PREFIX, peer.subnet)
  await lab.client.put(key).value(leaseValue(peer).replace('"VNI":1', `"VNI":1,"MulticastVNI":${VNI}`))
  await waitForHosts(3)
  const covered = `address ${peer.subnet.replace('.0-24', '.77/32')} dev eth0`
  const route = fakePeer(0).subnet.replace('-', '/')
  // Whether the others announce their groups yet decides how many entries there are.
  const isSent = async () =>
    (await destinations(host)).some((entry) => entry.includes(` dst ${peer.publicIp} `))
  for (let round = 0; round < 5; round += 1) {
    // After a repair the next pass waits, and so does the reading of addresses.
    await ipBatch(host.namespace, [`route del ${route}`])
    await host.waitUntil('a repair', async () => (await host.exec('ip', 'route', 'show', route)) !== '')
    await ipBatch(host.namespace, [covered.replace('address', 'address add')])
    await host.waitUntil('it is sent nothing', async () => !(await isSent()))
    await ipBatch(host.namespace, [covered.replace('address', 'address del')])
    await host.waitUntil('it is sent copies', isSent)
  }
  await lab.client.delete().key(key)
  await waitForHosts(2)
})

test('a lease that is written without it stays a reservation, and is announced anew', async () => {
  const status = await lab.host(3).status()
  const { subnet = '', ipv6Subnet = '' } = ('lease' in status && status.lease) || {}
  const key = leaseKey(ETCD_PREFIX, `${subnet.replace('/', '-')}&${ipv6Subnet.replace('/', '-')}`)
  const value = (await lab.client.get(key).string()) ?? ''
  await lab.client.put(key).value(value.replace(`,"MulticastVNI":${VNI}`, ''))
  await lab
    .host(3)
    .waitUntil('it is announced anew', async () => (await lab.client.get(key).string()) === value)
  expect((await lab.client.get(key).exec()).kvs[0]?.lease).toBe('0')
  await waitForHosts(2)
})

test('a host that is taken down keeps nothing of it', async () => {
  const host = lab.host(3)
  await host.stop()
  await host.overlayctl('teardown', '--yes')
  expect(await residue(host)).toEqual(NOTHING)
  host.start()
  await waitForHosts(2)
})

test('switched off it leaves nothing behind, and what others have on the bridge stays', async () => {
  const [one, two] = [lab.host(1), lab.host(2)]
  await two.exec('tc', 'qdisc', 'add', 'dev', 'docker0', 'clsact')
  await two.exec('nft', 'add table netdev stranger')
  // Multicast is switched off while the daemon does not run.
  await lab.host(3).stop()
  const ping = await lab.startPing(container(1), container(2), 5)
  await lab.putConfig(multicastConfig())
  lab.host(3).start()
  for (const host of [one, lab.host(3)]) {
    await host.waitUntil('nothing is left', async () => {
      return isDeepStrictEqual(await residue(host), NOTHING)
    })
  }
  await two.waitUntil('only the stranger is left', async () => {
    return isDeepStrictEqual(await residue(two), { ...NOTHING, qdisc: true })
  })
  expect(await two.exec('nft', 'list', 'tables', 'netdev')).toContain('stranger')
  expect(await ping.stop()).toMatchObject({ lost: 0 })
  for (const host of members())
    await host.waitForStatus('no multicast', ({ multicast }) => multicast === undefined)
  await waitFor('leases without multicast', async () => {
    const leases = Object.values(await lab.client.getAll().prefix(leaseKey(ETCD_PREFIX, '')).strings())
    return leases.some((value) => value.includes('Multicast')) ? new Pending(leases.join('\n')) : true
  })
  await sendTo('239.1.2.3', container(1), 'off')
  const [local] = listeners.filter((listener) => listener.container === container(1, 2))
  await local?.waitForEnd('off')
  for (const { container: each, received: heard } of listeners) {
    if (each.name.startsWith('host1')) continue
    expect(heard.filter((line) => line.includes(' off-'))).toEqual([])
  }
})
