/** `overlayctl reserve` and `release`: what both write, what both refuse, and the effect on the hosts. */

import { DUAL_STACK_CONFIG, ETCD_PREFIX, Host, Lab } from '../../lab/lab'
import { fakePeer, leaseKey, leaseValue } from '../../lab/leases'
import { patient } from '../../lab/patience'
import { run } from '../../lab/process'
import { OVERLAYCTL } from '../../lab/programs'
import { FlannelHost } from '../../support/flannel-host'
import { assertHistoryReadable, assertReadable } from '../../support/flannel-reader'

jest.setTimeout(patient(60_000))

/** The lease of another host. */
const OTHER = fakePeer(0)

let lab: Lab
beforeAll(async () => {
  lab = await Lab.create({ hosts: 3 })
  await lab.putPeers(OTHER)
})
afterAll(() => lab?.close())

const reserve = (publicIp: string, ...flags: string[]) =>
  lab.host(1).overlayctl('reserve', `--public-ip=${publicIp}`, ...flags)
const release = (...words: string[]) => lab.host(1).overlayctl('release', ...words)

/** What etcd has for a subnet, written as in a key. */
async function inEtcd(subnet: string) {
  const [kv] = (await lab.client.get(leaseKey(ETCD_PREFIX, subnet)).exec()).kvs
  return kv === undefined
    ? undefined
    : { value: kv.value.toString(), etcdLease: kv.lease, revision: kv.mod_revision }
}

const revision = async () => (await lab.client.get('/').exec()).header.revision

