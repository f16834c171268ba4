/** The part of `scripts/demo` that runs in the sandbox: hosts, an overlay, containers, pings, a picture. */
import { mkdirSync, writeFileSync } from 'node:fs'
import { dirname, join } from 'node:path'
import { type Container, ETCD_ADDRESS, Host, Lab } from '../test/lab/lab'
import { inNamespace } from '../test/lab/namespace'
import { runOk } from '../test/lab/process'
import { Pending, waitFor } from '../test/lab/wait'
import type { Place } from './demo-server'
import { bold, dim, green, indent, perform, say, sayTable } from './demo-stage'

const NETWORK_CONFIG = '{"Network":"10.5.0.0/16","Backend":{"Type":"vxlan"}}'
/**
 * Up to this many hosts, every container pings every other. With more hosts, each pings the next one and
 * back.
 */
const ALL_PAIRS_UP_TO = 4
/** Number of hosts that are drawn. */
const DRAWN = 3

interface Site {
  readonly host: Host
  readonly container: Container
}

async function show(lab: Lab): Promise<void> {
  const version = (await runOk(['etcd', '--version'])).match(/[\d.]+/)?.[0] ?? ''
  say(`${bold('etcd')} ${version} at ${lab.etcd.endpoint} has the network config`)
  say(indent(NETWORK_CONFIG))
  const started = performance.now()
  for (const host of lab.hosts) host.start({ flags: { probe: 'on' } })
  say(`${bold('overlayd')} starts on ${lab.hosts.length} hosts:`)
  say(dim(indent(`overlayd --etcd-endpoints=${lab.etcd.endpoint} --iface=eth0 ...`)))
  await lab.waitConverged(0, 30_000 + lab.hosts.length * 500)
  say(`every host knows every other after ${((performance.now() - started) / 1000).toFixed(1)} s`)
  const sites: Site[] = []
  for (const host of lab.hosts) sites.push({ host, container: await host.addContainer() })
  say(`\n${await picture(sites)}\n`)
  const pings = await pingAround(lab, sites)
  const first = lab.host(1)
  say(`${bold(`overlayctl status`)} on ${first.name}:`)
  const status = await waitFor(
    'overlayctl status to end with exit code 0',
    async () => {
      const { code, stdout, stderr } = await first.overlayctl('status')
      return code === 0 ? stdout : new Pending(stdout + stderr)
    },
    { context: () => first.daemon.tail() },
  )
  say(indent(status))
  say(`\n${green('ok')}: ${pings} pings between containers on different hosts, none lost`)
}

/** Pings, and prints ping's output. */
async function pingAround(lab: Lab, sites: readonly Site[]): Promise<number> {
  const far = sites.length <= ALL_PAIRS_UP_TO ? sites.length : 2
  const routes = sites.flatMap((from, index) =>
    Array.from({ length: far - 1 }, (_, step) => [from, sites[(index + step + 1) % sites.length]] as const),
  )
  const bothWays =
    far === sites.length ? routes : routes.flatMap(([from, to]) => [[from, to] as const, [to, from] as const])
  const sent = await pingAlong(
    lab,
    bothWays.flatMap(([from, to]) => (from === undefined || to === undefined ? [] : [[from, to] as const])),
  )
  say()
  return sent
}

/** Pings along each route. @returns the number of pings */
async function pingAlong(lab: Lab, routes: readonly (readonly [Site, Site])[]): Promise<number> {
  let sent = 0
  for (const [from, to] of routes) {
    say(`${bold(`${from.container.name} -> ${to.container.name}`)}`)
    const result = await lab.ping(from.container, to.container, { count: 3, intervalMs: 20 })
    say(indent(routes.length > 2 ? summaryOf(result.output) : result.output))
    if (result.received !== result.sent) {
      const lost = `${result.sent - result.received} of ${result.sent} pings were lost`
      throw new Error(`${lost}\n${from.host.daemon.tail()}\n${to.host.daemon.tail()}`)
    }
    sent += result.sent
  }
  return sent
}

/** The summary lines of ping's output. */
const summaryOf = (output: string): string =>
  output
    .split('\n')
    .filter((line) => /packets transmitted|^rtt/.test(line))
    .join('\n')

