/**
 * Observes the lab through iproute2, iptables, nft, /proc, HTTP and etcd. What the daemon and overlayctl
 * report is observed too, but kernel and etcd are not read by the code under test.
 */
import type { Etcd3 } from 'etcd3'
import { z } from 'zod'
import { ETCD_PREFIX, Host } from '../lab/lab'
import { leaseKey } from '../lab/leases'
import { exec } from '../lab/namespace'
import { Pending } from '../lab/wait'
import type {
  DoctorPicture,
  EtcdPicture,
  HostPicture,
  KeyPicture,
  ObjectsPicture,
  Picture,
  ProcessPicture,
} from './picture'
import { HEALTH_PORT, type Site } from './site'

const leaseSchema = z.object({ PublicIP: z.string(), BackendData: z.object({ VtepMAC: z.string() }) })

export async function observe(site: Site): Promise<Picture> {
  const [etcd, unreached, ...hosts] = await Promise.all([
    observeEtcd(site.client),
    findUnreached(site),
    ...site.lab.hosts.map((host) => observeHost(host)),
  ])
  return { etcd, unreached, hosts }
}

async function observeEtcd(client: Etcd3): Promise<EtcdPicture> {
  const prefix = leaseKey(ETCD_PREFIX, '')
  const [{ kvs }, { leases }, { alarms }] = await Promise.all([
    client.getAll().prefix(prefix).exec(),
    client.leaseClient.leaseLeases(),
    // etcd's rpc.proto: AlarmRequest.AlarmAction.GET of all members, AlarmType.NONE.
    client.maintenance.alarm({ action: 0 as never, memberID: '0', alarm: 0 as never }),
  ])
  return {
    keys: kvs.map((kv): KeyPicture => {
      const name = kv.key.toString().slice(prefix.length)
      return {
        name: /^[\w.:&-]+$/.test(name) ? name : JSON.stringify(name.slice(0, 40)),
        etcdLease: kv.lease,
        ...ownerIn(kv.value.toString()),
      }
    }),
    leases: leases.map(({ ID }) => ID),
    alarms: alarms.map(({ alarm }) => String(alarm)),
  }
}

function ownerIn(text: string): Pick<KeyPicture, 'owner'> {
  try {
    const { PublicIP, BackendData } = leaseSchema.parse(JSON.parse(text))
    return { owner: { publicIp: PublicIP, mac: BackendData.VtepMAC } }
  } catch {
    return {}
  }
}

/** Pings once from each container to each other one. @returns the pairs without an answer */
async function findUnreached({ lab }: Site): Promise<string[]> {
  const nameOf = new Map(lab.hosts.map((host) => [host.containers[0]?.address ?? '', host.name]))
  const lists = await Promise.all(
    lab.hosts.map(async (host) => {
      const others = lab.hosts
        .filter((other) => other !== host)
        .map(({ containers }) => containers[0]?.address)
      const ping = '{ ping -n -q -c 1 -W 1 $a >/dev/null 2>&1 || echo $a; } &'
      const script = `for a in ${others.join(' ')}; do ${ping} done; wait`
      const { stdout } = await exec(host.containers[0]?.namespace ?? '', ['sh', '-c', script])
      return stdout
        .split('\n')
        .filter((line) => line !== '')
        .map((address) => `${host.name} -> ${nameOf.get(address)}`)
    }),
  )
  return lists.flat().sort()
}

async function observeHost(host: Host): Promise<HostPicture> {
  const [status, kernel, shown] = await Promise.all([
    host.status().catch((error) => new Pending(`not a status: ${error}`)),
    host.kernel(),
    exec(host.namespace, ['sh', '-c', SHOW], {
      env: {
        ...process.env,
        PID: host.running ? `${host.daemon.pid}` : '0',
        STATE: host.stateDirectory,
        RUN: host.runDirectory,
        ENV: host.subnetFile,
      },
    }),
  ])
  const parts = sections(shown.stdout)
  const one = (name: string): string => parts.get(name)?.[0] ?? ''
  const device = /<([^>]*)>.* link\/ether ([0-9a-f:]{17})/.exec(one('device'))
  return {
    name: host.name,
    address: host.address,
    status: status instanceof Pending ? status.seen : status,
    readyz: answerIn(parts.get('readyz') ?? []),
    subnetEnv: one('subnet'),
    ...(device?.[2] !== undefined && {
      device: { mac: device[2], up: device[1]?.split(',').includes('UP') === true },
    }),
    kernel,
    objects: objectsIn(parts),
    ...processIn(parts, host),
    forwarding: parts.get('forwarding') ?? [],
  }
}

