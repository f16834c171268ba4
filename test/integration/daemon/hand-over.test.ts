/**
 * One host changes from flannel to overlayd, back, and again to overlayd, while its containers talk to
 * others. No packet is lost.
 */
import { readFileSync, statSync } from 'node:fs'
import { type Container, DUAL_STACK_CONFIG, ETCD_PREFIX, Host, Lab, NETWORK_CONFIG } from '../../lab/lab'
import { dualPeer, fakePeer } from '../../lab/leases'
import { setSysctl } from '../../lab/namespace'
import { patient } from '../../lab/patience'
import type { RunningPing } from '../../lab/ping'
import { FlannelHost } from '../../support/flannel-host'
import { assertHistoryReadable } from '../../support/flannel-reader'

jest.setTimeout(patient(60_000))

const PEERS = 10

describe.each([
  { name: 'IPv4', config: NETWORK_CONFIG, devices: [Host.device], ipMasq: false },
  { name: 'IPv4 with --ip-masq', config: NETWORK_CONFIG, devices: [Host.device], ipMasq: true },
  { name: 'dual-stack', config: DUAL_STACK_CONFIG, devices: [Host.device, Host.device6], ipMasq: false },
])('$name', ({ config, devices, ipMasq }) => {
  const hasIpv6 = devices.length > 1
  const makePeer = hasIpv6 ? dualPeer : fakePeer
  const fakes = Array.from({ length: PEERS }, (_, number) => makePeer(number))
  /** The peer that leaves while no daemon runs on the host. */
  const leaves = makePeer(50)
  const flags = { 'ip-masq': `${ipMasq}` }

  let lab: Lab
  /** The host that changes its daemon. One other host keeps overlayd, the other keeps flannel. */
  let host: Host
  let ours: Host
  let theirs: FlannelHost
  let flannel: FlannelHost

  beforeAll(async () => {
    lab = await Lab.create({ hosts: 3, config })
    host = lab.host(1)
    ours = lab.host(2)
    await lab.putPeers(...fakes, leaves)
    flannel = await FlannelHost.start(lab, host, { ipMasq })
    theirs = await FlannelHost.start(lab, lab.host(3), { ipMasq })
    for (const { namespace } of [host, theirs.host]) {
      await setSysctl(namespace, 'net/ipv4/ip_forward', '1')
      await setSysctl(namespace, 'net/ipv6/conf/all/forwarding', '1')
    }
    ours.start({ flags })
    await ours.waitConverged(PEERS + 3)
    await flannel.learnAll()
    await theirs.learnAll()
    for (const each of lab.hosts) await each.addContainer()
  })
  afterAll(() => lab?.close())

  function containerOf({ containers: [container], name }: Host): Container {
    if (container === undefined) throw new Error(`${name} has no container`)
    return container
  }

  /** State that must be the same before and after, byte for byte. */
  async function identity() {
    const link = async (device: string) => {
      const [{ ifindex, address, mtu }] = JSON.parse(
        await host.exec('ip', '-j', 'link', 'show', 'dev', device),
      )
      const { neighbours, fdb, routes } = await host.kernel(device)
      return { ifindex, address, mtu, neighbours, fdb, routes }
    }
    const [filter, nat] = [await host.exec('iptables', '-S'), await host.exec('iptables', '-t', 'nat', '-S')]
    return { devices: await Promise.all(devices.map(link)), firewall: filter + nat }
  }

  /** Content of subnet.env, and the inode and the time that a write would change. */
  function subnetFile() {
    const { ino, mtimeMs } = statSync(host.subnetFile)
    return { ino, mtimeMs, text: readFileSync(host.subnetFile, 'utf8') }
  }

  /** The key of the host in etcd. */
  async function key() {
    const [kv] = (await lab.client.get(flannel.key).exec()).kvs
    return { value: kv?.value.toString(), etcdLease: kv?.lease, revision: kv?.mod_revision }
  }

  /** The protocols of the routes to peers on the devices. */
  async function protocols(): Promise<string[]> {
    const routes = async (device: string): Promise<{ protocol: string }[]> => {
      const family = device === Host.device6 ? '-6' : '-4'
      return JSON.parse(await host.exec('ip', family, '-j', '-d', 'route', 'show', 'dev', device))
    }
    const all = (await Promise.all(devices.map(routes))).flat().map(({ protocol }) => protocol)
    return [...new Set(all)].filter((protocol) => protocol !== 'kernel')
  }

  /** All objects of a peer in the kernel. */
  async function traces(peer: { subnet: string; six?: { subnet: string } }): Promise<string[]> {
    const gateways = [peer.subnet, peer.six?.subnet ?? '-'].map((subnet) => subnet.replace(/-\d+$/, ''))
    const views = await Promise.all(devices.map((device) => host.kernel(device)))
    return views
      .flatMap(({ routes, neighbours }) => [...routes, ...neighbours])
      .filter((line) => gateways.includes(line.split(/[ /]/)[0] ?? ''))
  }

  /**
   * Does something while containers talk from and to the host. Monitors the kernels of this host and of
   * `ours`.
   */
  async function during(action: () => Promise<unknown>) {
    const [own, peer] = [await lab.monitor(host), await lab.monitor(ours)]
    const pings: RunningPing[] = []
    for (const [from, to] of [
      [host, ours],
      [ours, host],
      [host, theirs.host],
      [theirs.host, host],
    ] as const) {
      const { address, address6 } = containerOf(to)
      for (const target of [address, address6]) {
        if (target !== undefined) pings.push(await lab.startPing(containerOf(from), { address: target }, 5))
      }
    }
    await action()
    const lost = (await Promise.all(pings.map((ping) => ping.stop()))).map((result) => result.lost)
    const changes = { own: await own.changes(), peer: await peer.changes() }
    await Promise.all([own.stop(), peer.stop()])
    expect(lost).toEqual(pings.map(() => 0))
    // Each route is replaced in place, and no route is removed. The other host changes nothing in its kernel.
    expect(changes.own.filter((line) => /Deleted/.test(line))).toEqual([])
    expect(changes.peer).toEqual([])
  }

  async function expectTakenOver(): Promise<void> {
    const before = { ...(await identity()), key: await key() }
    const file = subnetFile()
    await during(async () => {
      host.start({ flags })
      await host.waitConverged(PEERS + 2)
    })
    expect({ ...(await identity()), key: await key() }).toEqual(before)
    expect(await protocols()).toEqual(['79'])
    if (hasIpv6) {
      // flannel names an MTU that does not fit through the IPv6 device.
      expect(subnetFile().text).toBe(file.text.replace('MTU=1450', 'MTU=1430'))
    } else {
      expect(subnetFile()).toEqual(file)
    }
  }

  test('a peer left while flannel was stopped: overlayd clears it away', async () => {
    await lab.deletePeer(leaves)
    await ours.waitConverged(PEERS + 2)
    expect(await traces(leaves)).toHaveLength(2 * devices.length)
    host.start({ flags })
    await host.waitConverged(PEERS + 2)
    expect(await traces(leaves)).toEqual([])
    await host.stop()
    flannel = await FlannelHost.start(lab, host, { ipMasq })
  })

  test('from flannel to overlayd: devices, MACs, key, rules, file and every packet are kept', expectTakenOver)

  test('the key stays with the etcd lease of flannel, which is kept alive from now on', async () => {
    const { etcdLease } = await key()
    expect(etcdLease).toBe(flannel.etcdLease)
    const { lease } = await host.waitForStatus(
      'the time it has left',
      ({ lease }) => lease?.expiresInSeconds !== undefined,
    )
    expect(lease).toMatchObject({ state: 'held', etcdLease: BigInt(etcdLease ?? 0).toString(16) })
    expect(lease?.expiresInSeconds).toBeGreaterThan(86_000)
  })

  test('from overlayd to flannel: its commands replace each route in place, no packet is lost', async () => {
    await host.stop()
    const before = await identity()
    const [{ value }, file] = [await key(), subnetFile()]
    await during(async () => {
      flannel = await FlannelHost.start(lab, host, { ipMasq })
    })
    expect(flannel.adopted).toBe(true)
    expect(await identity()).toEqual(before)
    expect(subnetFile().text).toBe(hasIpv6 ? file.text.replace('MTU=1430', 'MTU=1450') : file.text)
    expect(await key()).toMatchObject({ value, etcdLease: flannel.etcdLease })
    expect(await protocols()).toEqual(['boot'])
  })

  test('then flannel looks after peers as if we had never been there', async () => {
    const [peer] = fakes
    if (peer === undefined) throw new Error('there is no peer')
    const changed = { ...peer, mac: '02:fa:4e:00:01:00' }
    await flannel.forget(peer)
    expect(await traces(peer)).toEqual([])
    await flannel.learn(changed)
    expect(await traces(peer)).toHaveLength(2 * devices.length)
    await flannel.forget(changed)
    expect(await traces(peer)).toEqual([])
    await flannel.learn(peer)
  })

  test('and forth again', expectTakenOver)

  test('the host was put only by flannel, and each Put of anyone could be read by a flanneld', async () => {
    const history = await assertHistoryReadable(lab.client, ETCD_PREFIX, { ipv6: hasIpv6 })
    const own = history.filter((write) => write.key === flannel.key)
    expect(new Set(own.map((write) => write.value)).size).toBe(1)
    // flannel was started three times, and overlayd three times.
    expect(own.map(({ kind }) => kind)).toEqual(['put', 'put', 'put'])
  })
})
