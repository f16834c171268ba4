/**
 * The purpose of the project, on hosts that boot: one cloud-config leads to containers that reach each other.
 * Later events (reboots, upgrades, changes of the config) keep them reachable.
 */
import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { version } from '../../package.json'
import { statusSchema } from '../../src/api/status'
import type { BootedContainer, BootedHost } from '../lab/booted-host'
import { assertBootable, BootedLab } from '../lab/booted-lab'
import { exec } from '../lab/namespace'
import { patient, patientSeconds } from '../lab/patience'
import { type PingResult, ping, RunningPing } from '../lab/ping'
import { LongProcess } from '../lab/process'
import { Pending } from '../lab/wait'
import { describeFaults } from './faults'
import { describeMoving } from './moving'
import { describeNetworks } from './networks'

assertBootable()
jest.setTimeout(patient(120_000))

const UNDERLAY_MTU = 1500
const VXLAN_OVERHEAD = 50
/** IP and ICMP headers. */
const PING_OVERHEAD = 28

let lab: BootedLab
const containers: BootedContainer[] = []

beforeAll(async () => {
  lab = await BootedLab.create()
  try {
    await lab.boot(2)
  } catch (error) {
    // No afterAll after this.
    await lab.close()
    throw error
  }
})

afterAll(async () => {
  await lab?.close()
})

const container = (number: number): BootedContainer => {
  const found = containers[number - 1]
  if (found === undefined) throw new Error(`there is no container on node${number}: an earlier test failed`)
  return found
}

/** Pings from container to container, by the number of their hosts. */
const pingBetween = (from: number, to: number, count = 20): Promise<PingResult> =>
  ping(container(from).namespace, container(to).address, { count })

/** Waits until one ping is answered. */
const waitForPing = (from: number, to: number): Promise<true> =>
  lab.host(from).waitFor(`to reach the container of node${to}`, async () => {
    const { received, output } = await pingBetween(from, to, 1)
    return received === 1 ? true : new Pending(output)
  })

/**
 * Waits until `overlayctl status` is healthy: right after a start, etcd may not have answered yet.
 * @returns the output
 */
const waitHealthy = (host: BootedHost, ...flags: readonly string[]): Promise<string> =>
  host.waitFor(['to be healthy', ...flags].join(' '), async () => {
    const { code, stdout, stderr } = await host.run('overlayctl', 'status', ...flags)
    return code === 0 && stdout.includes('healthy') ? stdout : new Pending(stdout + stderr)
  })

/** The common beginning of the addresses of a subnet, such as `10.5.12.`. */
const subnetOf = async (host: BootedHost): Promise<string> =>
  ((await host.subnetEnv())['FLANNEL_SUBNET'] ?? '').replace(/\d+\/24$/, '')

/** The time of an event of a unit. The journal has the event once. */
async function timeOf(host: BootedHost, event: 'starting' | 'started', unit: string) {
  const found = (await host.unitEvents()).filter((each) => each.unit === unit && each.event === event)
  expect({ unit, event, times: found.length }).toEqual({ unit, event, times: 1 })
  return found[0] ?? { monotonic: Number.NaN, realtime: Number.NaN }
}

/** @returns seconds since the boot of the machine; the unit itself starts earlier, and waits */
const dockerdStarted = async (host: BootedHost): Promise<number> =>
  Number(await host.property('docker.service', 'ExecMainStartTimestampMonotonic')) / 1e6

test('the boot order is etcd, overlayd, docker, also on the first boot', async () => {
  const [first, second] = [lab.host(1), lab.host(2)]
  const etcdStarted = await timeOf(first, 'started', 'etcd.service')
  const overlaydStarting = await timeOf(first, 'starting', 'overlayd.service')
  expect(overlaydStarting.monotonic).toBeGreaterThanOrEqual(etcdStarted.monotonic)
  expect(await second.property('etcd.service', 'ActiveState')).toBe('inactive')
  for (const host of [first, second]) {
    const overlaydStarted = await timeOf(host, 'started', 'overlayd.service')
    await timeOf(host, 'started', 'docker.service')
    expect(await dockerdStarted(host)).toBeGreaterThanOrEqual(overlaydStarted.monotonic)
    const written = Number(await host.exec('stat', '--format=%.6Y', '/run/flannel/subnet.env'))
    expect(written).toBeLessThanOrEqual(overlaydStarted.realtime)
  }
})

