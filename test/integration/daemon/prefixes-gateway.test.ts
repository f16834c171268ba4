/**
 * A network behind a gateway host, and a router outside that learns the overlay's routes from FRR:
 *
 *   client 198.51.100.9 ── router ── 203.0.113.0/24 ── host1 ── underlay ── host2 ── container
 *
 * Both ends see the other's own address.
 */
import { Frr } from '../../lab/frr'
import { type Container, type Host, Lab } from '../../lab/lab'
import { execOk, ipBatch, setSysctl } from '../../lab/namespace'
import { patient } from '../../lab/patience'
import { ping } from '../../lab/ping'
import { Pending, waitFor } from '../../lab/wait'

jest.setTimeout(patient(120_000))

const FOUR = '198.51.100.0/24'
const SIX = 'fd00:9:0:7::/64'
const CLIENT = ['198.51.100.9', 'fd00:9:0:7::9'] as const
const WAN = ['203.0.113.1', 'fd03::1'] as const
const ROUTER = ['203.0.113.2', 'fd03::2'] as const

/** An address of a container on the second host. */
const MOVING = '10.5.240.7'

const config = ({ nftables = false, allowed = ['10.5.240.0/20', FOUR, 'fd00:9::/48'] } = {}): string =>
  JSON.stringify({
    Network: '10.5.0.0/16',
    SubnetMax: '10.5.99.0',
    EnableIPv6: true,
    IPv6Network: 'fd00:5::/48',
    EnableNFTables: nftables,
    Prefixes: { Allowed: allowed },
    Backend: { Type: 'vxlan' },
  })

/** Remembers from where echo requests have come. */
const SEEN = `table inet seen {
  set four { type ipv4_addr; flags dynamic; size 1000; }
  set six { type ipv6_addr; flags dynamic; size 1000; }
  chain in {
    type filter hook input priority 0;
    icmp type echo-request add @four { ip saddr }
    icmpv6 type echo-request add @six { ip6 saddr }
  }
}`

/** FRR of the gateway host, as on the page about announced prefixes; the last lines make it fast. */
const GATEWAY_BGP = `
ip prefix-list OVERLAY permit 10.5.0.0/16 le 32
ipv6 prefix-list OVERLAY permit fd00:5::/48 le 128
route-map KERNEL permit 10
 match ip address prefix-list OVERLAY
route-map KERNEL permit 20
 match ipv6 address prefix-list OVERLAY
route-map BRIDGE permit 10
 match interface docker0
route-map NOTHING deny 10
router bgp 65001
 neighbor ${ROUTER[0]} remote-as 65002
 neighbor ${ROUTER[1]} remote-as 65002
 address-family ipv4 unicast
  redistribute kernel route-map KERNEL
  redistribute connected route-map BRIDGE
  neighbor ${ROUTER[0]} route-map NOTHING in
  neighbor ${ROUTER[0]} route-map KERNEL out
  no neighbor ${ROUTER[1]} activate
 address-family ipv6 unicast
  redistribute kernel route-map KERNEL
  redistribute connected route-map BRIDGE
  neighbor ${ROUTER[1]} activate
  neighbor ${ROUTER[1]} route-map NOTHING in
  neighbor ${ROUTER[1]} route-map KERNEL out
router bgp 65001
 neighbor ${ROUTER[0]} timers connect 1
 neighbor ${ROUTER[1]} timers connect 1
 neighbor ${ROUTER[0]} advertisement-interval 0
 neighbor ${ROUTER[1]} advertisement-interval 0
`

const ROUTER_BGP = `
router bgp 65002
 no bgp ebgp-requires-policy
 neighbor ${WAN[0]} remote-as 65001
 neighbor ${WAN[1]} remote-as 65001
 neighbor ${WAN[0]} passive
 neighbor ${WAN[1]} passive
 address-family ipv4 unicast
  no neighbor ${WAN[1]} activate
 address-family ipv6 unicast
  neighbor ${WAN[1]} activate
`

let lab: Lab
const frr: { gateway?: Frr; router?: Frr } = {}
const containers: Container[] = []

