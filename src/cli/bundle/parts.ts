/** The parts of a bundle: what each is, and how it is gathered. A new part is one entry. */
import { readdir, readFile } from 'node:fs/promises'
import { release } from 'node:os'
import { reportBinding, reportSubnets } from '../../api/status-parts'
import { askDaemon, daemonIsDown, readDaemon, readText } from '../../client/daemon-socket'
import type { Settings } from '../../client/settings'
import type { Snapshot } from '../../etcd/follow/snapshot'
import { readEnvironmentFile } from '../../host/environment-file'
import { readLastExit } from '../../host/last-exit'
import { Kernel } from '../../kernel/kernel'
import { formatIp, formatMac } from '../../model/address'
import { describeError, OverlayError } from '../../model/errors'
import type { Lease, Vtep } from '../../model/lease'
import { attempt, failed, type Result } from '../../model/result'
import { shareableOptions } from '../../options/tell'
import { readVersion } from '../../options/version'
import { withRegistry } from '../ask/with-registry'
import type { GatheredPart } from './archive'
import { outputOf, outputsOf, someOutputsOf } from './programs'

/** Milliseconds for a part; the doctor, which probes peers, has its own deadlines and takes longer. */
const DEADLINE = 30_000
const DOCTOR_DEADLINE = 120_000
/** Lines of the journal. */
const JOURNAL_LINES = '3000'

/** What parts are gathered from. */
export interface Origin {
  readonly settings: Settings
  readonly env: NodeJS.ProcessEnv
  /** Config and leases, read from etcd once. */
  readonly snapshot: () => Promise<Snapshot>
}

interface Part extends Pick<GatheredPart, 'name' | 'about'> {
  /** Which end of a long text is kept; default: its beginning. */
  readonly keep?: GatheredPart['keep']
  /** Text, or JSON data. What this throws is the reason why the part is missing. */
  readonly gather: (origin: Origin) => Promise<unknown>
}

const QUICK: readonly Part[] = [
  {
    name: 'status.json',
    about: 'overlayctl status, with all peers',
    gather: async ({ settings }) => (await import('../verbs/status.js')).readStatus(settings),
  },
  {
    name: 'routes.json',
    about: "overlayctl routes: the kernel's objects of the overlay, and what they should be",
    gather: async ({ settings }) => (await import('../verbs/routes.js')).readRoutes(settings),
  },
  {
    name: 'prefixes.json',
    about: 'overlayctl prefixes: what hosts announce besides their subnets',
    gather: async ({ settings }) => readPrefixes(settings['run-dir']),
  },
  {
    name: 'events.jsonl',
    about: 'what the daemon has done recently',
    keep: 'last',
    gather: async ({ settings }) => readEvents(settings['run-dir']),
  },
  {
    name: 'metrics.txt',
    about: "the daemon's metrics",
    gather: async ({ settings }) => {
      const text = await readDaemon(settings['run-dir'], 'metrics')
      if (text === undefined) throw daemonIsDown(settings['run-dir'])
      return text
    },
  },
  {
    name: 'config.json',
    about: 'the network config in etcd',
    gather: async ({ snapshot, settings }) => {
      const { config } = await snapshot()
      if (config === undefined)
        throw new OverlayError('no-config', `there is no network config under ${settings['etcd-prefix']}`)
      return parsed(config)
    },
  },
  {
    name: 'leases.json',
    about: 'all leases in etcd, readable or not',
    gather: async ({ snapshot }) => reportLeases(await snapshot()),
  },
  {
    name: 'settings.json',
    about: 'options in use, and where they come from',
    gather: reportSettings,
  },
  {
    name: 'versions.txt',
    about: 'overlayd, kernel, distribution and programs',
    gather: reportVersions,
  },
  {
    name: 'links.json',
    about: 'links, addresses and routes as overlayd reads them from the kernel',
    gather: readNetwork,
  },
  {
    name: 'ip.txt',
    about: 'the same as iproute2 prints it, with counters, neighbours, rules and forwarding entries',
    gather: () =>
      someOutputsOf([
        ['ip', '-d', '-s', 'link'],
        ['ip', 'address'],
        ['ip', 'rule'],
        ['ip', '-6', 'rule'],
        ['ip', 'route', 'show', 'table', 'all'],
        ['ip', '-6', 'route', 'show', 'table', 'all'],
        ['ip', 'nexthop'],
        ['ip', 'neighbour'],
        ['bridge', 'fdb'],
        ['ss', '-uln'],
      ]),
  },
  {
    name: 'nft.txt',
    about: 'all rules of nftables',
    gather: () => outputOf('nft', 'list', 'ruleset'),
  },
  {
    name: 'iptables.txt',
    about: 'all rules of iptables, in both variants',
    gather: () =>
      someOutputsOf([
        ['iptables-save', '-c'],
        ['ip6tables-save', '-c'],
        ['iptables-legacy-save', '-c'],
        ['ip6tables-legacy-save', '-c'],
      ]),
  },
  {
    name: 'sysctls.txt',
    about: 'settings of the kernel that concern an overlay',
    gather: readSysctls,
  },
  {
    name: 'unit.txt',
    about: "the service's state, its last exit, and its unit files",
    gather: async ({ settings: { known } }) =>
      someOutputsOf([
        ['systemctl', 'show', '--no-pager', known.unit, `--property=${UNIT_PROPERTIES}`],
        ['systemctl', 'show', '--no-pager', 'docker', `--property=${UNIT_PROPERTIES}`],
        ['systemctl', 'cat', '--no-pager', known.unit],
        ['systemctl', 'status', '--no-pager', '--lines=0', known.unit],
      ]),
  },
  {
    name: 'last-exit.json',
    about: 'why the daemon ended last, in its own words',
    gather: async ({ settings }) => {
      const exit = await readLastExit(settings['run-dir'])
      if (exit === undefined) throw new OverlayError('none', 'no daemon has ended with an error')
      return exit
    },
  },
  {
    name: 'journal.txt',
    about: `the last ${JOURNAL_LINES} lines of the service's log`,
    keep: 'last',
    gather: ({ settings: { known } }) =>
      outputOf('journalctl', '--no-pager', '-o', 'short-iso', '-n', JOURNAL_LINES, '-u', known.unit),
  },
]

