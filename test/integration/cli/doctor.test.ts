/** The doctor on healthy hosts, and on hosts with one fault each. The doctor names exactly that fault. */
import { copyFileSync, utimesSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { ETCD_PREFIX, type Host, Lab, NETWORK_CONFIG } from '../../lab/lab'
import { fakePeer, leaseKey, leaseValue } from '../../lab/leases'
import { inNamespace, ipBatch, setSysctl } from '../../lab/namespace'
import { patient } from '../../lab/patience'
import { LongProcess, run } from '../../lab/process'
import { OVERLAYCTL } from '../../lab/programs'
import { Pending, waitFor } from '../../lab/wait'
import { codesOf, cureOf, doctor, follow, readReport, withSwiftEtcd } from '../../support/doctor'
import { FlannelHost } from '../../support/flannel-host'

jest.setTimeout(patient(120_000))

let lab: Lab
let host: Host
let peer: Host

beforeAll(async () => {
  lab = await Lab.create({ hosts: 3 })
  host = lab.host(1)
  peer = lab.host(2)
  await lab.startAll()
  await host.addContainer()
})
afterAll(() => lab?.close())

/** The beginning of a command that runs as a user without any right. */
const WITHOUT_RIGHTS = [
  'setpriv',
  '--reuid=65534',
  '--regid=65534',
  '--clear-groups',
  '--inh-caps=-all',
  '--bounding-set=-all',
]

const examine = (...flags: string[]) => doctor(lab, host, ...flags)

/** `10.5.12.0/24` */
const subnetOf = async (of: Host) => (await of.subnetEnv()).subnet.replace(/\.1\//, '.0/')
const keyOf = async (of: Host) => leaseKey(ETCD_PREFIX, (await subnetOf(of)).replace('/', '-'))

/** Makes a fault in a namespace during `look`, and undoes the fault afterwards, also after a failure. */
async function withFault<T>(
  on: Host,
  [fault, undo]: readonly [string, string],
  look: () => Promise<T>,
): Promise<T> {
  await on.exec('sh', '-c', fault)
  try {
    return await look()
  } finally {
    await on.exec('sh', '-c', `${undo} || true`)
  }
}

/** Puts the lease of a host that does not exist, and removes that lease after `look`. */
async function withLease<T>(key: string, value: string, look: () => Promise<T>): Promise<T> {
  await lab.client.put(key).value(value)
  try {
    return await look()
  } finally {
    await lab.client.delete().key(key)
  }
}

describe('a host that is well', () => {
  test('has nothing, and every peer answers in full size', async () => {
    const report = await examine()
    expect(codesOf(report)).toEqual([])
    expect(report.checks.filter(({ state }) => state !== 'ok')).toEqual([])
    expect(report.verdict).toBe('ok')
    expect(report.peers).toHaveLength(2)
    for (const { reach, overlayFull, underlaySmall } of report.peers) {
      expect({ reach, overlayFull, underlaySmall }).toMatchObject({
        reach: 'ok',
        overlayFull: { sent: 3, received: 3, rttMs: expect.any(Number) },
        underlaySmall: { received: 3 },
      })
    }
  })

  test('is not changed: neither its kernel, its rules, nor etcd', async () => {
    const monitor = await lab.monitor(host)
    // The counters are left out, because probes are packets.
    const listRules = () => host.exec('nft', '--stateless', 'list', 'ruleset')
    const rules = await listRules()
    const { header } = await lab.client.getAll().prefix('/').exec()
    await examine()
    expect(await monitor.changes()).toEqual([])
    await monitor.stop()
    expect(await listRules()).toBe(rules)
    expect((await lab.client.getAll().prefix('/').exec()).header.revision).toBe(header.revision)
  })

  test('without rights says once what it could not look at, and that is no all-clear', async () => {
    const { code, stdout } = await run(
      host.withDefaults([...WITHOUT_RIGHTS, process.execPath, OVERLAYCTL, 'doctor']),
    )
    expect(stdout).not.toMatch(/^(?:FAIL|warn)/m)
    expect(stdout).toMatch(/^Nothing wrong was found on .* [0-9]+ checks not made: run as root/)
    expect(code).toBe(1)
  })

  test('says so in its first line', async () => {
    const { stdout } = await waitFor('an etcd that answers in time', async () => {
      const shown = await host.overlayctl('doctor')
      return shown.code === 0 ? shown : new Pending(shown.stdout)
    })
    expect(stdout).toMatch(/^OK: nothing is wrong on the host of 10\.5\.\d+\.0\/24 /)
    expect(stdout).not.toContain('\u001b')
  })

  test('--only and --peer leave out the rest', async () => {
    const some = await examine('--only=etcd,reach', `--peer=${peer.address}`)
    expect(some.checks.map(({ name }) => name)).toEqual(['etcd', 'reach'])
    expect(some.peers.filter(({ reach }) => reach !== 'unprobed')).toMatchObject([
      { subnet: await subnetOf(peer), reach: 'ok' },
    ])
    const wrong = await host.overlayctl('doctor', '--only=etdc')
    expect(wrong).toMatchObject({
      code: 2,
      stdout: '',
      stderr: expect.stringContaining('etcd, certificates'),
    })
  })
})

describe('the way to the peers', () => {
  test('UDP blocked on its way out, and the command given lets it out', async () => {
    const rules =
      'nft "add table inet t; add chain inet t out { type filter hook output priority 0; }; add rule inet t out udp dport 8472 drop"'
    await withFault(host, [rules, 'nft delete table inet t'], async () => {
      const report = await examine()
      expect(codesOf(report)).toEqual(['udp-blocked-out'])
      await follow(host, cureOf(report, 'udp-blocked-out')[0])
      expect(codesOf(await examine())).toEqual([])
    })
  })

  test('UDP blocked in on one peer; the table has it first', async () => {
    const block = ['iptables -I INPUT -p udp --dport 8472 -j DROP', 'iptables -D INPUT 1'] as const
    await withFault(peer, block, async () => {
      const report = await examine()
      expect(codesOf(report)).toEqual(['udp-blocked-in'])
      expect(report.peers.map(({ publicIp, reach }) => [publicIp, reach])).toEqual([
        [peer.address, 'unreached'],
        [lab.host(3).address, 'ok'],
      ])
    })
  })

  test('UDP blocked in here', async () => {
    const block = ['iptables -I INPUT -p udp --dport 8472 -j DROP', 'iptables -D INPUT 1'] as const
    await withFault(host, block, async () => {
      expect(codesOf(await examine())).toEqual(['udp-blocked-here'])
    })
  })

  test('a catch-all of INPUT here is not taken for the peers’', async () => {
    const rules = [
      'iptables -A INPUT -p icmp -j ACCEPT; iptables -A INPUT -i lo -j ACCEPT; iptables -A INPUT -p tcp -j ACCEPT; iptables -A INPUT -j REJECT',
      'iptables -F INPUT',
    ] as const
    await withFault(host, rules, async () => {
      const report = await examine()
      expect(codesOf(report)).toEqual(['udp-blocked-here'])
      await follow(host, cureOf(report, 'udp-blocked-here')[0])
      expect(codesOf(await examine())).toEqual([])
    })
  })

  test.each([
    ['a rule of mangle', 'iptables -t mangle -I PREROUTING -d $CONTAINER ! -i docker0 -j DROP'],
    [
      'a table of nft',
      'nft "add table inet t; add chain inet t f { type filter hook forward priority 5; policy drop; }"',
    ],
    ['the legacy variant', 'iptables-legacy -A FORWARD -i docker0 -j DROP'],
  ])('%s drops what is forwarded, and the commands given let it through', async (_, rule) => {
    const undo = 'iptables -t mangle -F; nft delete table inet t; iptables-legacy -F'
    const container = (await subnetOf(host)).replace('.0/24', '.2/32')
    await withFault(host, [rule.replace('$CONTAINER', container), undo], async () => {
      const report = await examine('--only=firewall,containers')
      expect(codesOf(report)).toEqual(['forward-drop'])
      for (const command of cureOf(report, 'forward-drop')) await follow(host, command)
      // overlayd's own problem ends with overlayd's next check.
      const after = await examine('--only=firewall,containers')
      expect(codesOf(after)).toEqual([])
    })
    // The kernel tells nobody of rules of the legacy variant, so overlayd looks at them every 30 s.
    await lab.waitConverged(0, 45_000)
  })

  test('what no rule shows is found by a ping from a container', async () => {
    // The rule concerns packets from the bridge only, and not the host's own packets.
    const fault = [
      'ip rule add iif docker0 to 10.5.0.0/16 blackhole',
      'ip rule del iif docker0 to 10.5.0.0/16',
    ] as const
    await withFault(host, fault, async () => {
      expect(codesOf(await examine())).toEqual(['container-unreached'])
    })
  })

  test('a port of the underlay that silently drops large packets, and the size that fits', async () => {
    const resize = (mtu: number) => ipBatch('underlay', [`link set ${peer.name} mtu ${mtu}`])
    await resize(1400)
    try {
      const report = await examine()
      expect(codesOf(report)).toEqual(['mtu-black-hole'])
      // The bridge allows 4 bytes more, for a VLAN tag (net/bridge: is_skb_forwardable).
      const [worst] = report.peers
      expect([1400, 1404]).toContain(worst?.pathMtu)
      expect(worst).toMatchObject({ publicIp: peer.address, reach: 'mtu' })
    } finally {
      await resize(1500)
    }
  })

  test('a peer with another UDP port', async () => {
    const { mac } = await peer.link()
    await peer.stop('SIGKILL')
    await ipBatch(peer.namespace, [
      'link delete flannel.1',
      `link add flannel.1 address ${mac} type vxlan id 1 dstport 4789 dev eth0 local ${peer.address} nolearning`,
      'link set flannel.1 up',
    ])
    try {
      expect(codesOf(await examine())).toEqual(['port-differs'])
    } finally {
      await ipBatch(peer.namespace, ['link delete flannel.1'])
      peer.start()
      await lab.waitConverged()
    }
  })

  test('a peer with another VNI', async () => {
    const value = leaseValue(fakePeer(0)).replace('"VNI":1', '"VNI":2')
    await withLease(leaseKey(ETCD_PREFIX, fakePeer(0).subnet), value, async () => {
      expect(codesOf(await examine())).toEqual(['vni-differs'])
    })
  })

  test('a host that is gone is a warning', async () => {
    await withLease(leaseKey(ETCD_PREFIX, fakePeer(1).subnet), leaseValue(fakePeer(1)), async () => {
      await lab.waitConverged(1)
      const report = await examine()
      expect(codesOf(report)).toEqual(['peer-silent'])
      expect(report.verdict).toBe('warn')
    })
    await lab.waitConverged(0)
  })
})

describe('routes', () => {
  const cases: [string, (subnet: string) => readonly [string, string]][] = [
    [
      'a more specific one',
      (subnet) => {
        const half = subnet.replace('.0/24', '.128/25')
        return [`ip route add ${half} via 192.168.77.1`, `ip route del ${half}`]
      },
    ],
    [
      'a rule that leads to another table',
      (subnet) => [
        `ip rule add to ${subnet} lookup 100 && ip route add ${subnet} via 192.168.77.1 table 100`,
        `ip rule del to ${subnet} lookup 100`,
      ],
    ],
  ]
  test.each(cases)('%s takes packets for a peer', async (_, faultFor) => {
    await withFault(host, faultFor(await subnetOf(peer)), async () => {
      expect(codesOf(await examine())).toEqual(['route-shadowed'])
    })
  })

  test("a route of the host's own into the network", async () => {
    const route = ['ip route add 10.5.200.0/24 via 192.168.77.1', 'ip route del 10.5.200.0/24'] as const
    await withFault(host, route, async () => {
      const report = await examine()
      expect(codesOf(report)).toEqual(['network-overlaps-route'])
      await follow(host, cureOf(report, 'network-overlaps-route')[0])
      expect(codesOf(await examine('--only=overlap'))).toEqual([])
    })
  })
})

describe('leases', () => {
  test('two hosts with one MAC', async () => {
    const { mac } = await peer.link()
    const twin = { ...fakePeer(2), mac }
    await withLease(leaseKey(ETCD_PREFIX, twin.subnet), leaseValue(twin), async () => {
      expect(codesOf(await examine())).toEqual(['duplicate-mac'])
    })
  })

  test.each<[string, () => Host]>([
    ['a peer', () => peer],
    ['this host', () => host],
  ])('two hosts with the PublicIP of %s', async (_, whose) => {
    const twin = { ...fakePeer(3), publicIp: whose().address }
    await withLease(leaseKey(ETCD_PREFIX, twin.subnet), leaseValue(twin), async () => {
      expect(codesOf(await examine('--only=lease,leases'))).toEqual(['duplicate-public-ip'])
    })
    await lab.waitConverged(0)
  })

  test('two leases that overlap', async () => {
    const half = (await subnetOf(peer)).replace('.0/24', '.128-25')
    await withLease(leaseKey(ETCD_PREFIX, half), leaseValue(fakePeer(4)), async () => {
      expect(codesOf(await examine())).toEqual(['subnet-conflict'])
    })
  })

  test("this host's own, taken by another", async () => {
    const key = await keyOf(host)
    const before = (await lab.client.get(key).exec()).kvs[0]
    await lab.client.put(key).value(leaseValue(fakePeer(5)))
    await host.waitForStatus('a conflict', ({ lease }) => lease?.state === 'conflict')
    try {
      expect(codesOf(await examine())).toEqual(['lease-foreign'])
    } finally {
      await lab.client
        .put(key)
        .value(before?.value ?? '')
        .lease(before?.lease ?? '0')
      await lab.waitConverged(0)
    }
  })

  test('what cannot be read', async () => {
    await withLease(`${ETCD_PREFIX}/subnets/garbage`, 'x', async () => {
      const report = await examine()
      expect(codesOf(report)).toEqual(['lease-rejected'])
      expect(report.verdict).toBe('warn')
    })
  })
})

describe('the config', () => {
  afterEach(async () => {
    await lab.putConfig(NETWORK_CONFIG)
    await lab.waitConverged(0)
  })

  test('that cannot be used', async () => {
    await lab.putConfig('{"Network":"10.5.0.0/16"}')
    expect(codesOf(await examine())).toEqual(['config-invalid'])
  })

  test('that is gone', async () => {
    await lab.client.delete().key(`${ETCD_PREFIX}/config`)
    expect(codesOf(await examine())).toEqual(['config-missing'])
  })

  test('that was changed so that hosts cannot follow it while they run', async () => {
    await lab.putConfig(NETWORK_CONFIG.replace('"SubnetMax":"10.5.99.0"', '"SubnetLen":25'))
    await host.waitForStatus('a changed config', ({ problems }) => problems.length > 0)
    expect(codesOf(await examine())).toEqual(['config-changed'])
  })
})

describe('settings of the host', () => {
  const sysctl = (name: string, bad: string, good: string) =>
    [`echo ${bad} > /proc/sys/net/${name}`, `echo ${good} > /proc/sys/net/${name}`] as const

  test.each<[string, readonly [string, string], string]>([
    ['br_netfilter off', sysctl('bridge/bridge-nf-call-iptables', '0', '1'), 'br-netfilter-off'],
    [
      'the bridge on another subnet',
      [
        'ip address flush dev docker0 && ip address add 172.17.0.1/16 dev docker0',
        'ip address flush dev docker0 && ip address add $SUBNET dev docker0',
      ],
      'bridge-subnet',
    ],
    [
      'containers with too large an MTU',
      ['ip link set veth1 mtu 1500', 'ip link set veth1 mtu 1450'],
      'bridge-mtu',
    ],
  ])('%s, and what to do', async (_, [fault, undo], code) => {
    const { subnet } = await host.subnetEnv()
    await withFault(host, [fault, undo.replace('$SUBNET', subnet)], async () => {
      const report = await examine()
      expect(codesOf(report)).toEqual([code])
      expect(cureOf(report, code)).not.toEqual([])
    })
  })

  test('a bridge of another name is found by its address', async () => {
    const rename = (from: string, to: string) =>
      `ip link set ${from} down && ip link set ${from} name ${to} && ip link set ${to} up`
    await withFault(host, [rename('docker0', 'cni0'), rename('cni0', 'docker0')], async () => {
      const { checks } = await examine('--only=bridge')
      expect(checks).toMatchObject([{ state: 'ok', summary: expect.stringContaining('cni0') }])
    })
  })

  test('Docker that was started too early', async () => {
    const program = join(lab.directory, 'dockerd')
    copyFileSync('/bin/sleep', program)
    const dockerd = new LongProcess('dockerd', inNamespace(host.namespace, [program, '600']))
    const { subnet } = await host.subnetEnv()
    const inAMinute = Date.now() / 1000 + 60
    utimesSync(host.subnetFile, inAMinute, inAMinute)
    const wrong = 'ip address flush dev docker0 && ip address add 172.17.0.1/16 dev docker0'
    const right = `ip address flush dev docker0 && ip address add ${subnet} dev docker0`
    try {
      await withFault(host, [wrong, right], async () => {
        await host.waitUntil(
          'dockerd runs',
          async () => codesOf(await examine('--only=bridge'))[0] !== 'bridge-subnet',
        )
        expect(codesOf(await examine())).toEqual(['docker-started-early'])
      })
    } finally {
      await dockerd.stop('SIGKILL')
      utimesSync(host.subnetFile, Date.now() / 1000, Date.now() / 1000)
    }
  })

  /** Runs the doctor with another file in the place of a setting that belongs to the whole machine. */
  async function examineBehind(mounts: string) {
    const command = [process.execPath, OVERLAYCTL, 'doctor', '-o', 'json']
    return withSwiftEtcd(async () => {
      const { code, stdout, stderr } = await run(
        host.withDefaults(['sh', '-c', `${mounts} && exec "$@"`, 'sh', ...command]),
      )
      return readReport(code, stdout, stderr)
    })
  }

  test.each([
    ['100', 'conntrack-full'],
    ['105', 'conntrack-nearly-full'],
  ])('100 connections where %s are possible', async (max, code) => {
    const [used, most] = [join(lab.directory, 'used'), join(lab.directory, 'most')]
    writeFileSync(used, '100\n')
    writeFileSync(most, `${max}\n`)
    const table = '/proc/sys/net/netfilter/nf_conntrack_'
    const report = await examineBehind(
      `mount --bind ${used} ${table}count && mount --bind ${most} ${table}max`,
    )
    expect(codesOf(report)).toEqual([code])
  })

  test('br_netfilter missing where rules are those of iptables', async () => {
    const report = await examineBehind('mount -t tmpfs none /proc/sys/net/bridge')
    expect(codesOf(report)).toEqual(['br-netfilter-missing'])
    expect(cureOf(report, 'br-netfilter-missing')).toEqual(['modprobe br_netfilter'])
  })

  test('FORWARD drops, and our rules are not wanted', async () => {
    await host.stop()
    await host.exec('iptables', '-F', 'FORWARD')
    host.start({ flags: { 'iptables-forward-rules': 'false' } })
    await lab.waitConverged()
    try {
      await withFault(host, ['iptables -P FORWARD DROP', 'iptables -P FORWARD ACCEPT'], async () => {
        const report = await examine()
        expect(codesOf(report)).toEqual(['forward-drop'])
        for (const command of cureOf(report, 'forward-drop')) await follow(host, command)
        expect(codesOf(await examine())).toEqual([])
      })
    } finally {
      await host.stop()
      host.start()
      await lab.waitConverged()
    }
  })
})

describe('a host whose daemon is down', () => {
  beforeAll(async () => {
    await host.stop('SIGKILL')
  })
  /** The daemon puts the change right. */
  afterEach(async () => {
    host.start()
    await lab.waitConverged()
    await host.stop('SIGKILL')
  })
  afterAll(async () => {
    host.start()
    await lab.waitConverged()
  })

  test('is told that, and nothing else', async () => {
    expect(codesOf(await examine())).toEqual(['daemon-down'])
  })

  test.each([
    ['missing', 'ip link del flannel.1', 'device-missing'],
    ['down', 'ip link set flannel.1 down', 'device-down'],
    ['with too small an MTU', 'ip link set flannel.1 mtu 1400', 'device-mtu'],
    [
      'with a wrong local address',
      'ip link set flannel.1 type vxlan id 1 dev eth0 local 192.168.77.99',
      'device-local',
    ],
    ['without the route to a peer', 'ip nexthop flush dev flannel.1', 'peer-incomplete'],
    // The daemon's next check switches the setting on again.
    ['on a host that does not forward', 'echo 0 > /proc/sys/net/ipv4/ip_forward', 'forwarding-off'],
  ])('device %s', async (_, fault, code) => {
    await host.exec('sh', '-c', fault)
    expect(codesOf(await examine())).toEqual(['daemon-down', code])
  })

  test('its lease gone', async () => {
    await lab.client.delete().key(await keyOf(host))
    expect(codesOf(await examine())).toEqual(['daemon-down', 'lease-expired'])
  })

  test('its lease near its end', async () => {
    const key = await keyOf(host)
    const value = (await lab.client.get(key).string()) ?? ''
    const { ID } = await lab.client.leaseClient.leaseGrant({ TTL: 600 })
    await lab.client.put(key).value(value).lease(ID)
    expect(codesOf(await examine())).toEqual(['daemon-down', 'lease-near-expiry'])
    await lab.client.delete().key(key)
  })

  test('and etcd away: the kernel still tells who the peers are', async () => {
    const report = await examine('--etcd-endpoints=http://127.0.0.1:1')
    expect(codesOf(report)).toEqual(['daemon-down', 'etcd-unreachable'])
    expect(report.peers.map(({ reach }) => reach)).toEqual(['ok', 'ok'])
  })
})

describe('a host with two interfaces', () => {
  let two: Host
  beforeAll(async () => {
    ;[two] = (await lab.addHosts(1)) as [Host]
  })
  afterEach(async () => {
    const key = await keyOf(two)
    await two.stop('SIGKILL')
    await lab.client.delete().key(key)
    // The kernel removes the VXLAN device together with the interface.
    await ipBatch(two.namespace, ['link delete eth1'])
  })

  test('of which the wrong one was chosen', async () => {
    await ipBatch(two.namespace, [
      'link add eth1 type veth peer name eth1-end',
      'address add 10.99.0.1/24 dev eth1',
      'link set eth1 up',
    ])
    two.start({ flags: { iface: 'eth1' } })
    await lab.waitConverged()
    const report = await doctor(lab, two)
    expect(codesOf(report)).toEqual(['wrong-interface'])
    expect(cureOf(report, 'wrong-interface')[0]).toContain('--iface=eth0')
  })

  test('of which the reverse path filter wants the other', async () => {
    await ipBatch('underlay', [
      `link add second type veth peer name eth1 netns ${two.namespace}`,
      'link set second master underlay up',
    ])
    // Each interface answers for its own address only.
    await setSysctl(two.namespace, 'net/ipv4/conf/all/arp_ignore', '1')
    await setSysctl(two.namespace, 'net/ipv4/conf/all/arp_announce', '2')
    await ipBatch(two.namespace, ['address add 192.168.77.200/24 dev eth1', 'link set eth1 up'])
    two.start({ flags: { iface: 'eth1' } })
    await lab.waitConverged()
    expect(codesOf(await doctor(lab, two))).toEqual([])
    await setSysctl(two.namespace, 'net/ipv4/conf/eth1/rp_filter', '1')
    const report = await doctor(lab, two)
    expect(codesOf(report)).toEqual(['rp-filter-strict'])
    expect(report.peers.every(({ reach }) => reach !== 'ok')).toBe(true)
    await follow(two, cureOf(report, 'rp-filter-strict')[0])
    expect(codesOf(await doctor(lab, two))).toEqual([])
  })
})

test('all rules are read beside tables with a flag, whose JSON old versions of nft cut off', async () => {
  // This table is made after those of iptables, as after a restart of the daemon. In this order nft reads
  // freed memory.
  await host.stop()
  host.start()
  await host.waitConverged(2)
  const asleep =
    'nft "add table inet asleep { flags dormant; }; add chain inet asleep f { type filter hook forward priority 5; policy drop; }"'
  await withFault(host, [asleep, 'nft delete table inet asleep'], async () => {
    const report = await examine()
    expect({ verdict: report.verdict, codes: codesOf(report) }).toEqual({ verdict: 'ok', codes: [] })
  })
  const drops =
    'nft "add table inet t; add chain inet t f { type filter hook forward priority 5; policy drop; }"'
  await withFault(host, [drops, 'nft delete table inet t'], async () => {
    const report = await examine()
    expect(report.verdict).toBe('fail')
    expect(JSON.stringify(report.checks)).toContain('inet t')
  })
})

test("a peer that is flannel's is a peer like any other", async () => {
  const [free] = await lab.addHosts(1)
  if (free === undefined) throw new Error('no host was added')
  const flannel = await FlannelHost.start(lab, free, { ipMasq: true })
  await lab.waitConverged(1)
  await flannel.learnAll()
  const report = await examine()
  expect(codesOf(report)).toEqual([])
  expect(report.peers.find(({ publicIp }) => publicIp === free.address)).toMatchObject({ reach: 'ok' })
})