describe('reserve', () => {
  // The reservation comes before any host has chosen a random subnet.
  test('keeps the subnet and the MAC that are asked for', async () => {
    const wanted = { subnet: '10.5.42.0-24', publicIp: '192.168.77.142', mac: '02:00:00:00:00:42' }
    expect(await reserve(wanted.publicIp, '--subnet=10.5.42.0/24', `--mac=${wanted.mac}`)).toMatchObject({
      code: 0,
      stdout: 'reserved 10.5.42.0/24 for 192.168.77.142 with the MAC 02:00:00:00:00:42\n',
    })
    expect(await inEtcd(wanted.subnet)).toMatchObject({ etcdLease: '0', value: leaseValue(wanted) })
  })

  test('keeps a free subnet for a future host, which takes that subnet with its MAC', async () => {
    const host = lab.host(1)
    const { code, stdout } = await reserve(host.address)
    expect(code).toBe(0)
    const [, subnet = '', mac = ''] =
      /^reserved (\S+) for 192\.168\.77\.11 with the MAC (\S+)$/m.exec(stdout) ?? []
    const name = subnet.replace('/', '-')
    const reserved = await inEtcd(name)
    expect(reserved).toMatchObject({
      etcdLease: '0',
      value: leaseValue({ publicIp: host.address, mac, subnet: '' }),
    })
    assertReadable(leaseKey(ETCD_PREFIX, name), reserved?.value ?? '')

    host.start()
    const { lease } = await host.waitConverged(2)
    expect(lease).toMatchObject({ subnet, state: 'held' })
    expect(await host.link()).toMatchObject({ mac })
    expect(await inEtcd(name)).toEqual(reserved)
    expect(await reserve(host.address)).toMatchObject({
      code: 0,
      stdout: expect.stringMatching(/^unchanged: /),
    })
    expect(await inEtcd(name)).toEqual(reserved)
  })

  test('turns the lease of a running host into a reservation, without a write to its kernel', async () => {
    const host = lab.host(2)
    host.start()
    const { lease } = await host.waitForStatus('healthy', ({ state }) => state === 'healthy')
    const name = lease?.subnet?.replace('/', '-') ?? ''
    const before = await inEtcd(name)
    expect(before?.etcdLease).not.toBe('0')
    const monitor = await lab.monitor(host)
    expect(await reserve(host.address)).toMatchObject({
      code: 0,
      stdout: expect.stringContaining('which it had'),
    })
    const after = await inEtcd(name)
    expect(after).toMatchObject({ value: before?.value, etcdLease: '0' })
    await host.waitForStatus(
      'a reservation',
      ({ lease }) => lease?.state === 'held' && lease.etcdLease === undefined,
    )
    const { leases } = await lab.client.leaseClient.leaseLeases()
    expect(leases.map(({ ID }) => ID)).not.toContain(before?.etcdLease)
    expect(await monitor.changes()).toEqual([])
    await host.restart()
    await host.waitForStatus('healthy', ({ state }) => state === 'healthy')
    expect(await inEtcd(name)).toEqual(after)
  })

  test('keeps its lease for a host of flannel that is down', async () => {
    const flannel = await FlannelHost.start(lab, lab.host(3))
    expect(await reserve(lab.host(3).address)).toMatchObject({ code: 0 })
    expect(await inEtcd(flannel.lease.subnet)).toMatchObject({
      value: leaseValue(flannel.lease),
      etcdLease: '0',
    })
  })

  test.each([
    [
      'a subnet outside the network',
      ['192.168.77.150', '--subnet=10.6.1.0/24'],
      /not a subnet of this network/,
    ],
    ['a subnet someone has', ['192.168.77.150', '--subnet=10.5.42.0/24'], /taken.*192\.168\.77\.142/],
    ['a MAC someone has', ['192.168.77.150', `--mac=${OTHER.mac}`], /belongs to 172\.16\.0\.1/],
    [
      'a second subnet',
      ['192.168.77.142', '--subnet=10.5.43.0/24'],
      /192\.168\.77\.142 has 10\.5\.42\.0\/24/,
    ],
    ['an address of the overlay', ['10.5.3.3'], /10\.5\.3\.3/],
  ] as const)('refuses %s with exit code 1, and writes nothing', async (_, [publicIp, ...flags], reason) => {
    const before = await revision()
    const { code, stderr } = await reserve(publicIp, ...flags)
    expect({ code, stderr }).toEqual({ code: 1, stderr: expect.stringMatching(reason) })
    expect(await revision()).toBe(before)
  })

  test.each([
    ['x', []],
    ['192.168.77.150', ['--mac=x']],
    ['192.168.77.150', ['--subnet=10.5.42.0']],
    ['192.168.77.150', ['--subnet=fd00::/64']],
  ])('does not take %s %j: exit code 2', async (publicIp, flags) => {
    expect(await reserve(publicIp, ...flags)).toMatchObject({
      code: 2,
      stderr: expect.stringContaining('expected'),
    })
  })
})