async function picture(sites: readonly Site[]): Promise<string> {
  const drawn = sites.slice(0, DRAWN)
  const boxes = await Promise.all(drawn.map(box))
  const width = boxes[0]?.[0]?.length ?? 0
  const line = (row: number, joint: string) => boxes.map((lines) => lines[row] ?? '').join(joint)
  const rows = Array.from({ length: boxes[0]?.length ?? 0 }, (_, row) =>
    line(row, row === 2 ? ' vxlan ' : '       '),
  )
  const stems = boxes.map(() => '|'.padStart(7).padEnd(width)).join('       ')
  const bus = '-'.repeat(boxes.length * width + (boxes.length - 1) * 7)
  const more = sites.length > DRAWN ? [`... and ${sites.length - DRAWN} hosts more`] : []
  const above = [`      | etcd ${ETCD_ADDRESS}`, `${bus}  underlay 192.168.77.0/24`]
  return [...above, stems, ...rows, ...more].map((text) => `  ${text.trimEnd()}`).join('\n')
}

async function box({ host, container }: Site): Promise<string[]> {
  const { subnet } = await host.subnetEnv()
  const rows = [
    ['eth0', host.address],
    [Host.device, subnet.replace(/\d+\/\d+$/, '0')],
    ['docker0', subnet],
    ['container', container.address],
  ].map(([name = '', address = '']) => `| ${name.padEnd(10)} ${address.padEnd(15)} |`)
  const edge = (title: string) => `+-${title}${'-'.repeat(27 - title.length)}+`
  return [edge(` ${host.name} `), ...rows, edge('')]
}

function sayHowToGoOn(lab: Lab): void {
  const [first, second] = [lab.host(1), lab.host(2)]
  const [here, there] = [first.containers[0], second.containers[0]]
  const names = `${first.name} to ${lab.hosts.at(-1)?.name}`
  furnish(lab)
  say(`
${bold('The demo keeps running')} until it is ended. From any terminal, as the same user:

    ./scripts/demo enter ${first.name}                      a shell on ${first.name}; there are ${names}
    ./scripts/demo enter ${first.name} overlayctl doctor    a command there
    ./scripts/demo enter ${here?.name} ping ${there?.address}
                                                    from ${first.name}'s container to that of ${second.name}
    ./scripts/demo add                              one more host
    ./scripts/demo status                           the hosts, and what runs on them
    ./scripts/demo stop                             end and remove everything`)
}

/** Directory in the sandbox with the programs for users who enter it; in their PATH. */
const PROGRAMS = '/run/overlayd-demo/bin'
const SHELL_STARTUP = '/run/overlayd-demo/bashrc'

/** Writes files into the sandbox for users who enter it. */
function furnish(lab: Lab): void {
  for (const directory of [PROGRAMS, '/run/flannel']) mkdirSync(directory, { recursive: true })
  for (const name of ['overlayctl', 'overlayd']) {
    const words = [process.execPath, join(__dirname, `../dist/${name}.js`)].map(quoted).join(' ')
    writeFileSync(join(PROGRAMS, name), `#!/bin/sh\nexec ${words} "$@"\n`, { mode: 0o755 })
  }
  const setting = `[ -r ~/.bashrc ] && . ~/.bashrc
PATH=${PROGRAMS}:$PATH
PS1='[overlayd demo: \${OVERLAYD_DEMO_PLACE}] \\w \\$ '
unset PROMPT_COMMAND
`
  writeFileSync(SHELL_STARTUP, setting)
  writeFileSync(join(lab.directory, 'enter'), ENTER)
}

const quoted = (word: string): string => `'${word.replaceAll("'", "'\\''")}'`

/**
 * Gives a process on a host the rest of its environment, besides the network: the host's /etc/default, so
 * that overlayctl knows its daemon and etcd; /run/flannel; the /sys of its network, with the machine's
 * control groups; a host name. If the machine does not let its users mount a /sys, the machine's own stays;
 * so does its name if there is no `hostname`.
 */
