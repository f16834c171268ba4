/**
 * The network config changes while hosts run. Changes that keep the subnets are applied at once; all others
 * are announced.
 */
import { ETCD_PREFIX, type Host, Lab } from '../../lab/lab'
import { fakePeer, leaseKey } from '../../lab/leases'
import { inNamespace, ipBatch } from '../../lab/namespace'
import { patient } from '../../lab/patience'
import { run } from '../../lab/process'

jest.setTimeout(patient(90_000))

const NETWORK = { Network: '10.5.0.0/16', SubnetMax: '10.5.99.0' }
const config = (fields: object = {}, backend: object = {}): string =>
  JSON.stringify({ ...NETWORK, ...fields, Backend: { Type: 'vxlan', ...backend } })

let lab: Lab
/** Process ids of the daemons. Equal ids show that no daemon was restarted. */
let pids: readonly number[]

beforeEach(async () => {
  lab = await Lab.create({ hosts: 2, config: config() })
  for (const host of lab.hosts) host.start({ flags: { 'ip-masq': 'true' } })
  await lab.waitConverged()
  for (const host of lab.hosts) await host.addContainer()
  pids = lab.hosts.map((host) => host.daemon.pid)
})
afterEach(() => lab.close())

function containers() {
  const [here] = lab.host(1).containers
  const [there] = lab.host(2).containers
  if (here === undefined || there === undefined) throw new Error('a host has no container')
  return [here, there] as const
}

/** Puts a config, and waits until all hosts have applied the config on devices of that name. */
async function change(text: string, wanted: (host: Host) => Promise<boolean>, peers = 1): Promise<void> {
  await lab.putConfig(text)
  for (const host of lab.hosts) {
    await host.waitUntil('the config is in use', () => wanted(host))
    await host.waitConverged(peers)
  }
  expect(lab.hosts.map((host) => host.daemon.pid)).toEqual(pids)
}

const vxlan = (host: Host): Promise<string> => host.exec('ip', '-d', '-o', 'link', 'show', 'type', 'vxlan')
const shows = (pattern: RegExp) => async (host: Host) => pattern.test(await vxlan(host))

async function subnets(): Promise<string[]> {
  return Promise.all(lab.hosts.map(async (host) => (await host.subnetEnv()).subnet))
}

describe('without a lost packet', () => {
  test('another MTU and learning change the device in place, and the MTU in subnet.env', async () => {
    const before = await subnets()
    const index = (await vxlan(lab.host(1))).split(':')[0]
    const ping = await lab.startPing(...containers())
    await change(config({}, { MTU: 1400, Learning: true }), shows(/ mtu 1350 /))
    for (const host of lab.hosts) {
      await host.waitUntil('subnet.env has it', async () => (await host.subnetEnv()).mtu === 1350)
      expect(await vxlan(host)).not.toContain('nolearning')
    }
    await change(config(), shows(/ mtu 1450 .* nolearning /))
    expect(await ping.stop()).toMatchObject({ lost: 0 })
    expect((await vxlan(lab.host(1))).split(':')[0]).toBe(index)
    expect(await subnets()).toEqual(before)
  })

  test('direct routing is switched on and off', async () => {
    const direct = async (host: Host) =>
      (await host.exec('ip', 'route', 'show', 'proto', '79')).includes('dev eth0')
    const ping = await lab.startPing(...containers())
    await change(config({}, { DirectRouting: true }), direct)
    for (const host of lab.hosts) {
      expect(await host.kernel()).toEqual({ routes: [], neighbours: [], fdb: [], nexthops: [] })
    }
    await change(config(), async (host) => !(await direct(host)))
    for (const host of lab.hosts) expect((await host.kernel()).routes).toHaveLength(1)
    expect(await ping.stop()).toMatchObject({ lost: 0 })
  })

  test('rules move from iptables to nftables and back', async () => {
    const rules = async (host: Host) => ({
      table:
        (await run(inNamespace(host.namespace, ['nft', 'list', 'table', 'ip', 'flannel-ipv4']))).code === 0,
      chains: (await host.exec('iptables-save')).includes('FLANNEL-POSTRTG'),
    })
    const only = (mode: 'table' | 'chains') => async (host: Host) => {
      const { table, chains } = await rules(host)
      return table !== chains && { table, chains }[mode]
    }
    const ping = await lab.startPing(...containers())
    for (const host of lab.hosts) await host.waitUntil('chains', () => only('chains')(host))
    await change(config({ EnableNFTables: true }), only('table'))
    await lab.host(1).exec('nft', 'flush', 'ruleset')
    await lab.host(1).waitUntil('the rules are looked after', () => only('table')(lab.host(1)), 3000)
    await change(config(), only('chains'))
    expect(await ping.stop()).toMatchObject({ lost: 0 })
  })

  test('a larger network takes in peers that were outside, and a smaller one keeps who runs', async () => {
    const outside = { ...fakePeer(0), subnet: '10.4.9.0-24' }
    await lab.putPeers(outside)
    const [before] = await subnets()
    await lab
      .host(1)
      .waitForStatus('it is rejected', ({ peers }) => peers.some(({ state }) => state === 'rejected'))
    const masquerades = (network: string) => async (host: Host) =>
      (await host.exec('iptables-save', '-t', 'nat')).includes(`-s ${network} `)
    const ping = await lab.startPing(...containers())
    await change(config({ Network: '10.4.0.0/15' }), masquerades('10.4.0.0/15'), 2)
    expect(await lab.host(1).subnetEnv()).toMatchObject({ network: '10.4.0.0/15', subnet: before })
    await change(config(), masquerades('10.5.0.0/16'), 2)
    const status = await lab.host(1).status()
    expect('peers' in status && status.peers).toContainEqual(
      expect.objectContaining({
        subnet: '10.4.9.0/24',
        reason: expect.stringContaining('outside the network'),
      }),
    )
    expect(await ping.stop()).toMatchObject({ lost: 0 })
  })
})