const GET_READYZ = [
  `exec 3<>/dev/tcp/127.0.0.1/${HEALTH_PORT}`,
  'printf "GET /readyz HTTP/1.0\\r\\n\\r\\n" >&3',
  'cat <&3',
].join(' && ')

/** Prints the output of each command after a line `== name`. */
const SHOW = `
part() { echo "== $1"; shift; "$@" 2>/dev/null; }
part device ip -o link show dev ${Host.device}
part links ip -o link show
part nexthops ip nexthop show
part rules ip rule show
part iptables iptables-save
part ip6tables ip6tables-save
part nft nft list tables
part unix cat /proc/net/unix
part tcp ss -Hltn
part files find "$STATE" "$RUN" "$(dirname "$ENV")" -mindepth 1 ! -type d
part subnet sed -n s/^FLANNEL_SUBNET=//p "$ENV"
part forwarding cat /proc/sys/net/ipv4/ip_forward /proc/sys/net/ipv4/conf/${Host.device}/forwarding
part status cat "/proc/$PID/status"
part descriptors ls "/proc/$PID/fd"
part readyz timeout 3 bash -c '${GET_READYZ}'
echo
`

/** @returns name -> lines of that part, without empty ones */
function sections(text: string): ReadonlyMap<string, readonly string[]> {
  const parts = new Map<string, string[]>()
  let lines: string[] = []
  for (const line of text.split('\n')) {
    const name = /^== (\w+)$/.exec(line)?.[1]
    if (name !== undefined) {
      lines = []
      parts.set(name, lines)
    } else if (line !== '') lines.push(line)
  }
  return parts
}

function answerIn(lines: readonly string[]): HostPicture['readyz'] {
  const code = Number(/^HTTP\/1\.\d (\d+)/.exec(lines[0] ?? '')?.[1] ?? 0)
  return { code, body: lines.at(-1)?.trim() ?? 'no answer' }
}

function objectsIn(parts: ReadonlyMap<string, readonly string[]>): ObjectsPicture {
  const lines = (name: string, pattern: RegExp, replacement = '$1'): string[] =>
    (parts.get(name) ?? [])
      .filter((line) => pattern.test(line))
      .map((line) => pattern[Symbol.replace](line, replacement))
      .sort()
  return {
    links: lines('links', /^\d+: ([^:@]+)[:@].*$/),
    nexthops: lines('nexthops', /^id \d+ (.*?) *$/),
    rules: lines('rules', /^(.*?) *$/),
    firewall: [
      ...lines('iptables', /^(-A .*|:\S+ - ).*$/),
      ...lines('ip6tables', /^(-A .*|:\S+ - ).*$/, '6 $1'),
      // Without the tables that iptables (nf_tables backend) creates: it never removes them.
      ...lines('nft', /^(table (?!ip6? (?:filter|nat|mangle|raw|security)$).*)$/),
    ],
    // Includes temporary files. A lab at rest has none.
    files: lines('files', /^.*\/(host\d+\/.*)$/),
    sockets: [
      // Flag 00010000 is __SO_ACCEPTCON (linux/net.h): the socket listens. Abstract names may end in @
      // padding.
      ...lines('unix', /^\S+ \S+ \S+ 00010000 \S+ \S+ +\d+ (.*?)@*$/),
      ...lines('tcp', /^LISTEN +\d+ +\d+ +(\S+).*$/),
    ],
  }
}

function processIn(parts: ReadonlyMap<string, readonly string[]>, host: Host): { process?: ProcessPicture } {
  const status = parts.get('status') ?? []
  const value = (name: string): number =>
    Number(status.find((line) => line.startsWith(`${name}:`))?.match(/\d+/)?.[0])
  const descriptors = parts.get('descriptors')?.length ?? 0
  if (status.length === 0 || !host.running) return {}
  return { process: { pid: value('Pid'), rss: value('VmRSS'), descriptors, threads: value('Threads') } }
}

/** Runs `overlayctl doctor` on all hosts, one after the other. */
export async function runDoctors(site: Site): Promise<DoctorPicture[]> {
  const results: DoctorPicture[] = []
  for (const host of site.lab.hosts) results.push(await runDoctor(host))
  return results
}

async function runDoctor(host: Host): Promise<DoctorPicture> {
  const { code, stdout, stderr } = await host.overlayctl('doctor')
  const output = (stdout + stderr).split('\n').filter((line) => line !== '' && !/^ok /.test(line))
  return { host: host.name, code, output: output.join('\n') }
}