test('containers get addresses of their host’s /24, and an MTU that leaves room for VXLAN', async () => {
  containers.push(...(await Promise.all(lab.hosts.map((host) => host.startContainer('c1')))))
  const subnets = await Promise.all(lab.hosts.map(subnetOf))
  expect(new Set(subnets).size).toBe(2)
  for (const [index, host] of lab.hosts.entries()) {
    const { namespace, address } = container(index + 1)
    expect(address.replace(/\d+$/, '')).toBe(subnets[index])
    expect((await host.subnetEnv())['FLANNEL_MTU']).toBe(`${UNDERLAY_MTU - VXLAN_OVERHEAD}`)
    const { stdout } = await exec(namespace, ['ip', '-o', 'link', 'show', 'dev', 'eth0'])
    expect(stdout).toContain(` mtu ${UNDERLAY_MTU - VXLAN_OVERHEAD} `)
  }
})

test.each([
  [1, 2],
  [2, 1],
])('20 pings from the container of node%i to that of node%i are all answered', async (from, to) => {
  await waitForPing(from, to)
  expect(await pingBetween(from, to)).toMatchObject({ sent: 20, received: 20 })
})

test('each host probes the other, with the rights and the sandbox of the unit', async () => {
  for (const host of lab.hosts) {
    const mesh = await host.waitFor('an answer to a probe', async () => {
      const { stdout, stderr } = await host.run('overlayctl', 'status', '-o', 'json')
      if (stdout === '') return new Pending(stderr)
      const { mesh: found } = statusSchema.parse(JSON.parse(stdout))
      return found?.peers.answering === 1 ? found : new Pending(stdout)
    })
    expect(mesh.state).toBe('on')
    expect(await host.property('overlayd.service', 'CapabilityBoundingSet')).toBe('cap_net_admin')
  }
})

test('packets of full size need no fragments', async () => {
  const send = (size: number) =>
    exec(container(1).namespace, [
      'ping',
      '-n',
      '-c3',
      '-i0.01',
      `-W${patientSeconds(2)}`,
      '-Mdo',
      `-s${size}`,
      container(2).address,
    ])
  const full = UNDERLAY_MTU - VXLAN_OVERHEAD - PING_OVERHEAD
  expect((await send(full)).stdout).toContain(' 3 received, 0% packet loss')
  expect((await send(full + 1)).stderr).toContain('message too long')
})

/** The test's own end of the underlay. This end has no route to the overlay. */
const OUTSIDE = '192.0.2.1'

const pingOutside = (from: number): Promise<PingResult> =>
  ping(container(from).namespace, OUTSIDE, { count: 5 })

test('a container reaches what is outside of the overlay, where its host answers for it', async () => {
  expect(await pingOutside(1)).toMatchObject({ received: 5 })
})

test('TCP connections keep the address of the container they come from', async () => {
  const program = `
    const server = require('node:net').createServer((socket) => socket.end(socket.remoteAddress + '\\n'))
    server.listen(8080, '0.0.0.0', () => console.log('listening'))`
  const { namespace } = container(2)
  const server = new LongProcess('TCP server', [
    'nsenter',
    `--net=/run/netns/${namespace}`,
    process.execPath,
    '-e',
    program,
  ])
  try {
    await server.waitForOutput(/listening/)
    const connect = `require('node:net').connect(8080, '${container(2).address}').pipe(process.stdout)`
    const { stdout } = await exec(container(1).namespace, [process.execPath, '-e', connect])
    expect(stdout.trim()).toBe(container(1).address)
  } finally {
    await server.stop()
  }
})

test.each([
  ['overlayd', 2],
  ['etcd', 1],
])('a restart of %s loses no packet and stops no container', async (unit, node) => {
  const host = lab.host(node)
  const startedAt = () => host.exec('docker', 'inspect', '--format={{.State.StartedAt}}', 'c1')
  const [before, process] = [await startedAt(), await host.property(unit, 'MainPID')]
  const pings = [await RunningPing.start(container(1).namespace, container(2).address)]
  try {
    pings.push(await RunningPing.start(container(2).namespace, container(1).address))
    await host.exec('systemctl', 'restart', unit)
    for (const each of pings) {
      const { sent, lost } = await each.stop()
      expect(lost).toBe(0)
      expect(sent).toBeGreaterThan(10)
    }
  } finally {
    for (const each of pings) each.kill()
  }
  expect(await host.property(unit, 'MainPID')).not.toBe(process)
  expect(await startedAt()).toBe(before)
})