/** Waits for the first answer, because the hosts may have differed until now. Expects all later answers. */
async function reached(): Promise<void> {
  await lab.host(1).waitUntil('the other container answers', async () => {
    return (await lab.ping(...containers(), { count: 1 })).received === 1
  })
  expect(await lab.ping(...containers(), { count: 20 })).toMatchObject({ lost: 0 })
}

describe('at the cost of the moment in which hosts differ', () => {
  test('another port makes the device again, with its MAC, and so does none', async () => {
    const macs = await Promise.all(lab.hosts.map((host) => host.link()))
    await change(config({}, { Port: 4789 }), shows(/ dstport 4789 /))
    await reached()
    await change(config(), shows(/ dstport 8472 /))
    await reached()
    expect(await Promise.all(lab.hosts.map((host) => host.link()))).toEqual(macs)
  })

  test('another VNI moves everything to another device and back; the old device is removed', async () => {
    const before = await subnets()
    for (const vni of [2, 1]) {
      const name = `flannel.${vni}`
      await change(config({ EnableNFTables: vni === 2 }, { VNI: vni }), async (host) => {
        const devices = (await vxlan(host)).trim().split('\n')
        return devices.length === 1 && devices[0]?.includes(` ${name}: `) === true
      })
      await lab.host(1).waitForKernel('one peer', ({ routes }) => routes.length === 1, 10_000, name)
      expect(await lab.host(1).exec('ip', 'nexthop', 'show')).not.toContain(`flannel.${3 - vni} `)
      expect(await lab.host(1).exec('iptables-save')).not.toContain(`flannel.${3 - vni} `)
      const leases = await lab.client.getAll().prefix(leaseKey(ETCD_PREFIX, '')).strings()
      for (const value of Object.values(leases)) expect(value).toContain(`"VNI":${vni},`)
      await reached()
    }
    expect(await subnets()).toEqual(before)
  })
})

describe('what cannot be taken up changes nothing and is said', () => {
  async function expectRefused(text: string | undefined, reason: RegExp): Promise<void> {
    const monitor = await lab.monitor(lab.host(1))
    const ping = await lab.startPing(...containers())
    if (text === undefined) await lab.client.delete().key(`${ETCD_PREFIX}/config`)
    else await lab.putConfig(text)
    for (const host of lab.hosts) {
      await host.waitForStatus('the problem', ({ problems }) => problems.some((each) => reason.test(each)))
    }
    expect(await monitor.changes()).toEqual([])
    expect(await ping.stop()).toMatchObject({ lost: 0 })
    await lab.putConfig(config())
    await lab.waitConverged()
  }

  test.each<[string, string | undefined, RegExp]>([
    ['a deleted one', undefined, /config: .*was deleted/],
    ['an unreadable one', '{"Network":', /config: .*cannot be read/],
    ['another backend', '{"Network":"10.5.0.0/16"}', /config: .*Backend is missing/],
    [
      'another subnet length',
      config({ SubnetLen: 25 }),
      /config: .*needs a new subnet.* \/25 instead of \/24/,
    ],
    ['another network', config({ Network: '10.6.0.0/16', SubnetMax: '10.6.99.0' }), /needs a new subnet/],
    ['a further family', config({ EnableIPv6: true, IPv6Network: 'fd00:5::/48' }), /IPv6 is switched on/],
  ])('%s', (_, text, reason) => expectRefused(text, reason))

  test('a network that covers the underlay', async () => {
    const way = ['address VERB 10.200.0.9/24 dev eth0', 'route VERB default via 10.200.0.1 metric 900']
    const commands = (verb: string): string[] => way.map((each) => each.replace('VERB', verb))
    for (const { namespace } of lab.hosts) await ipBatch(namespace, commands('add'))
    // A subnet at the edge of a range that contains the gateway.
    await expectRefused(
      JSON.stringify({
        Network: '10.0.0.0/8',
        SubnetLen: 24,
        SubnetMin: '10.5.0.0',
        SubnetMax: '10.5.255.0',
        Backend: { Type: 'vxlan' },
      }),
      /config: .*cannot be used here.*10\.200\.0\.1/,
    )
    for (const { namespace } of lab.hosts) await ipBatch(namespace, commands('del').reverse())
  })

  test('until the host is restarted, where only that is missing', async () => {
    await lab.putConfig(config({ SubnetLen: 25 }))
    for (const host of lab.hosts) {
      await host.waitForStatus('the problem', ({ problems }) =>
        problems.some((each) => each.includes('restarted')),
      )
      // It is on the subnet that the host gives up, which the host would say.
      await host.exec('ip', 'link', 'delete', 'docker0')
      await host.restartByEtcd()
    }
    await lab.waitConverged()
    for (const subnet of await subnets()) expect(subnet).toMatch(/\/25$/)
  })
})

test('overlayctl config set says what running hosts make of it', async () => {
  const set = async (text: string) => {
    return (await lab.host(1).overlayctl('config', 'set', '--yes', text)).stdout
  }
  expect(await set(config({}, { MTU: 1400 }))).toContain(
    "running hosts adopt it now: MTU 1400 instead of the underlay's",
  )
  expect(await set(config({ SubnetLen: 25 }))).toMatch(
    /until overlayd is restarted on each.*\/25 instead of \/24/,
  )
})
