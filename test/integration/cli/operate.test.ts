/**
 * The work of an operator with overlayctl on running hosts, in both families: views, drain, changes of the
 * config, and `down`.
 */
import { chmodSync, existsSync, mkdirSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { leaseDocumentSchema, peersDocumentSchema, routesDocumentSchema } from '../../../src/api/documents'
import { statusSchema } from '../../../src/api/status'
import { hostKeysPath } from '../../../src/host/wireguard-keys'
import { DUAL_STACK_CONFIG, ETCD_PREFIX, Host, Lab } from '../../lab/lab'
import { dualPeer, leaseKey, leaseValue } from '../../lab/leases'
import { patient } from '../../lab/patience'
import { type Command, LongProcess, run } from '../../lab/process'
import { OVERLAYCTL } from '../../lab/programs'
import { Pending, waitFor } from '../../lab/wait'
import { foreignState } from '../../support/snapshot'

jest.setTimeout(patient(60_000))

let lab: Lab
let bin: string
beforeAll(async () => {
  lab = await Lab.create({ hosts: 3, config: DUAL_STACK_CONFIG })
  // Only the name counts. With this program in PATH, our rules are in Docker's hooks too.
  bin = join(lab.directory, 'bin')
  mkdirSync(bin)
  writeFileSync(join(bin, 'dockerd'), '#!/bin/sh\n')
  chmodSync(join(bin, 'dockerd'), 0o755)
  for (const host of [lab.host(1), lab.host(2)]) start(host)
  await lab.waitConverged()
  for (const host of [lab.host(1), lab.host(2)]) await host.addContainer()
})
afterAll(() => lab?.close())

const start = (host: Host) =>
  host.start({ flags: { 'ip-masq': 'true' }, env: { PATH: `${bin}:${process.env['PATH']}` } })

/** Runs a command as an operator types the command: without flags for etcd and the daemon. */
const command = (host: Host, ...words: readonly string[]): Command => host.overlayctlCommand(...words)
const ctl = (host: Host, ...words: readonly string[]) => run(command(host, ...words))

async function ownKey(host: Host): Promise<string> {
  const { lease } = await host.waitForStatus('a subnet', ({ lease }) => lease?.subnet !== undefined)
  const name = [lease?.subnet, lease?.ipv6Subnet].map((subnet) => subnet?.replace('/', '-')).join('&')
  return leaseKey(ETCD_PREFIX, name)
}
/** The IPv4 subnet in a key. */
const ownSubnet = (key: string): string => /subnets\/([\d.]+)-/.exec(key)?.[1] ?? 'none'
const inEtcd = async (key: string) => (await lab.client.get(key).exec()).kvs[0]?.value.toString()

describe('looking', () => {
  test('status, peers and lease are what their schemas say, and text is one screen of it', async () => {
    const host = lab.host(1)
    // One look in which etcd does not answer within a second is another code.
    const good = (...words: string[]): Promise<string> =>
      waitFor(words.join(' '), async () => {
        const { code, stdout, stderr } = await ctl(host, ...words)
        return code === 0 ? stdout : new Pending(stdout + stderr)
      })
    const json = async (...words: string[]): Promise<unknown> =>
      JSON.parse(await good(...words, '-o', 'json'))
    const { lease } = statusSchema.parse(await json('status'))
    const peers = await json('peers')
    expect(peersDocumentSchema.parse(peers).peers.map(({ state }) => state)).toEqual(['ok', 'ok'])
    expect(leaseDocumentSchema.parse(await json('lease'))).toMatchObject({
      daemonRunning: true,
      lease: { subnet: lease?.subnet, state: 'held', reserved: false, modRevision: lease?.modRevision },
    })
    const container = lab.host(2).containers[0]
    for (const address of [container?.address, container?.address6]) {
      const { stdout } = await ctl(host, 'peers', `${address}`)
      expect(stdout).toMatch(/ ok\n\n1 ok of 2 peers\n$/)
    }
    expect((await ctl(host, 'status', '-o', 'yaml')).stdout).toMatch(/^schema: 1\n/)
    const text = await good('status')
    expect(text).toMatch(/^state {4}healthy\n/)
    expect(text.split('\n').length).toBeLessThan(24)
  })

  test('routes tells what is in sync, missing, wrong and foreign', async () => {
    const host = lab.host(1)
    const routes = async () => {
      const { code, stdout } = await ctl(host, 'routes', '-o', 'json')
      return { code, ...routesDocumentSchema.parse(JSON.parse(stdout)) }
    }
    const before = await routes()
    expect(before).toMatchObject({ code: 0, daemonRunning: true })
    expect(Object.keys(before.counts)).toEqual(['in-sync'])
    expect(before.objects.map(({ kind }) => kind).sort()).toEqual(
      ['device', 'device', 'fdb', 'fdb', 'neighbour', 'neighbour', 'nexthop', 'route', 'route'].sort(),
    )
    await host.stop('SIGKILL')
    const { subnet = '' } =
      statusSchema.parse(JSON.parse((await ctl(lab.host(2), 'status', '-o', 'json')).stdout)).lease ?? {}
    const [address = ''] = subnet.split('/')
    await host.exec('ip', 'route', 'del', subnet)
    await host.exec(
      'ip',
      'neigh',
      'replace',
      address,
      'lladdr',
      '02:00:00:00:00:99',
      'dev',
      Host.device,
      'nud',
      'permanent',
    )
    await host.exec('ip', 'route', 'add', '10.5.250.0/24', 'dev', 'eth0')
    const broken = await routes()
    expect(broken).toMatchObject({
      code: 1,
      daemonRunning: false,
      counts: { missing: 1, wrong: 1, foreign: 1 },
    })
    expect(broken.objects.slice(0, 3)).toEqual([
      { kind: 'route', object: expect.stringContaining(`${subnet} through nexthop`), state: 'missing' },
      {
        kind: 'neighbour',
        object: expect.stringContaining(`${address} lladdr `),
        state: 'wrong',
        found: `${address} lladdr 02:00:00:00:00:99`,
      },
      { kind: 'route', object: '10.5.250.0/24 dev eth0', state: 'foreign' },
    ])
    expect((await ctl(host, 'lease')).stdout).toContain('nobody renews it')
    await host.exec('ip', 'route', 'del', '10.5.250.0/24')
    start(host)
    await lab.waitConverged()
    expect((await routes()).code).toBe(0)
  })

  test('--watch shows each change when it comes, until it is told to end', async () => {
    const host = lab.host(1)
    const watching = new LongProcess('watch', command(host, 'peers', '--watch', '-o', 'json'))
    try {
      await watching.waitForOutput(/"total":2,/)
      await lab.putPeers(dualPeer(3))
      await watching.waitForOutput(/"total":4,.*10\.5\.153\.0\/24.*\n/)
      await lab.deletePeer(dualPeer(3))
      const from = watching.output.lastIndexOf('"total":4')
      await watching.waitForOutput(/"total":2,/, { from })
      // The follower outlives the daemon, and finds the next daemon.
      await host.restart()
      await watching.waitForOutput(/"total":2,/, { from: watching.output.length, timeoutMs: 20_000 })
      expect(await watching.stop('SIGINT')).toEqual({ code: 0, signal: null })
    } finally {
      await watching.stop('SIGKILL')
    }
    for (const line of watching.output.trimEnd().split('\n')) peersDocumentSchema.parse(JSON.parse(line))
    await lab.waitConverged()
  })
})

describe('drain', () => {
  test('says who uses the subnet, and does nothing unasked', async () => {
    const host = lab.host(1)
    const revision = async () => (await lab.client.get('/').exec()).header.revision
    const before = await revision()
    const dry = await ctl(host, 'drain', '--dry-run')
    expect(dry).toMatchObject({ code: 0, stdout: expect.stringContaining('nothing was done') })
    expect(dry.stdout).toContain('docker0')
    expect(dry.stdout).toContain('1 port: veth1')
    expect(dry.stdout).toContain(host.containers[0]?.address6)
    expect(await ctl(host, 'drain')).toMatchObject({ code: 1, stderr: expect.stringContaining('give --yes') })
    expect(await revision()).toBe(before)
  })

  test('gives the lease back: others remove the peer, the kernel keeps all, --undo ends it', async () => {
    const [host, other] = [lab.host(1), lab.host(2)]
    const key = await ownKey(host)
    const monitor = await lab.monitor(host)
    expect(await ctl(host, 'drain', '--yes')).toMatchObject({
      code: 0,
      stdout: expect.stringContaining('is given back'),
    })
    expect(await inEtcd(key)).toBeUndefined()
    await other.waitConverged(0)
    const status = await host.waitForStatus('drained', ({ lease }) => lease?.state === 'drained')
    expect(status).toMatchObject({ state: 'degraded', convergence: { converged: true } })
    expect(status.peers.map(({ state }) => state)).toEqual(['ok', 'ok'])
    expect(await ctl(host, 'lease')).toMatchObject({
      code: 1,
      stdout: expect.stringMatching(/^state +drained since /m),
    })
    expect(await ctl(host, 'drain', '--yes')).toMatchObject({
      code: 0,
      stdout: expect.stringMatching(/^drained already/),
    })
    // Joins and leaves are followed. A leave of another host is not in doubt because our own key is absent.
    await lab.putPeers(dualPeer(1))
    await host.waitForStatus('the newcomer', ({ peers }) => peers.length === 4)
    await lab.deletePeer(dualPeer(1))
    await host.waitForStatus('the newcomer gone', ({ peers }) => peers.length === 2)
    expect(await inEtcd(key)).toBeUndefined()
    expect(
      (await monitor.changes()).filter((line) => !/10\.5\.151\.|fd00:5:0:1001:|02:fa:4e/.test(line)),
    ).toEqual([])

    expect(await ctl(host, 'drain', '--undo')).toMatchObject({
      code: 0,
      stdout: expect.stringContaining("is this host's again"),
    })
    expect(await inEtcd(key)).toBeDefined()
    await lab.waitConverged()
    const [here, there] = [host.containers[0], other.containers[0]]
    if (here === undefined || there === undefined) throw new Error('there are no containers')
    expect(await lab.ping(there, here)).toMatchObject({ lost: 0 })
    expect(await ctl(host, 'drain', '--undo')).toMatchObject({
      code: 0,
      stdout: 'not drained: the lease is held\n',
    })
  })

  test('whose subnet someone else has taken meanwhile is not taken back, until it is free', async () => {
    const host = lab.host(1)
    const key = await ownKey(host)
    await ctl(host, 'drain', '--yes')
    await lab.client.put(key).value(leaseValue({ ...dualPeer(7), subnet: '' }))
    await host.waitForStatus('who has it', ({ lease }) => lease?.reason?.includes('172.16.0.8') ?? false)
    expect(await ctl(host, 'drain', '--undo')).toMatchObject({
      code: 1,
      stderr: expect.stringContaining('conflict'),
    })
    expect(await inEtcd(key)).toContain('172.16.0.8')
    await lab.client.delete().key(key)
    await lab.waitConverged()
  })

  test('a reservation is not given back, and a restart ends a drain', async () => {
    const host = lab.host(1)
    const key = await ownKey(host)
    const subnet = key.replace(/^.*\//, '').split('&')[0]?.replace('-', '/') ?? ''
    await ctl(host, 'reserve', `--public-ip=${host.address}`, `--public-ipv6=${host.address6}`)
    expect(await ctl(host, 'drain', '--yes')).toMatchObject({
      code: 1,
      stderr: expect.stringContaining(`overlayctl release ${subnet}`),
    })
    expect(await ctl(host, 'release', subnet, '--yes')).toMatchObject({ code: 0 })
    await host.waitForStatus('an ordinary lease', ({ lease }) => lease?.etcdLease !== undefined)
    await ctl(host, 'drain', '--yes')
    await host.restart()
    await lab.waitConverged()
    expect(await ownKey(host)).toBe(key)
  })
})

describe('config set', () => {
  const other = DUAL_STACK_CONFIG.replace('10.5.99.0', '10.5.99.0","SubnetLen":24,"SubnetMin":"10.5.1.0')
  const harmful = DUAL_STACK_CONFIG.replace('"SubnetMax"', '"SubnetLen":25,"SubnetMax"').replace(
    '99.0',
    '99.128',
  )

  test('shows what it does, and writes nothing that harms a host unasked', async () => {
    const host = lab.host(1)
    const dry = await ctl(host, 'config', 'set', '--dry-run', harmful)
    expect(dry).toMatchObject({ code: 0, stdout: expect.stringContaining('nothing was written') })
    expect(dry.stdout).toContain('WHY IT DOES NOT FIT')
    expect(dry.stdout).toContain(host.address)
    expect(await ctl(host, 'config', 'set', harmful)).toMatchObject({
      code: 1,
      stderr: expect.stringContaining('--yes'),
    })
    const covering = DUAL_STACK_CONFIG.replace('10.5.0.0/16', '192.168.0.0/16').replace(
      '10.5.99.0',
      '192.168.99.0',
    )
    expect(await ctl(host, 'config', 'set', covering)).toMatchObject({
      code: 1,
      stdout: expect.stringContaining(`contains ${host.address}, this host's own address`),
    })
    expect(await lab.client.get(`${ETCD_PREFIX}/config`).string()).toBe(DUAL_STACK_CONFIG)
    // A change that takes nothing from any host needs no --yes.
    expect(await ctl(host, 'config', 'set', other)).toMatchObject({
      code: 0,
      stdout: expect.stringMatching(/\nwritten\n$/),
    })
    await lab.putConfig(DUAL_STACK_CONFIG)
  })

  test('asks before it requires encryption of hosts without keys, and lists them', async () => {
    const host = lab.host(1)
    const encrypted = (word: string) => DUAL_STACK_CONFIG.replace('"vxlan"', `"vxlan","Encryption":"${word}"`)
    const refused = await ctl(host, 'config', 'set', encrypted('required'))
    expect(refused).toMatchObject({ code: 1, stderr: expect.stringContaining('--yes') })
    expect(refused.stdout).toContain('WHY IT IS CUT OFF')
    expect(refused.stdout).toMatch(
      new RegExp(`^${ownSubnet(await ownKey(host))}/24 .*announces no keys`, 'm'),
    )
    expect(refused.stdout).toContain('60 bytes less')
    expect(await lab.client.get(`${ETCD_PREFIX}/config`).string()).toBe(DUAL_STACK_CONFIG)
    expect(await ctl(host, 'config', 'set', '--dry-run', encrypted('prefer'))).toMatchObject({
      code: 0,
      stdout: expect.stringMatching(/encryption prefer, UDP ports 51820 and 51821.*60 bytes less/s),
    })
  })

  test('whatever someone else writes while it asks is not written over', async () => {
    const words = command(lab.host(1), 'config', 'set', harmful)
      .map((word) => `'${word}'`)
      .join(' ')
    // A terminal whose user answers once a file exists.
    const answer = join(lab.directory, 'answer')
    const user = `(until [ -e ${answer} ]; do sleep 0.05; done; echo yes; sleep 5) | script -qec "$0" /dev/null`
    const asking = new LongProcess('config set', ['sh', '-c', user, words])
    try {
      await asking.waitForOutput(/Type yes/)
      await lab.putConfig(other)
      writeFileSync(answer, '')
      await asking.waitForOutput(/someone else changed the network config/)
    } finally {
      await asking.stop('SIGKILL')
    }
    expect(await lab.client.get(`${ETCD_PREFIX}/config`).string()).toBe(other)
    await lab.putConfig(DUAL_STACK_CONFIG)
  })
})

describe('rotate-key', () => {
  test('is refused where nothing is encrypted, and where no daemon runs', async () => {
    const host = lab.host(1)
    await ownKey(host)
    expect(await ctl(host, 'rotate-key')).toMatchObject({
      code: 1,
      stdout: '',
      stderr: expect.stringMatching(
        /this host does not encrypt: the network config does not ask for it.*Backend\.Encryption/s,
      ),
    })
    expect(await ctl(host, 'rotate-key', '--run-dir=/nonexistent')).toMatchObject({
      code: 2,
      stderr: expect.stringContaining('overlayd does not run'),
    })
  })
})

describe('teardown', () => {
  /** Routing tables of the two WireGuard devices of VNI 1. */
  const TABLES = [(79 << 24) + 1, (80 << 24) + 1]
  /** Rules in every table, of both programs and families. */
  const rules = async (host: Host): Promise<string[]> => {
    const texts = await Promise.all([
      host.exec('iptables-save'),
      host.exec('ip6tables-save'),
      host.exec('nft', 'list', 'tables'),
    ])
    return texts
      .join('\n')
      .split('\n')
      .filter((line) => /^-A|flannel|FLANNEL|overlayd/.test(line))
      .sort()
  }
  // A base chain that iptables made for our rules belongs to nobody, and stays.
  const state = async (host: Host) => ({
    ...(await foreignState(host, () => false)),
    rules: await rules(host),
  })

  beforeAll(async () => {
    const host = lab.host(3)
    for (const words of [
      'ip link add own0 type veth peer name own1',
      'ip link set own0 addrgenmode none',
      'ip link set own1 addrgenmode none',
      // Forwarding stays on, and changes what the kernel shows.
      'sysctl -qw net.ipv4.ip_forward=1 net.ipv6.conf.all.forwarding=1',
      'ip link set own0 up',
      'ip link set own1 up',
      'ip address add 10.9.0.1/24 dev own0',
      'ip route add 10.5.240.0/24 dev own0',
      'ip link add flannel.9 type vxlan id 9 dstport 4789',
      'ip nexthop add id 77 via 10.9.0.7 dev own0',
      'iptables -N DOCKER-USER',
      'iptables -A FORWARD -s 10.5.0.0/16 -j DOCKER-USER',
      'ip6tables -A FORWARD -s fd00:5::/48 -j ACCEPT',
      // Of the name of a device for encryption, and another kind.
      'ip link add fl-wg.1 type bridge',
      'ip -6 rule add oif fl-wgb.1 lookup 500 priority 500 protocol 3',
      // In the table of the first WireGuard device of VNI 1.
      `ip -6 route add unreachable fd99::/64 table ${TABLES[0]} protocol 3`,
    ]) {
      await host.exec(...(words.split(' ') as [string, ...string[]]))
    }
  })

  test.each([
    ['iptables', DUAL_STACK_CONFIG, false],
    ['nftables', DUAL_STACK_CONFIG.replace('"EnableIPv6"', '"EnableNFTables":true,"EnableIPv6"'), true],
  ])(
    'with %s leaves a host as it was, and tells what went; again, there is nothing',
    async (_mode, config, isReserved) => {
      const host = lab.host(3)
      await lab.putConfig(config)
      const before = await state(host)
      start(host)
      await lab.waitConverged()
      const key = await ownKey(host)
      const reserve = ['reserve', `--public-ip=${host.address}`, `--public-ipv6=${host.address6}`]
      if (isReserved) expect(await ctl(host, ...reserve)).toMatchObject({ code: 0 })
      expect(await ctl(host, 'teardown', '--yes')).toMatchObject({
        code: 1,
        stderr: expect.stringContaining('systemctl stop overlayd'),
      })
      // A daemon with other directories on the same device is found too.
      expect(await ctl(host, 'teardown', '--yes', '--run-dir=/nonexistent')).toMatchObject({
        code: 1,
        stderr: expect.stringContaining('another overlayd looks after flannel'),
      })
      await host.stop()
      // What encryption leaves behind, on a kernel that may have no WireGuard.
      for (const words of [
        `ip -6 rule add oif fl-wgb.1 lookup ${TABLES[1]} priority 79 protocol 79`,
        `ip -6 route add unreachable default table ${TABLES[1]} metric 4294967295 protocol 79`,
        `ip -6 route add unreachable default table ${TABLES[0]} metric 4294967295 protocol 79`,
        'nft add table inet fl-wg.1',
        'nft add chain inet fl-wg.1 in',
        'nft add rule inet fl-wg.1 in counter',
        // What Docker's nftables backend had overlayd make.
        'nft add table ip overlayd-docker',
      ]) {
        await host.exec(...(words.split(' ') as [string, ...string[]]))
      }
      writeFileSync(hostKeysPath(host.stateDirectory), '{}')

      // The kernel's own link-local addresses take a second to settle.
      const addresses = () => host.exec('ip', '-6', 'address', 'show')
      await host.waitUntil('its addresses settled', async () => !(await addresses()).includes('tentative'))
      const running = await state(host)
      expect(running).not.toEqual(before)
      const dry = await ctl(host, 'teardown', '--dry-run')
      expect(dry).toMatchObject({ code: 0, stdout: expect.stringContaining('would be removed') })
      expect(dry.stdout).toContain('the interface fl-wg.1 is not a WireGuard device (bridge), and stays')
      expect(dry.stdout).toContain(isReserved ? 'stays reserved' : 'the lease of 10.5.')
      expect(await ctl(host, 'teardown', '--lease')).toMatchObject({
        code: 1,
        stderr: expect.stringContaining('--yes'),
      })
      expect(await state(host)).toEqual(running)
      expect(await inEtcd(key)).toBeDefined()

      const { code, stdout } = await ctl(host, 'teardown', '--lease', '--yes')
      expect(code).toBe(0)
      for (const gone of [
        ...(isReserved ? [] : [key]),
        Host.device,
        Host.device6,
        'DOCKER-USER',
        host.subnetFile,
        host.stateDirectory,
        hostKeysPath(host.stateDirectory),
        'the IPv6 rule for packets to fl-wgb.1',
        `its table ${TABLES[0]}`,
        'nftables table inet fl-wg.1',
        'nft table ip overlayd-docker',
      ]) {
        expect(stdout).toMatch(new RegExp(`^removed .*${gone.replaceAll('.', '\\.')}`, 'm'))
      }
      expect(await state(host)).toEqual(before)
      expect((await inEtcd(key)) !== undefined).toBe(isReserved)
      const files = [
        host.subnetFile,
        join(host.stateDirectory, 'state.json'),
        hostKeysPath(host.stateDirectory),
      ]
      expect(files.filter(existsSync)).toEqual([])
      const rules6 = await host.exec('ip', '-6', 'rule')
      expect(rules6).toContain('oif fl-wgb.1 [detached] lookup 500')
      expect(rules6).not.toContain('79:')
      expect(await ctl(host, 'teardown', '--lease', '--yes')).toEqual(
        expect.objectContaining({
          code: 0,
          stdout: expect.stringMatching(/^nothing of overlayd is on this host\n/),
        }),
      )
      if (isReserved) await lab.client.delete().key(key)
      await lab.waitConverged()
    },
  )

  test('without etcd, and after a daemon that was killed, it goes by what the host has', async () => {
    const host = lab.host(3)
    await lab.putConfig(DUAL_STACK_CONFIG.replace('"vxlan"', '"vxlan","VNI":5,"DirectRouting":true'))
    const before = await state(host)
    start(host)
    await lab.waitConverged()
    await host.stop('SIGKILL')
    const { code, stdout } = await ctl(host, 'teardown', '--yes', '--etcd-endpoints=http://127.0.0.1:1')
    expect(code).toBe(0)
    expect(stdout).toContain('etcd could not be asked')
    expect(stdout).toMatch(/^removed device flannel\.5/m)
    expect(stdout).toMatch(/^removed route 10\.5\.\d+\.0\/24 via 192\.168\.77\.1[12] on interface/m)
    expect(await state(host)).toEqual(before)
  })
})

describe('a mistake', () => {
  const told = async (...words: string[]) => {
    const { code, stdout, stderr } = await run([process.execPath, OVERLAYCTL, ...words])
    return { code, stdout, stderr }
  }

  test('is told in a line, with what was meant', async () => {
    const hints: [string, string][] = [
      ['stauts', 'did you mean status?'],
      ['status --outptu=json', 'did you mean --output?'],
      ['config ste x', 'did you mean config set?'],
      ['peers --state=okay', 'the states are ok, held, pending, failing, rejected'],
      ['xyzzy', 'unknown command "xyzzy"; there are status, peers, lease, '],
      ['config set ""', 'the config is empty'],
    ]
    const answers = await Promise.all(hints.map(([words]) => told(...words.replaceAll('"', '').split(' '))))
    for (const [place, { stderr, ...rest }] of answers.entries()) {
      expect(rest).toEqual({ code: 2, stdout: '' })
      expect(stderr).toMatch(/^overlayctl: [^\n]*\n$/)
      expect(stderr).toContain(hints[place]?.[1])
    }
  })

  test('says where it comes from only where that is asked for', async () => {
    const words = ['config', 'get', '--etcd-endpoints=http://127.0.0.1:1']
    const [plain, debug] = await Promise.all([told(...words), told(...words, '--debug')])
    expect(plain?.stderr).toMatch(/^overlayctl: [^\n]*\n$/)
    expect(debug?.stderr).toMatch(/\n {4}at /)
  })
})