test('a restart of docker brings the container back into the overlay', async () => {
  const subnet = await subnetOf(lab.host(2))
  await lab.host(2).exec('systemctl', 'restart', 'docker')
  containers[1] = await lab.host(2).container('c1')
  expect(container(2).address).toContain(subnet)
  await waitForPing(1, 2)
  expect(await pingBetween(2, 1)).toMatchObject({ received: 20 })
})

// The kernel is the same in all suites, and each fault takes seconds to be seen.
if (process.env['OVERLAYD_HOSTS_SUITE'] === undefined) describeFaults(() => lab)

test('Docker says what it waits for, where it waits for overlayd', async () => {
  const host = lab.host(2)
  const subnet = await subnetOf(host)
  await host.exec('systemctl', 'stop', 'docker.socket', 'docker', 'overlayd')
  await host.exec('systemctl', 'mask', '--runtime', 'overlayd')
  await host.exec('rm', '/run/flannel/subnet.env')
  await host.exec('systemctl', 'start', '--no-block', 'docker')
  await host.waitFor('to say what Docker waits for', async () => {
    const { stdout } = await host.run('systemctl', 'status', '--no-pager', 'docker')
    const says =
      /Active: activating \(start-pre\).*Status: "waits for overlayd to write .*overlayd is masked/s
    return says.test(stdout) ? true : new Pending(stdout)
  })
  await host.exec('systemctl', 'unmask', '--runtime', 'overlayd')
  await host.exec('systemctl', 'start', 'overlayd', 'docker')
  expect(await host.property('docker', 'StatusText')).toBe('')
  containers[1] = await host.container('c1')
  expect(container(2).address).toContain(subnet)
  await waitForPing(1, 2)
})

test('Docker goes without overlayd, and with it again, by one command each', async () => {
  const host = lab.host(2)
  const dropIn = '/etc/systemd/system/docker.service.d/40-overlayd.conf'
  const bridge = async () => (await host.exec('ip', '-4', '-o', 'address', 'show', 'docker0')).trim()
  const before = await bridge()
  // cloud-init wrote this one. It has no comments.
  const foreign = await host.run('overlayctl', 'docker', 'disable')
  expect(foreign).toMatchObject({
    code: 1,
    stderr: expect.stringContaining(`${dropIn} is a file of your own`),
  })
  expect(await host.exec('overlayctl', 'docker', 'enable', '--force')).toContain('enabled')
  expect(await host.exec('readlink', dropIn)).toBe('/usr/lib/overlayd/docker.service.d/40-overlayd.conf\n')
  expect(await host.exec('overlayctl', 'docker', 'enable')).toContain('enabled already')
  expect(await host.property('docker', 'DropInPaths')).toContain(dropIn)
  expect(await host.exec('overlayctl', 'docker', 'disable')).toContain('disabled')
  expect(await host.property('docker', 'DropInPaths')).not.toContain('overlayd')
  expect(await host.property('docker', 'ExecStartPre')).toBe('')
  // Docker's unit allows 3 starts in a minute, and on a fast machine earlier tests have used them.
  await host.exec('systemctl', 'reset-failed', 'docker')
  expect(await host.exec('overlayctl', 'docker', 'enable', '--now')).toContain('is being restarted')
  await host.waitFor('to have restarted Docker', async () => {
    const state = await host.property('docker', 'ActiveState')
    const job = await host.property('docker', 'Job')
    return state === 'active' && !/^[1-9]/.test(job) ? true : new Pending(`${state}, job ${job}`)
  })
  expect(await bridge()).toBe(before)
  containers[1] = await host.container('c1')
  await waitForPing(1, 2)
})

