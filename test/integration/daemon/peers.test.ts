/** Peers come, change and go. A bad lease hurts no other peer. */
import { expectedObjects, holdsPeer, tracesOf } from '../../lab/kernel-view'
import { ETCD_PREFIX, Host, Lab } from '../../lab/lab'
import { type FakePeer, fakePeer, leaseKey, leaseValue } from '../../lab/leases'
import { patient } from '../../lab/patience'

jest.setTimeout(patient(60_000))

let lab: Lab

beforeAll(async () => {
  lab = await Lab.create({ hosts: 3 })
  await lab.startAll()
  for (const host of lab.hosts) await host.addContainer()
})
afterAll(() => lab?.close())

/** The pair of containers on two hosts. */
function containers(from: Host, to: Host) {
  const [here] = from.containers
  const [there] = to.containers
  if (here === undefined || there === undefined) throw new Error('a host has no container')
  return [here, there] as const
}

async function putValue(key: string, value: string): Promise<void> {
  await lab.client.put(`${ETCD_PREFIX}/subnets/${key}`).value(value)
}

describe('three hosts', () => {
  test('reach each other, from every container to every other', async () => {
    for (const from of lab.hosts) {
      for (const to of lab.hosts.filter((host) => host !== from)) {
        expect(await lab.ping(...containers(from, to), { count: 20 })).toMatchObject({ lost: 0 })
      }
    }
  })

  test('announce themselves byte for byte as flannel does, under an etcd lease of a day', async () => {
    for (const host of lab.hosts) {
      const { subnet } = await host.subnetEnv()
      const key = leaseKey(ETCD_PREFIX, subnet.replace(/\d+\/24$/, '0-24'))
      const { kvs } = await lab.client.get(key).exec()
      expect(kvs[0]?.value.toString()).toBe(
        leaseValue({ publicIp: host.address, mac: (await host.link()).mac, subnet: '' }),
      )
      const lease = await lab.client.leaseClient.leaseTimeToLive({ ID: kvs[0]?.lease ?? '0' })
      expect(lease.grantedTTL).toBe('86400')
    }
  })

  test('have the address of their subnet on the device, forward packets, and tell Docker', async () => {
    const host = lab.host(1)
    const { network, subnet, mtu } = await host.subnetEnv()
    expect({ network, mtu }).toEqual({ network: '10.5.0.0/16', mtu: 1450 })
    const base = subnet.replace(/\d+\/24$/, '0')
    expect(await host.exec('ip', '-4', '-o', 'address', 'show', 'dev', Host.device)).toContain(
      `inet ${base}/32`,
    )
    expect((await host.exec('cat', '/proc/sys/net/ipv4/ip_forward')).trim()).toBe('1')
  })
})

describe('a peer', () => {
  const peer = fakePeer(0)

  test('that joins is known on every host', async () => {
    await lab.putPeers(peer)
    for (const host of lab.hosts) await host.waitForKernel('the new peer', (view) => holdsPeer(view, peer))
    await lab.waitConverged(1)
  })

  test('that changes its MAC is followed, and its old FDB entry goes', async () => {
    const changed = { ...peer, mac: '02:fa:4e:00:01:00' }
    await lab.putPeers(changed)
    for (const host of lab.hosts) {
      const view = await host.waitForKernel(
        'the new MAC',
        (view) => holdsPeer(view, changed) && !view.fdb.some(isOld),
      )
      expect(tracesOf(view, changed).sort()).toEqual(Object.values(expectedObjects(changed)).sort())
    }
    await lab.putPeers(peer)
    for (const host of lab.hosts) await host.waitForKernel('the first MAC', (view) => holdsPeer(view, peer))
  })
  const isOld = (line: string) => line.startsWith(peer.mac)

  test('that changes its PublicIP is followed, and nothing is sent to the old one', async () => {
    const moved = { ...peer, publicIp: '172.16.1.1' }
    await lab.putPeers(moved)
    for (const host of lab.hosts) {
      const view = await host.waitForKernel('the new PublicIP', (view) => holdsPeer(view, moved))
      expect(view.fdb.filter((line) => line.startsWith(peer.mac))).toEqual([expectedObjects(moved).fdb])
    }
  })

  test('that leaves is gone from every host, with all that belonged to it', async () => {
    await lab.deletePeer(peer)
    for (const host of lab.hosts)
      await host.waitForKernel('no trace of the peer', (view) => tracesOf(view, peer).length === 0)
    await lab.waitConverged(0)
  })
})

