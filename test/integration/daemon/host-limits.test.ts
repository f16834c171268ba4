/**
 * Changes that other programs of a host make to settings, subnet file and device are put right. Addresses
 * that the host has inside the network already are respected.
 */
import { readFileSync, rmSync, writeFileSync } from 'node:fs'
import { dirname } from 'node:path'
import type { DoctorReport } from '../../../src/doctor/report'
import { Host } from '../../lab/host'
import { Lab } from '../../lab/lab'
import { fakePeer } from '../../lab/leases'
import { setSysctl } from '../../lab/namespace'
import { patient } from '../../lab/patience'
import { codesOf, doctor } from '../../support/doctor'

jest.setTimeout(patient(90_000))

let lab: Lab

describe('a host with both families and direct routes', () => {
  let host: Host

  beforeAll(async () => {
    lab = await Lab.create({
      hosts: 2,
      config: JSON.stringify({
        EnableIPv6: true,
        Network: '10.5.0.0/16',
        IPv6Network: 'fd00:5::/48',
        Backend: { Type: 'vxlan', DirectRouting: true },
      }),
    })
    host = lab.host(1)
    await lab.startAll()
    for (const each of lab.hosts) await each.addContainer()
  })
  afterAll(() => lab?.close())

  async function expectTraffic(): Promise<void> {
    const [from, to] = lab.hosts.map(({ containers }) => containers[0])
    if (from === undefined || to === undefined) throw new Error('a host has no container')
    // The status may be from before the flap, and the link has to resolve its neighbours again.
    const reaches = async (address: string) => (await lab.ping(from, { address })).lost === 0
    await host.waitUntil('IPv4 traffic', () => reaches(to.address))
    await host.waitUntil('IPv6 traffic', () => reaches(to.address6 ?? ''))
  }

  test.each([
    [`net/ipv6/conf/${Host.device6}/disable_ipv6`, '1', '0'],
    [`net/ipv4/conf/${Host.device}/forwarding`, '0', '1'],
    [`net/ipv6/conf/${Host.device6}/forwarding`, '0', '1'],
    [`net/ipv4/conf/${Host.device}/rp_filter`, '1', '2'],
  ])('%s that was set to %s is %s again', async (name, wrong, right) => {
    const shown = async () => (await host.exec('cat', `/proc/sys/${name}`)).trim()
    const addresses = () =>
      host.exec('ip', '-6', '-o', 'address', 'show', 'dev', Host.device6, 'scope', 'global')
    const before = await addresses()
    expect(before).not.toBe('')
    await setSysctl(host.namespace, name, wrong)
    await host.waitUntil(`${name} is right`, async () => (await shown()) === right)
    await host.waitUntil('the addresses are there', async () => (await addresses()) === before)
    await host.waitConverged(1)
    await expectTraffic()
  })

  test('subnet.env is written again after it is deleted, also with its directory, or replaced', async () => {
    const text = readFileSync(host.subnetFile, 'utf8')
    const isBack = async (): Promise<boolean> => {
      try {
        return readFileSync(host.subnetFile, 'utf8') === text
      } catch {
        return false
      }
    }
    const directory = dirname(host.subnetFile)
    for (const harm of [
      () => rmSync(host.subnetFile),
      () => rmSync(directory, { recursive: true }),
      () =>
        writeFileSync(host.subnetFile, text.replace(/^FLANNEL_SUBNET=.*$/m, 'FLANNEL_SUBNET=10.5.1.1/24')),
    ]) {
      harm()
      await host.waitUntil('subnet.env is as it was', isBack)
    }
    await host.waitForStatus('healthy', ({ state }) => state === 'healthy')
  })

  test('foreign addresses that lead packets into the device go; the underlay survives a flap', async () => {
    const shown = () => host.exec('ip', '-4', '-o', 'address', 'show', 'dev', Host.device)
    const before = await shown()
    // A DHCP client that serves all interfaces does the same.
    await host.exec('ip', 'address', 'add', `${host.address}/24`, 'dev', Host.device)
    await host.exec('ip', 'address', 'add', '198.51.100.9/24', 'dev', Host.device)
    await host.waitUntil('the addresses are ours', async () => (await shown()) === before)
    expect(host.daemon.output).toContain(`gave ${Host.device} the address ${host.address}/24`)
    await host.exec('ip', 'link', 'set', 'eth0', 'down')
    await host.exec('ip', 'link', 'set', 'eth0', 'up')
    await host.exec('ip', 'route', 'replace', 'default', 'via', '192.168.77.1')
    expect(await host.exec('ip', 'route', 'show', '192.168.77.0/24')).toMatch(/^\S+ dev eth0 [^\n]*\n$/)
    await host.exec('ip', 'address', 'replace', `${host.address6}/64`, 'dev', 'eth0', 'nodad')
    const { device } = await host.waitConverged(1)
    expect(device).toMatchObject({ local: host.address, underlay: 'eth0' })
    await expectTraffic()
  })

  test('a default route over our device and an address on it make it no underlay', async () => {
    await host.stop('SIGKILL')
    await host.exec('ip', 'address', 'add', '192.0.2.77/24', 'dev', Host.device)
    await host.exec('ip', 'route', 'replace', 'default', 'dev', Host.device)
    host.start({ flags: { iface: undefined } })
    const { problems, device } = await host.waitForStatus(
      'settled',
      ({ daemon, problems }) =>
        daemon.phase === 'running' || problems.some((problem) => problem.startsWith('underlay: ')),
    )
    expect([device?.underlay ?? 'none', problems.join()]).not.toContain(Host.device)
    await host.exec('ip', 'route', 'replace', 'default', 'via', '192.168.77.1')
    expect((await host.waitConverged(1)).device).toMatchObject({ local: host.address, underlay: 'eth0' })
    await expectTraffic()
  })
})