/** Made alone, after all others: its probes have deadlines, and nothing else is to keep this host busy. */
const DOCTOR: Part = {
  name: 'doctor.json',
  about: 'overlayctl doctor: what is wrong, and every check',
  gather: async ({ settings }) => {
    const { examine } = await import('../verbs/doctor.js')
    return examine(settings, { only: '', peer: '' })
  },
}

/** Properties of a unit: its state, how often and why it ended (org.freedesktop.systemd1(5)). */
const UNIT_PROPERTIES = [
  ...['Id', 'LoadState', 'ActiveState', 'SubState', 'UnitFileState', 'FragmentPath', 'DropInPaths'],
  ...['Result', 'NRestarts', 'ExecMainPID', 'ExecMainCode', 'ExecMainStatus', 'ExecMainStartTimestamp'],
  ...['ExecMainExitTimestamp', 'StateChangeTimestamp', 'StatusText', 'StatusErrno', 'MemoryCurrent'],
  ...['CPUUsageNSec', 'TasksCurrent', 'User', 'Conflicts', 'ConditionResult', 'AssertResult'],
].join(',')

/** All parts. A part that cannot be gathered has the reason instead. */
export async function gatherParts(settings: Settings, env: NodeJS.ProcessEnv): Promise<GatheredPart[]> {
  let read: Promise<Snapshot> | undefined
  const snapshot = (): Promise<Snapshot> => {
    read ??= withRegistry(settings, (registry, signal) => registry.snapshot(signal))
    return read
  }
  const origin = { settings, env, snapshot }
  const quick = await Promise.all(QUICK.map((part) => gather(part, origin, DEADLINE)))
  return [await gather(DOCTOR, origin, DOCTOR_DEADLINE), ...quick]
}

async function gather(
  { name, about, keep = 'first', gather }: Part,
  origin: Origin,
  deadline: number,
): Promise<GatheredPart> {
  const content = await Promise.race([attempt(name, () => gather(origin)), late(name, deadline)])
  return { name, about, keep, content }
}

/** A part that hangs must not keep the others from being written. */
const late = (part: string, deadline: number): Promise<Result<unknown>> =>
  new Promise((resolve) => {
    const text = `it was not gathered within ${deadline / 1000} s`
    setTimeout(() => resolve(failed({ part, code: 'late', text })), deadline).unref()
  })

async function readPrefixes(runDirectory: string): Promise<unknown> {
  const document = await readDaemon(runDirectory, 'prefixes')
  if (document === undefined) throw daemonIsDown(runDirectory)
  return document
}

async function readEvents(runDirectory: string): Promise<string> {
  const response = await askDaemon(runDirectory, 'events')
  if (response === undefined) throw daemonIsDown(runDirectory)
  return readText(response)
}

/** JSON data as such: its fields are looked at one by one for secrets. */
function parsed(text: string): unknown {
  try {
    return JSON.parse(text)
  } catch {
    return text
  }
}

const reportLeases = ({ revision, leases, unreadable, moreMisnamed }: Snapshot): unknown => ({
  revision,
  leases: leases.map(reportLease),
  unreadable: unreadable.map(({ key, reason, modRevision }) => ({ key, reason, modRevision })),
  ...(moreMisnamed !== undefined && { moreMisnamed }),
})