describe('release', () => {
  test('refuses a live lease, a subnet nobody has, and one that cannot be read', async () => {
    const before = await revision()
    expect(await release('10.5.150.0/24', '--yes')).toMatchObject({
      code: 1,
      stderr: expect.stringContaining(
        '10.5.150.0/24 for 172.16.0.1 with the MAC 02:fa:4e:00:00:00 is a live lease',
      ),
    })
    expect(await release('10.5.250.0/24', '--yes')).toMatchObject({
      code: 1,
      stderr: expect.stringContaining('nobody has 10.5.250.0/24'),
    })
    expect(await release('nonsense', '--yes')).toMatchObject({ code: 2 })
    expect(await revision()).toBe(before)
  })

  test('does nothing where there is no terminal to ask on, unless --yes is given', async () => {
    expect(await release('10.5.42.0/24')).toMatchObject({ code: 1, stderr: expect.stringContaining('--yes') })
    expect(await inEtcd('10.5.42.0-24')).toBeDefined()
    expect(await release('10.5.42.0/24', '--yes')).toMatchObject({
      code: 0,
      stdout: expect.stringMatching(/^released 10\.5\.42\.0\/24 for 192\.168\.77\.142/),
    })
    expect(await inEtcd('10.5.42.0-24')).toBeUndefined()
  })

  test.each([
    ['no', 1],
    ['', 1],
    ['yes', 0],
  ])('asks on a terminal: %j is exit code %i', async (answer, code) => {
    await reserve('192.168.77.143', '--subnet=10.5.42.0/24')
    const words = [process.execPath, OVERLAYCTL, 'release', '10.5.42.0/24'].join(' ')
    const result = await run(lab.host(1).withDefaults(['script', '-qec', words, '/dev/null']), {
      input: `${answer}\n`,
    })
    expect(result).toMatchObject({ code, stdout: expect.stringContaining('Release 10.5.42.0/24') })
    expect((await inEtcd('10.5.42.0-24')) === undefined).toBe(code === 0)
  })

  test('of a host that runs leaves it with an ordinary lease of the same subnet', async () => {
    const host = lab.host(2)
    const { subnet } = await host.subnetEnv()
    const name = subnet.replace(/\d+\/24$/, '0-24')
    const before = await inEtcd(name)
    const monitor = await lab.monitor(host)
    expect(await release(subnet, '--yes')).toMatchObject({ code: 0 })
    await host.waitForStatus(
      'an ordinary lease',
      ({ lease }) => lease?.state === 'held' && lease.etcdLease !== undefined,
    )
    const after = await inEtcd(name)
    expect(after?.value).toBe(before?.value)
    expect(after?.etcdLease).not.toBe('0')
    expect(await monitor.changes()).toEqual([])
  })
})

describe('in a network of both families', () => {
  beforeAll(() => lab.putConfig(DUAL_STACK_CONFIG))

  test('a reservation has both halves, or is refused', async () => {
    const [host] = await lab.addHosts(1)
    if (host === undefined) throw new Error('no host was added')
    const before = await revision()
    expect(await reserve(host.address)).toMatchObject({
      code: 1,
      stderr: expect.stringContaining('--public-ipv6 is missing'),
    })
    expect(await revision()).toBe(before)
    const subnet = `${await lab.freeSubnet()}/24`
    const wanted = [`--subnet=${subnet}`, '--ipv6-subnet=fd00:5:0:77::/64', '--mac=02:00:00:00:00:77']
    const { code, stdout } = await reserve(host.address, `--public-ipv6=${host.address6}`, ...wanted)
    expect(code).toBe(0)
    const [, mac6 = ''] = / with the MAC 02:00:00:00:00:77 and (\S+)$/m.exec(stdout) ?? []
    const name = `${subnet.replace('/', '-')}&fd00:5:0:77::-64`
    const reserved = await inEtcd(name)
    const six = { subnet: '', publicIp: host.address6, mac: mac6 }
    const value = leaseValue({ subnet: '', publicIp: host.address, mac: '02:00:00:00:00:77', six })
    expect(reserved).toMatchObject({ etcdLease: '0', value })
    assertReadable(leaseKey(ETCD_PREFIX, name), value)

    host.start()
    await host.waitForStatus('a reservation', ({ lease }) => lease?.state === 'held')
    expect((await host.link()).mac).toBe('02:00:00:00:00:77')
    expect((await host.link(Host.device6)).mac).toBe(mac6)
    expect(await inEtcd(name)).toEqual(reserved)
    expect(await release('fd00:5:0:77::/64', '--yes')).toMatchObject({ code: 0 })
    await host.waitForStatus('an ordinary lease', ({ lease }) => lease?.etcdLease !== undefined)
    expect(await inEtcd(name)).toMatchObject({ value })
  })
})

describe('in the end', () => {
  test('all that was ever put could be read by a flanneld', async () => {
    const history = await assertHistoryReadable(lab.client, ETCD_PREFIX, { ipv6: true })
    expect(
      history.filter(({ kind, etcdLease }) => kind === 'put' && etcdLease === '0').length,
    ).toBeGreaterThan(4)
  })
})