beforeAll(async () => {
  lab = await Lab.create({ hosts: 2, config: config() })
  for (const host of lab.hosts) host.start({ flags: { 'ip-masq': 'true' } })
  await lab.waitConverged()
  containers.push(...(await Promise.all(lab.hosts.map((host) => host.addContainer()))))
  await connect(lab.host(1))
  for (const { namespace } of [...containers, { namespace: 'client' }, { namespace: 'router' }])
    await execOk(namespace, ['nft', SEEN])
  // It waits for the gateway host, whose first attempt finds it then.
  frr.router = await Frr.start('router', lab.directory, ROUTER_BGP)
  frr.gateway = await Frr.start(lab.host(1).namespace, lab.directory, GATEWAY_BGP)
})
afterAll(async () => {
  for (const each of Object.values(frr)) await each.stop()
  await lab?.close()
})

/** Connects a router to a host, and a client to the router. */
async function connect(host: Host): Promise<void> {
  for (const name of ['router', 'client']) await lab.addNamespace(name)
  await ipBatch(host.namespace, [
    'link add wan type veth peer name wan netns router',
    `address add ${WAN[0]}/24 dev wan`,
    `address add ${WAN[1]}/64 dev wan nodad`,
    'link set wan up',
  ])
  await ipBatch('router', [
    'link set lo up',
    `address add ${ROUTER[0]}/24 dev wan`,
    `address add ${ROUTER[1]}/64 dev wan nodad`,
    'link set wan up',
    'link add lan type veth peer name eth0 netns client',
    'address add 198.51.100.1/24 dev lan',
    'address add fd00:9:0:7::1/64 dev lan nodad',
    'link set lan up',
  ])
  await ipBatch('client', [
    'link set lo up',
    `address add ${CLIENT[0]}/24 dev eth0`,
    `address add ${CLIENT[1]}/64 dev eth0 nodad`,
    'link set eth0 up',
    'route add default via 198.51.100.1',
    'route add ::/0 via fd00:9:0:7::1',
  ])
  for (const program of ['iptables', 'ip6tables']) {
    await host.exec(program, '-P', 'FORWARD', 'DROP')
    // As on many gateways. Our rules stand before it.
    await host.exec(program, '-t', 'nat', '-A', 'POSTROUTING', '-o', 'wan', '-j', 'MASQUERADE')
  }
  for (const name of ['net/ipv4/ip_forward', 'net/ipv6/conf/all/forwarding'])
    await setSysctl('router', name, '1')
}

async function overlayctl(host: Host, ...args: readonly string[]): Promise<void> {
  const { code, stdout, stderr } = await host.overlayctl(...args)
  if (code !== 0) throw new Error(`overlayctl ${args.join(' ')}: ${code}: ${stdout}${stderr}`)
}

const container = (number: number): Container => {
  const found = containers[number - 1]
  if (found === undefined) throw new Error(`there is no container ${number}`)
  return found
}

/** Waits until the router has routes from BGP to exactly these prefixes. */
const learns = (prefixes: readonly string[]) =>
  waitFor(
    `the router has learned ${prefixes.join()}`,
    async () => {
      const texts = [
        await execOk('router', ['ip', '-4', 'route', 'show', 'proto', 'bgp']),
        await execOk('router', ['ip', '-6', 'route', 'show', 'proto', 'bgp']),
      ]
      const found = texts.flatMap((text) => text.match(/^[0-9a-f:./]+|^default/gm) ?? []).sort()
      return found.join() === prefixes.toSorted().join() || new Pending(found.join())
    },
    { timeoutMs: 20_000 },
  )

/** The subnets of both hosts. */
async function subnets(): Promise<string[]> {
  const all = await Promise.all(lab.hosts.map((host) => host.subnetEnv()))
  return all.flatMap(({ subnet, ipv6Subnet }) => [
    subnet.replace('.1/', '.0/'),
    ipv6Subnet.replace('::1/', '::/'),
  ])
}

/** From where echo requests have come, since the last call. */
async function seenBy(namespace: string): Promise<string[]> {
  const text = await execOk(namespace, ['nft', '-j', 'list', 'table', 'inet', 'seen'])
  for (const set of ['four', 'six']) await execOk(namespace, ['nft', 'flush', 'set', 'inet', 'seen', set])
  return (text.match(/"elem": \[(.*?)\]/g) ?? [])
    .flatMap((elements) => elements.match(/[0-9a-f]+[.:][0-9a-f.:]+/g) ?? [])
    .sort()
}