function reportLease(lease: Lease): unknown {
  const { vtep, vtep6, backendType } = lease.value
  return {
    key: lease.key,
    ...reportSubnets(lease),
    ...reportBinding(lease),
    backendType,
    ...(vtep !== undefined && { vtep: reportVtep(vtep) }),
    ...(vtep6 !== undefined && { vtep6: reportVtep(vtep6) }),
  }
}

/** Keys of WireGuard are left out: a fingerprint of each would tell nothing that its turn does not. */
function reportVtep({ vni, mac, multicast, wireguard }: Vtep): unknown {
  const { turn, port, source } = wireguard ?? {}
  return {
    vni,
    mac: formatMac(mac),
    ...(multicast !== undefined && { multicast }),
    ...(wireguard !== undefined && {
      wireguard: { turn, port, ...(source !== undefined && { source: formatIp(source) }) },
    }),
  }
}

/** Names of variables that set options: ours, and those that change how Node and TLS work. */
const OUR_VARIABLES = /^(?:FLANNELD_|OVERLAYD_|NODE_|SSL_CERT_|STATE_DIRECTORY$|NOTIFY_SOCKET$)/

async function reportSettings({ settings, env }: Origin): Promise<unknown> {
  const { known } = settings
  const path = `/etc/default/${known.unit.replace('@', '-')}`
  const file = await attempt('file', () => readEnvironmentFile(path))
  return {
    unit: known.unit,
    etcdFrom: known.etcdFrom,
    ...(known.etcdUnknown !== undefined && { etcdUnknown: known.etcdUnknown }),
    notes: known.notes,
    inUse: shareableOptions(settings),
    file: file.ok ? { path, ...(file.value ?? { none: true }) } : { path, unreadable: file.problem.text },
    environment: Object.fromEntries(Object.entries(env).filter(([name]) => OUR_VARIABLES.test(name))),
  }
}

async function reportVersions(): Promise<string> {
  const os = await readFile('/etc/os-release', 'utf8').catch((error) => `(${describeError(error)})`)
  const commands = await outputsOf([
    ['systemctl', '--version'],
    ['ip', '-V'],
    ['nft', '--version'],
    ['iptables', '--version'],
    ['docker', '--version'],
    ['containerd', '--version'],
  ])
  return [
    `overlayctl ${readVersion()}`,
    `node ${process.version} ${process.arch}`,
    `linux ${release()}`,
    `user ${process.geteuid?.() ?? 'unknown'}`,
    '',
    os,
    commands,
  ].join('\n')
}

async function readNetwork(): Promise<unknown> {
  const kernel = await Kernel.open()
  try {
    const { links, addresses, defaultRoutes } = await kernel.hostNetwork()
    const routes = [...(await kernel.underlayRoutes('IPv4')), ...(await kernel.underlayRoutes('IPv6'))]
    return { links, addresses, defaultRoutes, routes }
  } finally {
    kernel.close()
  }
}

/** Below /proc/sys/net; `*` is every interface. */
const SYSCTLS = [
  ...['ipv4/ip_forward', 'ipv4/conf/*/forwarding', 'ipv4/conf/*/rp_filter', 'ipv4/conf/*/accept_local'],
  ...['ipv4/conf/*/route_localnet', 'ipv4/conf/*/arp_ignore', 'ipv4/ip_no_pmtu_disc', 'ipv4/tcp_mtu_probing'],
  ...['ipv6/conf/*/forwarding', 'ipv6/conf/*/disable_ipv6', 'ipv6/conf/*/accept_ra', 'ipv6/route/max_size'],
  ...['ipv4/neigh/default/gc_thresh1', 'ipv4/neigh/default/gc_thresh2', 'ipv4/neigh/default/gc_thresh3'],
  ...['ipv4/icmp_ratelimit', 'ipv4/ping_group_range', 'ipv4/fib_multipath_hash_policy'],
  ...['bridge/bridge-nf-call-iptables', 'bridge/bridge-nf-call-ip6tables', 'core/rmem_max', 'core/wmem_max'],
  ...['netfilter/nf_conntrack_count', 'netfilter/nf_conntrack_max', 'core/netdev_max_backlog'],
]
/** A host with many containers has an interface for each. */
const MOST_SYSCTLS = 5000

async function readSysctls(): Promise<string> {
  const names = await Promise.all(
    SYSCTLS.map(async (name) => {
      const [before = '', after] = name.split('*')
      if (after === undefined) return [name]
      const links = await readdir(`/proc/sys/net/${before}`).catch(() => [])
      return links.map((link) => `${before}${link}${after}`)
    }),
  )
  const lines: string[] = []
  for (const name of names.flat().slice(0, MOST_SYSCTLS)) {
    const value = await readFile(`/proc/sys/net/${name}`, 'latin1').catch(() => undefined)
    lines.push(`net/${name} = ${value?.trim().replaceAll('\t', ' ') ?? '(not there)'}`)
  }
  return lines.join('\n')
}