const ENTER = `set -e
place=$1 defaults=$2 flannel=$3 directory=$4
shift 4
if [ -n "$defaults" ]; then
  mount --bind "$defaults" /etc/default
  mount --bind "$flannel" /run/flannel
fi
new=$(mktemp -d /run/overlayd-demo/sys.XXXXXX)
if mount -t sysfs sysfs "$new" 2>/dev/null; then
  mount --rbind /sys/fs/cgroup "$new/fs/cgroup" 2>/dev/null || true
  mount --move "$new" /sys
fi
rmdir "$new" 2>/dev/null || true
hostname "$place" 2>/dev/null || true
cd "$directory" 2>/dev/null || cd /
export OVERLAYD_DEMO_PLACE="$place" PATH="${PROGRAMS}:$PATH" TMPDIR=/run/tmp
exec "$@"
`

function enter(lab: Lab, { name, directory, shell }: Place): readonly string[] {
  const host = lab.hosts.find((each) => each.name === name)
  const namespaces = lab.hosts.flatMap((each) => [each, ...each.containers].map(({ namespace }) => namespace))
  if (!namespaces.includes(name)) {
    throw new Error(`there is no ${name} in the kept demo, but ${listed(namespaces)}`)
  }
  const own = host === undefined ? ['', ''] : [host.defaultsDirectory, dirname(host.subnetFile)]
  return inNamespace(name, [
    ...['unshare', '--mount', '--uts', 'sh', join(lab.directory, 'enter'), name, ...own, directory],
    ...(shell ? ['bash', '--rcfile', SHELL_STARTUP, '-i'] : []),
  ])
}

const listed = (names: readonly string[]): string =>
  names.length > 12 ? `${names.slice(0, 12).join(', ')} ...` : names.join(', ')

async function add(lab: Lab): Promise<void> {
  const others = lab.hosts.filter((host) => host.running && host.containers.length > 0)
  const [host] = await lab.addHosts(1)
  if (host === undefined) throw new Error('no host was added')
  say(`${bold('overlayd')} starts on ${host.name} (${host.address}), beside ${lab.hosts.length - 1} others`)
  host.start({ flags: { probe: 'on' } })
  const { lease } = await host.waitForStatus('it is healthy', ({ state }) => state === 'healthy', 30_000)
  const subnet = lease?.subnet ?? ''
  const container = await host.addContainer()
  say(`${host.name} has ${subnet}, and container ${container.name} there has ${container.address}\n`)
  const partners = others.slice(0, others.length < ALL_PAIRS_UP_TO ? undefined : 1)
  for (const partner of partners) {
    await partner.waitForStatus(
      `it knows ${host.name}`,
      ({ peers }) => peers.some((peer) => peer.subnet === subnet && peer.state === 'ok'),
      30_000,
    )
    await host.waitForStatus(
      `it knows ${partner.name}`,
      ({ peers }) => peers.some((peer) => peer.publicIp === partner.address && peer.state === 'ok'),
      30_000,
    )
  }
  const here: Site = { host, container }
  const routes = partners.flatMap((partner): (readonly [Site, Site])[] => {
    const [there] = partner.containers.map((each): Site => ({ host: partner, container: each }))
    return there === undefined
      ? []
      : [
          [here, there],
          [there, here],
        ]
  })
  const sent = await pingAlong(lab, routes)
  say(`\n${green('ok')}: ${sent} pings between ${container.name} and containers on other hosts, none lost`)
}

async function sayStatus(lab: Lab): Promise<void> {
  const rows = [['HOST', 'ADDRESS', 'SUBNET', 'OVERLAYD', 'CONTAINERS']]
  for (const host of lab.hosts) {
    const status = await host.status()
    const daemon = !host.running
      ? 'has ended'
      : status instanceof Pending
        ? `process ${host.daemon.pid}, does not answer`
        : `process ${host.daemon.pid}, ${status.state}`
    const subnet = status instanceof Pending ? '-' : (status.lease?.subnet ?? '-')
    const containers = host.containers.map(({ name, address }) => `${name} ${address}`)
    rows.push([host.name, host.address, subnet, daemon, containers.join(', ') || '-'])
  }
  sayTable(rows)
  say(`\netcd is at ${lab.etcd.endpoint}`)
}

perform({
  create: (hosts) => Lab.create({ hosts, config: NETWORK_CONFIG }),
  show,
  sayHowToGoOn,
  enter,
  add,
  sayStatus,
})