test('where Docker drops what is routed to its containers, it is overlayd that lets it through', async () => {
  const host = lab.host(2)
  const [major = '0'] = (await host.exec('docker', 'version', '--format', '{{.Server.Version}}')).split('.')
  const drops = Number(major) >= 28
  expect((await host.exec('iptables', '-t', 'raw', '-S', 'PREROUTING')).includes('-j DROP')).toBe(drops)
  await host.exec('systemctl', 'stop', 'overlayd')
  const rule = '-t raw -D PREROUTING -s 10.5.0.0/16 -i flannel.1 -m comment --comment overlayd -j ACCEPT'
  await host.exec('iptables', ...rule.split(' '))
  await host.exec('iptables', '-F', 'DOCKER-USER')
  expect((await pingBetween(1, 2, 5)).received).toBe(drops ? 0 : 5)
  await host.exec('systemctl', 'start', 'overlayd')
  expect((await pingBetween(1, 2, 5)).received).toBe(5)
})

test('a network with rules of nft carries the same; a change leaves no rule of the other kind', async () => {
  const hosts = lab.hosts.slice(0, 2)
  const rules = async (host: BootedHost) => ({
    iptables: (await host.exec('iptables-save')).includes('FLANNEL-'),
    nftables: (await host.exec('nft', 'list', 'tables')).includes('flannel-ipv4'),
  })
  for (const EnableNFTables of [true, false]) {
    const config = { Network: '10.5.0.0/16', EnableNFTables, Backend: { Type: 'vxlan' } }
    await lab.host(1).exec('overlayctl', 'config', 'set', JSON.stringify(config))
    for (const host of hosts) await host.exec('systemctl', 'restart', 'overlayd')
    for (const host of hosts) {
      await host.waitFor('to have the rules of one kind', async () => {
        const found = await rules(host)
        const right = found.nftables === EnableNFTables && found.iptables === !EnableNFTables
        return right ? true : new Pending(JSON.stringify(found))
      })
      await waitHealthy(host)
    }
    expect(await pingBetween(1, 2)).toMatchObject({ received: 20 })
    expect(await pingOutside(2)).toMatchObject({ received: 5 })
  }
})

test('a host that reboots has the same subnet again, and its container is reached', async () => {
  const before = await lab.host(2).subnetEnv()
  await lab.host(2).reboot()
  expect(await lab.host(2).subnetEnv()).toEqual(before)
  const overlaydStarted = await timeOf(lab.host(2), 'started', 'overlayd.service')
  expect(await dockerdStarted(lab.host(2))).toBeGreaterThanOrEqual(overlaydStarted.monotonic)
  containers[1] = await lab.host(2).container('c1')
  await waitForPing(1, 2)
  expect(await pingBetween(1, 2)).toMatchObject({ received: 20 })
})

test('a third host that boots later reaches both, and both reach it', async () => {
  const [third] = await lab.boot(1)
  if (third === undefined) throw new Error('no host was added')
  containers[2] = await third.startContainer('c1')
  for (const other of [1, 2]) {
    await waitForPing(3, other)
    expect(await pingBetween(3, other)).toMatchObject({ received: 20 })
    expect(await pingBetween(other, 3)).toMatchObject({ received: 20 })
  }
})

describeMoving(() => lab, containers)

test('a further network is an instance of the unit', async () => {
  const host = lab.host(1)
  const config = '{"Network":"10.6.0.0/16","Backend":{"Type":"vxlan","VNI":2}}'
  const endpoints = 'FLANNELD_ETCD_ENDPOINTS=http://192.0.2.11:2379'
  await host.exec('overlayctl', 'config', 'set', '--etcd-prefix=/coreos.com/network/blue', config)
  await host.exec('sh', '-c', `echo ${endpoints} >/etc/default/overlayd-blue`)
  await host.exec('systemctl', 'start', 'overlayd@blue')
  expect(await host.exec('cat', '/run/flannel/networks/blue.env')).toMatch(/^FLANNEL_SUBNET=10\.6\./m)
  await waitHealthy(host, '--run-dir=/run/overlayd-blue')
  await waitHealthy(host)
  await host.exec('systemctl', 'restart', 'overlayd')
  await host.exec('systemctl', 'stop', 'overlayd@blue')
})