const reach = (from: string, address: string) =>
  waitFor(`${address} from ${from}`, async () => {
    const { received, output } = await ping(from, address)
    return received > 0 || new Pending(output)
  })

/** Whether the gateway host has rules about the network behind it: of iptables, of nftables. */
async function rules(host: Host): Promise<{ iptables: boolean; nftables: boolean }> {
  const chain = await host.exec('iptables-save')
  const tables = await host.exec('nft', 'list', 'tables')
  const table = tables.includes('table ip flannel-ipv4')
    ? await host.exec('nft', 'list', 'table', 'ip', 'flannel-ipv4')
    : ''
  return {
    iptables: chain.includes(`-A FLANNEL-POSTRTG -s 10.5.0.0/16 -d ${FOUR} `),
    nftables: table.includes(`ip saddr 10.5.0.0/16 ip daddr ${FOUR} return`),
  }
}

const ruled = (host: Host, mode: 'iptables' | 'nftables' | 'none') =>
  waitFor(`rules of ${host.name}: ${mode}`, async () => {
    const found = await rules(host)
    const isRight = found.iptables === (mode === 'iptables') && found.nftables === (mode === 'nftables')
    return isRight || new Pending(JSON.stringify(found))
  })

test('a router learns what the gateway host routes, and nothing besides the overlay', async () => {
  const [first, second] = [lab.host(1), lab.host(2)]
  await overlayctl(first, 'announce', FOUR, `--via=${ROUTER[0]}`)
  await overlayctl(first, 'announce', SIX, `--via=${ROUTER[1]}`)
  await learns(await subnets())
  // An address that follows its container.
  await overlayctl(second, 'announce', `${MOVING}/32`)
  await learns([...(await subnets()), MOVING])
  // No container has it yet.
  const { stdout } = await second.overlayctl('doctor', '--only=prefixes')
  expect(stdout).toMatch(/10\.5\.240\.7\/32: they leave by the default route/)
  await overlayctl(second, 'withdraw', `${MOVING}/32`)
  await learns(await subnets())
})

test.each(['iptables', 'nftables'] as const)(
  'both ends see the address of the other one, with %s',
  async (mode) => {
    await lab.putConfig(config({ nftables: mode === 'nftables' }))
    for (const host of lab.hosts) await ruled(host, mode)
    const ends = [container(1), container(2)]
    for (const { namespace, address, address6 = '' } of ends) {
      for (const each of CLIENT) await reach(namespace, each)
      for (const each of [address, address6]) await reach('client', each)
      expect(await seenBy(namespace)).toEqual([...CLIENT])
    }
    expect(await seenBy('client')).toEqual(
      ends.flatMap(({ address, address6 = '' }) => [address, address6]).sort(),
    )
    // The router itself is in no announced prefix.
    for (const each of ROUTER) await reach(container(1).namespace, each)
    expect(await seenBy('router')).toEqual([...WAN])
  },
)

test('rules that somebody flushes come back', async () => {
  const first = lab.host(1)
  await first.exec('nft', 'flush', 'table', 'ip', 'flannel-ipv4')
  await ruled(first, 'nftables')
  await reach(container(2).namespace, CLIENT[0])
  expect(await seenBy('client')).toEqual([container(2).address])
})

test('a restart of FRR leaves the routes as they are', async () => {
  const first = lab.host(1)
  const monitor = await lab.monitor(first)
  await frr.gateway?.stop()
  const started = await Frr.start(first.namespace, lab.directory, GATEWAY_BGP)
  frr.gateway = started
  await waitFor('FRR has our routes', async () => {
    const found = `${await started.ask('show ip route kernel')}${await started.ask('show ipv6 route kernel')}`
    return (found.includes(`K>* ${FOUR} `) && found.includes(`K>* ${SIX} `)) || new Pending(found)
  })
  const changes = await monitor.changes()
  expect(changes.filter((line) => /198\.51\.100|fd00:9|proto 79/.test(line))).toEqual([])
  for (const each of CLIENT) await reach(container(2).namespace, each)
})

test('rules go with the range that the network config allows', async () => {
  await lab.putConfig(config({ nftables: true, allowed: ['10.5.240.0/20'] }))
  for (const host of lab.hosts) await ruled(host, 'none')
})