describe('what cannot be read in etcd', () => {
  const good = fakePeer(1)
  const turnsBad = fakePeer(2)

  test('is listed and costs no peer anything, neither when it comes nor when it goes', async () => {
    const host = lab.host(1)
    await lab.putPeers(good, turnsBad)
    await lab.waitConverged(2)
    const monitor = await lab.monitor(host)

    await putValue('garbage', 'x')
    await putValue('10.5.199.0-24', '{"PublicIP":')
    await putValue(turnsBad.subnet, '{"PublicIP":"nonsense"}')
    const status = await host.waitForStatus(
      'the unreadable leases',
      ({ peers, etcd }) =>
        etcd.connected &&
        ['garbage', '10.5.199.0-24'].every((key) =>
          peers.some(
            ({ subnet, state, reason }) => subnet === key && state === 'rejected' && (reason ?? '') !== '',
          ),
        ),
    )
    expect(status.state).toBe('healthy')
    const kept = await host.waitForStatus('the peer whose lease turned bad', ({ peers }) =>
      peers.some(
        ({ subnet, reason }) => subnet === turnsBad.subnet.replace('-', '/') && reason !== undefined,
      ),
    )
    expect(kept.peers.filter(({ state }) => state === 'ok')).toHaveLength(4)

    await lab.deletePeer({ subnet: 'garbage' })
    await lab.deletePeer({ subnet: '10.5.199.0-24' })
    await host.waitForStatus('nothing rejected', ({ peers }) => peers.every(({ state }) => state === 'ok'))
    expect(await monitor.changes()).toEqual([])
  })

  test('and a peer whose lease turned bad goes with its key', async () => {
    await lab.deletePeer(turnsBad)
    await lab.host(1).waitForKernel('no trace of it', (view) => tracesOf(view, turnsBad).length === 0)
    await lab.deletePeer(good)
    await lab.waitConverged(0)
  })
})

describe('a poisonous lease', () => {
  const good = fakePeer(3)
  const poison = (number: number, changes: Partial<FakePeer>): FakePeer => ({
    ...fakePeer(number),
    ...changes,
  })

  test.each<[string, FakePeer | (() => Promise<FakePeer>), RegExp]>([
    ['with a MAC of zeros', poison(10, { mac: '00:00:00:00:00:00' }), /MAC/],
    ['with a multicast MAC', poison(11, { mac: '01:00:5e:00:00:01' }), /MAC/],
    ["with another peer's MAC", poison(12, { mac: good.mac }), /MAC/],
    ["with this host's MAC", async () => poison(13, { mac: (await lab.host(1).link()).mac }), /MAC/],
    [
      "with this host's PublicIP",
      () => Promise.resolve(poison(14, { publicIp: lab.host(1).address })),
      /PublicIP/,
    ],
    ['with a multicast PublicIP', poison(15, { publicIp: '224.0.0.1' }), /PublicIP/],
    ['with a PublicIP inside the overlay', poison(16, { publicIp: '10.5.2.2' }), /PublicIP/],
    ['for a subnet outside the network', poison(17, { subnet: '10.6.1.0-24' }), /outside/],
    ['for everything', poison(18, { subnet: '0.0.0.0-0' }), /./],
    ['for half of everything', poison(18, { subnet: '128.0.0.0-1' }), /./],
    ['for the underlay', poison(19, { subnet: '192.168.77.0-24' }), /outside/],
    ['for the whole network', poison(20, { subnet: '10.5.0.0-16' }), /./],
    ["for half of this host's subnet", ownHalf, /./],
  ])(
    '%s is rejected with a reason, and a good one after it is programmed at once',
    async (_, given, reason) => {
      const host = lab.host(1)
      await lab.putPeers(good)
      await host.waitForKernel('the good peer', (view) => holdsPeer(view, good))
      const lease = typeof given === 'function' ? await given() : given
      const later = fakePeer(4)
      await lab.putPeers(lease)
      await lab.putPeers(later)
      await host.waitForKernel('the later peer', (view) => holdsPeer(view, later), 1000)
      const { peers } = await host.waitForStatus(
        'a healthy host',
        ({ state, convergence }) => state === 'healthy' && convergence.converged && convergence.failing === 0,
      )
      const rejected = peers.filter(({ state }) => state === 'rejected')
      expect(rejected).toEqual([
        expect.objectContaining({ subnet: lease.subnet, reason: expect.stringMatching(reason) }),
      ])
      const view = await host.kernel()
      expect(holdsPeer(view, good)).toBe(true)
      expect(view.routes.some((route) => route.startsWith(lease.subnet.replace('-', '/')))).toBe(false)
      const [here, there] = containers(host, lab.host(2))
      expect(await lab.ping(here, there, { count: 5 })).toMatchObject({ lost: 0 })
      for (const peer of [lease, later, good]) await lab.deletePeer(peer)
      await lab.waitConverged(0)
    },
  )

  async function ownHalf(): Promise<FakePeer> {
    const { subnet } = await lab.host(1).subnetEnv()
    return poison(21, { subnet: subnet.replace(/\d+\/24$/, '128-25') })
  }
})