test('systemd takes the units as they are, and finds them well confined', async () => {
  const units = ['overlayd.service', 'overlayd@blue.service', 'docker.service']
  const { stdout, stderr } = await lab.host(1).run('systemd-analyze', 'verify', '--man=no', ...units)
  expect((stdout + stderr).split('\n').filter((line) => line.includes('overlayd'))).toEqual([])
  for (const unit of ['overlayd.service', 'overlayd@blue.service']) {
    const report = await lab.host(1).exec('systemd-analyze', 'security', '--no-pager', unit)
    const level = /Overall exposure level for \S+: ([\d.]+)/.exec(report)?.[1]
    expect(Number(level)).toBeLessThanOrEqual(2)
  }
})

test('the daemon has no root, one capability, and no way to more', async () => {
  const host = lab.host(1)
  const status = await host.exec('cat', `/proc/${await host.property('overlayd', 'MainPID')}/status`)
  const field = (name: string): string => new RegExp(`^${name}:\\s*(.*)$`, 'm').exec(status)?.[1] ?? ''
  // CAP_NET_ADMIN is number 12 (linux/capability.h).
  for (const set of ['CapEff', 'CapPrm', 'CapBnd'])
    expect([set, Number.parseInt(field(set), 16)]).toEqual([set, 1 << 12])
  expect(field('Uid')).not.toMatch(/\b0\b/)
  expect([field('NoNewPrivs'), field('Seccomp')]).toEqual(['1', '2'])
})

test('everybody reads subnet.env, a group reads the status, and only root gives orders', async () => {
  const host = lab.host(1)
  const asNobody = (...command: readonly [string, ...string[]]) =>
    host.run('setpriv', '--reuid=nobody', '--regid=nogroup', '--clear-groups', ...command)
  const asReader = (...command: readonly [string, ...string[]]) =>
    host.run('setpriv', '--reuid=nobody', '--regid=nogroup', '--groups=overlay', ...command)
  expect(await host.exec('stat', '--format=%a %U', '/run/flannel', '/run/flannel/subnet.env')).toBe(
    '755 overlayd\n644 overlayd\n',
  )
  const read = await asNobody('cat', '/run/flannel/subnet.env')
  expect(read).toMatchObject({ code: 0, stdout: expect.stringMatching(/^FLANNEL_SUBNET=/m) })
  expect(await host.exec('stat', '--format=%a', '/run/overlayd/overlayd.sock')).toBe('600\n')
  await waitHealthy(host)
  const status = await asNobody('overlayctl', 'status')
  expect(status.code).not.toBe(0)
  expect(status.stderr).toMatch(/permission denied.*as root; or be a member of the group overlay/s)
  await host.waitFor('to show a reader that it is healthy', async () => {
    const { code, stdout, stderr } = await asReader('overlayctl', 'status')
    return code === 0 && stdout.includes('healthy') ? true : new Pending(stdout + stderr)
  })
  expect(await asReader('overlayctl', 'peers')).toMatchObject({ code: 0 })
  const order = await asReader('overlayctl', 'drain', '--yes')
  expect(order).toMatchObject({ code: 2, stderr: expect.stringMatching(/permission denied; .*as root\n$/) })
})