describe('a host with a network of its own inside the overlay’s', () => {
  let host: Host

  beforeAll(async () => {
    // One /24 lies outside of that network.
    const config = {
      Network: '10.5.0.0/16',
      SubnetMin: '10.5.63.0',
      SubnetMax: '10.5.127.0',
      Backend: { Type: 'vxlan' },
    }
    lab = await Lab.create({ hosts: 1, config: JSON.stringify(config) })
    host = lab.host(1)
    await host.exec('ip', 'link', 'add', 'eth1', 'type', 'veth', 'peer', 'name', 'eth1p')
    await host.exec('ip', 'address', 'add', '10.5.64.10/18', 'dev', 'eth1')
    for (const link of ['eth1', 'eth1p']) await host.exec('ip', 'link', 'set', link, 'up')
    host.start()
  })
  afterAll(() => lab?.close())

  const evidenceOf = ({ checks }: DoctorReport, code: string): string =>
    checks
      .flatMap(({ findings }) => findings.filter((each) => each.code === code))
      .flatMap((each) => each.evidence)
      .join()

  test('takes a subnet outside; doctor and daemon agree on a peer that would hide the prefix', async () => {
    await host.waitForStatus('healthy', ({ state }) => state === 'healthy')
    expect((await host.subnetEnv()).subnet).toBe('10.5.63.1/24')
    await lab.putPeers({ ...fakePeer(1), subnet: '10.5.64.0-24' }, { ...fakePeer(2), subnet: '10.5.70.0-24' })
    const { peers } = await host.waitForStatus('both peers', (status) => status.peers.length === 2)
    const reason = peers.find(({ state }) => state === 'rejected')?.reason ?? ''
    expect(reason).toBe('subnet 10.5.64.0/24 covers 10.5.64.10, an address of this host')
    await host.waitForKernel('the other peer', ({ routes }) => routes.length === 1)
    const report = await doctor(lab, host, '--only=leases,peers,routes')
    expect(evidenceOf(report, 'lease-rejected')).toContain(`10.5.64.0-24: ${reason}`)
    expect(codesOf(report)).toEqual(['lease-rejected'])
  })

  test('says that its subnet overlaps a network that comes later, for as long as it is there', async () => {
    const network = ['10.5.63.200/26', 'dev', 'eth1'] as const
    await host.exec('ip', 'address', 'add', ...network)
    const { problems, state } = await host.waitForStatus(
      'the overlap',
      (status) =>
        status.etcd.connected &&
        status.problems.some((problem) => problem.includes('overlaps 10.5.63.192/26, which is on eth1')),
    )
    expect([problems.length, state]).toEqual([1, 'degraded'])
    const report = await doctor(lab, host, '--only=lease,status')
    expect(codesOf(report)).toEqual(['lease-overlap'])
    await host.exec('ip', 'address', 'delete', ...network)
    await host.waitForStatus('no overlap', (status) => status.state === 'healthy')
  })
})