test('the cloud-config is one by its schema, and its drop-in for docker is the shipped one', async () => {
  const file = '/var/lib/cloud/seed/nocloud/user-data'
  expect(await lab.host(1).exec('cloud-init', 'schema', '--config-file', file)).toMatch(
    // The name is "cloud-config" up to cloud-init 22, and "schema" from then on.
    /^Valid (cloud-config|schema)/,
  )
  const withoutComments = (text: string) => text.replace(/^#.*\n/gm, '').trim()
  const written = await lab.host(1).exec('cat', '/etc/systemd/system/docker.service.d/40-overlayd.conf')
  const shipped = join(__dirname, '../../scripts/systemd/docker.service.d/40-overlayd.conf')
  expect(withoutComments(written)).toBe(withoutComments(readFileSync(shipped, 'utf8')))
})

// The profile leaves out what the host itself and Docker need: networkd takes their addresses away.
test('a profile of networkd for nearly all devices does not touch the devices of overlayd', async () => {
  const host = lab.host(2)
  const profile = '/run/systemd/network/50-greedy.network'
  const write = `printf '[Match]\\nName=!docker0 veth* host0 lo\\n[Network]\\nConfigureWithoutCarrier=yes\\nAddress=198.51.100.7/24\\n' >${profile}`
  const addresses = () => host.exec('ip', '-o', 'address', 'show', 'dev', 'flannel.1')
  const setupOf = async (link: string): Promise<string> =>
    /\S+$/.exec((await host.exec('networkctl', '--no-legend', 'list', link)).trim())?.[0] ?? ''
  const before = await addresses()
  await host.exec('ip', 'link', 'add', 'witness0', 'type', 'bridge')
  try {
    await host.exec('sh', '-c', `mkdir -p $(dirname ${profile}) && ${write} && networkctl reload`)
    // The profile has taken effect where nothing keeps it off.
    await host.waitFor('to give a device of nobody the address', async () => {
      const shown = await host.exec('ip', '-o', 'address', 'show', 'dev', 'witness0')
      return shown.includes('198.51.100.7') ? true : new Pending(shown)
    })
    expect(await setupOf('flannel.1')).toBe('unmanaged')
    expect(await addresses()).toBe(before)
  } finally {
    await host.exec('sh', '-c', `rm ${profile} && networkctl reload && ip link delete witness0`)
  }
})

test('an overlayd that hangs is started again, and no packet is lost', async () => {
  const host = lab.host(2)
  expect(await host.property('overlayd', 'WatchdogUSec')).toBe('30s')
  // The test shortens the watchdog's time.
  const seconds = patientSeconds(2)
  const dropIn = '/run/systemd/system/overlayd.service.d/watchdog.conf'
  const write = `mkdir -p $(dirname ${dropIn}) && printf '[Service]\\nWatchdogSec=${seconds}\\n' >${dropIn}`
  await host.exec('sh', '-c', `${write} && systemctl daemon-reload && systemctl restart overlayd`)
  const running = await RunningPing.start(container(1).namespace, container(2).address)
  try {
    // In one step: on a stalled machine the watchdog may end the process between two.
    const stop = 'pid=$(systemctl show --property=MainPID --value overlayd) && kill -STOP $pid && echo $pid'
    const process = (await host.exec('sh', '-c', stop)).trim()
    await waitRestarted(host, process)
    expect((await running.stop()).lost).toBe(0)
  } finally {
    running.kill()
    await host.exec('sh', '-c', `rm ${dropIn} && systemctl daemon-reload && systemctl restart overlayd`)
  }
  expect(await host.exec('journalctl', '--boot', '--unit=overlayd')).toContain('Watchdog timeout')
})

describeNetworks(() => lab, containers)

/** @param process the former one of the service */
const waitRestarted = (host: BootedHost, process: string): Promise<true> =>
  host.waitFor('to run the new overlayd', async () => {
    const now = [await host.property('overlayd', 'ActiveState'), await host.property('overlayd', 'MainPID')]
    return now[0] === 'active' && now[1] !== process ? true : new Pending(now.join(' '))
  })

/**
 * Makes the installed package one of an older version, as far as packages know of versions: dpkg and the
 * programs say so, and the programs' bundle, with V8's cache, has another name.
 */
async function makeOlder(host: BootedHost): Promise<void> {
  const script = `
    cd /usr/lib/overlayd
    bundle=$(basename bundle-*.js .js)
    rm $bundle.cache
    mv $bundle.js bundle-older.js
    sed -i "s/$bundle/bundle-older/" launch.js /var/lib/dpkg/info/overlayd.list /var/lib/dpkg/info/overlayd.md5sums
    sed -i 's/readVersion=()=>"${version}"/readVersion=()=>"${OLDER}"/' bundle-older.js
    sed -i '/^Package: overlayd$/,/^$/s/^Version: .*/Version: ${OLDER}-1/' /var/lib/dpkg/status
    ./node make-cache.js
    systemctl restart overlayd`
  await host.exec('sh', '-e', '-c', script)
  expect(await host.exec('dpkg-query', '--show', 'overlayd')).toBe(`overlayd\t${OLDER}-1\n`)
  expect(await bundlesOf(host)).toEqual(['bundle-older.cache', 'bundle-older.js'])
  expect(await waitHealthy(host)).toContain(`overlayd ${OLDER}, running`)
}

const OLDER = '0.0.9'

/** The files of the programs, and V8's cache of them. */
const bundlesOf = async (host: BootedHost): Promise<string[]> =>
  (await host.exec('sh', '-c', 'cd /usr/lib/overlayd && ls bundle-*')).trim().split('\n').sort()

test('the package replaces one whose service has a dynamic user, and no packet is lost', async () => {
  const host = lab.host(2)
  host.put(lab.prepared.deb, '/root/overlayd.deb')
  const dropIn = '/run/systemd/system/overlayd.service.d/dynamic.conf'
  const owners = () =>
    host.exec('stat', '--format=%n %F %a %U', '/run/flannel', '/run/flannel/subnet.env', '/var/lib/overlayd')
  const before = [await owners(), await host.subnetEnv()]
  const running = await RunningPing.start(container(1).namespace, container(2).address)
  try {
    await host.exec('systemctl', 'stop', 'overlayd')
    await host.exec('userdel', 'overlayd')
    const write = `mkdir -p $(dirname ${dropIn}) && printf '[Service]\\nDynamicUser=yes\\nGroup=\\n' >${dropIn}`
    await host.exec(
      'sh',
      '-c',
      `${write} && systemctl daemon-reload && systemctl start overlayd && rm ${dropIn}`,
    )
    expect(await owners()).toMatch(/^\/run\/flannel symbolic link/)
    const process = await host.property('overlayd', 'MainPID')
    await host.exec('dpkg', '--install', '/root/overlayd.deb')
    await waitRestarted(host, process)
    expect((await running.stop()).lost).toBe(0)
  } finally {
    running.kill()
  }
  expect(await host.exec('grep', '-c', '^overlayd:', '/etc/passwd')).toBe('1\n')
  expect([await owners(), await host.subnetEnv()]).toEqual(before)
  await waitHealthy(host)
})

test('an upgrade from an older version loses no packet, a removal leaves the data plane, a purge leaves no file', async () => {
  const host = lab.host(2)
  host.put(lab.prepared.deb, '/root/overlayd.deb')
  const running = await RunningPing.start(container(1).namespace, container(2).address)
  try {
    await makeOlder(host)
    const process = await host.property('overlayd', 'MainPID')
    await host.exec('dpkg', '--install', '/root/overlayd.deb')
    await waitRestarted(host, process)
    expect(await waitHealthy(host)).toContain(`overlayd ${version}, running`)
    // Nothing is left of the older programs, and these have a cache of their own.
    const bundle = /^bundle-(?!older)\w+\.(cache|js)$/
    expect(await bundlesOf(host)).toEqual([expect.stringMatching(bundle), expect.stringMatching(bundle)])
    const removal = await host.run('dpkg', '--remove', 'overlayd')
    expect(removal).toMatchObject({ code: 0 })
    expect(removal.stderr).toMatch(/its devices \(.*flannel\.1.*\), routes and rules stay in the kernel/)
    expect(await host.property('overlayd', 'ActiveState')).toBe('inactive')
    expect(await host.exec('ip', 'link', 'show', 'flannel.1')).toContain('UP')
    // Docker's next start does not wait for a program that is gone.
    expect(await host.property('docker', 'DropInPaths')).not.toContain('overlayd')
    expect((await running.stop()).lost).toBe(0)
  } finally {
    running.kill()
  }
  await host.exec('dpkg', '--purge', 'overlayd')
  for (const path of [
    '/etc/default/overlayd',
    '/usr/bin/overlayd',
    '/usr/lib/overlayd',
    '/var/lib/overlayd',
  ]) {
    expect({ path, there: (await host.run('test', '-e', path)).code === 0 }).toEqual({ path, there: false })
  }
  // The settings of the package were removed with the package.
  const endpoints = 'FLANNELD_ETCD_ENDPOINTS=http://192.0.2.11:2379'
  await host.exec('sh', '-c', `echo ${endpoints} >/etc/default/overlayd`)
  // dpkg asks no question, although the settings existed before the package.
  await host.exec('dpkg', '--install', '/root/overlayd.deb')
  await host.waitFor('to run overlayd again', async () => {
    const state = await host.property('overlayd', 'ActiveState')
    return state === 'active' ? true : new Pending(state)
  })
  expect(await pingBetween(1, 2)).toMatchObject({ received: 20 })
})
