/**
 * A flanneld as its host and its cluster see it: it leaves the same in the kernel, in etcd and in subnet.env as the real one (0.28, vxlan, IPv4),
 * by iproute2 and iptables. It acts only when it is told to: there is no process, so stopping it is doing nothing more.
 */
import { randomBytes } from 'node:crypto'
import { existsSync, readFileSync, renameSync, writeFileSync } from 'node:fs'
import { z } from 'zod'
import { Host } from './host'
import { ETCD_PREFIX, type Lab } from './lab'
import { type FakePeer, leaseKey, leaseValue } from './leases'
import { exec, execOk, inNamespace, ipBatch, setSysctl } from './namespace'
import { runOk } from './process'

export interface FlannelOptions {
  /** As `--ip-masq`. */
  readonly ipMasq?: boolean
}

const TTL_SECONDS = 86_400
const DEVICE = Host.device
const UNDERLAY = 'eth0'

const linkSchema = z.tuple([
  z.object({
    address: z.string(),
    linkinfo: z.object({ info_kind: z.string(), info_data: z.record(z.string(), z.unknown()).optional() }),
    link: z.string().optional(),
  }),
])

export class FlannelHost {
  #lease: FakePeer
  #etcdLease = '0'

  /** Starts as flanneld does: device, lease, address, rules, subnet.env, peers, in this order. */
  static async start(lab: Lab, host: Host, options: FlannelOptions = {}): Promise<FlannelHost> {
    const { Network: network = '' } = JSON.parse(
      (await lab.client.get(`${ETCD_PREFIX}/config`).string()) ?? '',
    )
    const { mac, adopted } = await ensureDevice(host)
    const flannel = new FlannelHost(lab, host, { subnet: '', publicIp: host.address, mac }, adopted)
    await flannel.#acquire(network)
    await flannel.#configureDevice()
    await flannel.#setRules(network, options)
    flannel.#writeSubnetEnv(network, options)
    await flannel.learnAll()
    return flannel
  }

  private constructor(
    private readonly lab: Lab,
    readonly host: Host,
    lease: FakePeer,
    /** Whether it found a device that it could use as it was. */
    readonly adopted: boolean,
  ) {
    this.#lease = lease
  }

  /** What it announces. */
  get lease(): FakePeer {
    return this.#lease
  }

  get key(): string {
    return leaseKey(ETCD_PREFIX, this.#lease.subnet)
  }

  /** The etcd lease its key is bound to. */
  get etcdLease(): string {
    return this.#etcdLease
  }

  /** A new etcd lease and a Put without any guard, the same value; the old etcd lease is left behind. */
  async renew(): Promise<void> {
    this.#etcdLease = await this.#grant()
    await this.lab.client.put(this.key).value(leaseValue(this.#lease)).lease(this.#etcdLease)
  }

  /** Programs a peer: neighbour, FDB, route, each created or replaced. */
  async learn(peer: FakePeer): Promise<void> {
    const { address, prefix } = partsOf(peer)
    const { namespace } = this.host
    await ipBatch(namespace, [`neigh replace ${address} lladdr ${peer.mac} dev ${DEVICE} nud permanent`])
    const entry = [peer.mac, 'dev', DEVICE, 'dst', peer.publicIp, 'self', 'permanent']
    await execOk(namespace, ['bridge', 'fdb', 'replace', ...entry])
    await ipBatch(namespace, [`route replace ${prefix} via ${address} dev ${DEVICE} proto boot onlink`])
  }

  /** Programs all that are in etcd. */
  async learnAll(): Promise<void> {
    for (const peer of await this.#list()) {
      if (peer.subnet !== this.#lease.subnet) await this.learn(peer)
    }
  }

  /** Takes a peer from the kernel: neighbour, FDB, route; that one is not there stops nothing. */
  async forget(peer: FakePeer): Promise<void> {
    const { address, prefix } = partsOf(peer)
    const { namespace } = this.host
    await exec(namespace, ['ip', 'neigh', 'del', address, 'dev', DEVICE])
    await exec(namespace, ['bridge', 'fdb', 'del', peer.mac, 'dev', DEVICE, 'dst', peer.publicIp, 'self'])
    await exec(namespace, ['ip', 'route', 'del', prefix, 'via', address, 'dev', DEVICE])
  }

  /** Its own by PublicIP, else that of subnet.env if nobody has it, else the first that is free. */
  async #acquire(network: string): Promise<void> {
    const leases = await this.#list()
    const own = leases.find(({ publicIp }) => publicIp === this.host.address)
    const taken = new Set(leases.map(({ subnet }) => subnet))
    const before = previousSubnet(this.host.subnetFile)
    const subnet =
      own?.subnet ??
      [before, ...subnetsOf(network)].find((each) => each !== undefined && !taken.has(each)) ??
      ''
    this.#lease = { ...this.#lease, subnet }
    if (own !== undefined) return this.renew()
    const [key, lease] = [Buffer.from(this.key), await this.#grant()]
    const { succeeded } = await this.lab.client.kv.txn({
      compare: [{ key, target: 'Version', result: 'Equal', version: '0' }],
      success: [{ request_put: { key, value: Buffer.from(leaseValue(this.#lease)), lease } }],
    })
    if (!succeeded) throw new Error(`failed to acquire lease ${subnet}: subnet already exists`)
    this.#etcdLease = lease
  }

  async #configureDevice(): Promise<void> {
    const { namespace } = this.host
    const { address } = partsOf(this.#lease)
    await setSysctl(namespace, `net/ipv6/conf/${DEVICE}/accept_ra`, '0')
    const shown = await execOk(namespace, ['ip', '-4', '-o', 'address', 'show', 'dev', DEVICE])
    await ipBatch(namespace, [
      ...(shown.includes(` ${address}/32 `) ? [] : [`address add ${address}/32 dev ${DEVICE}`]),
      `link set ${DEVICE} up`,
    ])
  }

  async #setRules(network: string, { ipMasq = false }: FlannelOptions): Promise<void> {
    const { prefix } = partsOf(this.#lease)
    await this.#restore('filter', 'FLANNEL-FWD', 'FORWARD', 'flanneld forward', [
      `-s ${network} ACCEPT`,
      `-d ${network} ACCEPT`,
    ])
    if (!ipMasq) return
    await this.#restore('nat', 'FLANNEL-POSTRTG', 'POSTROUTING', 'flanneld masq', [
      '-m mark --mark 0x4000/0x4000 RETURN',
      `-s ${prefix} -d ${network} RETURN`,
      `-s ${network} -d ${prefix} RETURN`,
      `! -s ${network} -d ${prefix} RETURN`,
      `-s ${network} ! -d 224.0.0.0/4 MASQUERADE --random-fully`,
      `! -s ${network} -d ${network} MASQUERADE --random-fully`,
    ])
  }

  /** One chain of its own, flushed and filled at each start, and the jump to it at the end of another. */
  async #restore(table: string, chain: string, from: string, comment: string, rules: readonly string[]) {
    const said = `-m comment --comment "${comment}"`
    const jump = `-A ${from} ${said} -j ${chain}`
    const { stdout } = await exec(this.host.namespace, ['iptables', '-t', table, '-S'])
    const lines = [
      `*${table}`,
      `:${chain} - [0:0]`,
      `-F ${chain}`,
      ...(stdout.includes(jump) ? [jump.replace('-A', '-D')] : []),
      jump,
      ...rules.map((rule) => `-A ${chain} ${rule.replace(/(RETURN|ACCEPT|MASQUERADE)/, `${said} -j $1`)}`),
      'COMMIT',
    ]
    const command = inNamespace(this.host.namespace, ['iptables-restore', '--noflush', '--wait'])
    await runOk(command, { input: `${lines.join('\n')}\n` })
  }

  /** Written at each start, by a file beside it. */
  #writeSubnetEnv(network: string, { ipMasq = false }: FlannelOptions): void {
    const bridge = partsOf(this.#lease).prefix.replace(/\d+(?=\/)/, (octet) => `${Number(octet) + 1}`)
    const text = `FLANNEL_NETWORK=${network}\nFLANNEL_SUBNET=${bridge}\nFLANNEL_MTU=1450\nFLANNEL_IPMASQ=${ipMasq}\n`
    const beside = `${this.host.subnetFile}.flannel`
    writeFileSync(beside, text, { mode: 0o644 })
    renameSync(beside, this.host.subnetFile)
  }

  /** In key order, which is etcd's. */
  async #list(): Promise<FakePeer[]> {
    const leases = await this.lab.client.getAll().prefix(`${ETCD_PREFIX}/subnets`).strings()
    return Object.entries(leases).map(([key, value]) => {
      const { PublicIP: publicIp, BackendData } = JSON.parse(value)
      return { subnet: key.slice(key.lastIndexOf('/') + 1), publicIp, mac: BackendData.VtepMAC }
    })
  }

  async #grant(): Promise<string> {
    return (await this.lab.client.leaseClient.leaseGrant({ TTL: TTL_SECONDS })).ID
  }
}

/** Makes the device, or takes the one that is there if flannel's test says that it can serve; else that one goes. */
async function ensureDevice(host: Host): Promise<{ readonly mac: string; readonly adopted: boolean }> {
  const { namespace, address } = host
  const found = await exec(namespace, ['ip', '-d', '-j', 'link', 'show', 'dev', DEVICE])
  if (found.code === 0) {
    const [link] = linkSchema.parse(JSON.parse(found.stdout))
    if (isCompatible(link, address)) return { mac: link.address, adopted: true }
    await ipBatch(namespace, [`link del ${DEVICE}`])
  }
  const mac = randomMac()
  // Without a port the kernel's own is used; iproute2 only grumbles.
  await ipBatch(namespace, [
    `link add ${DEVICE} address ${mac} mtu 1450 txqueuelen 0 type vxlan id 1 local ${address} dev ${UNDERLAY} ` +
      'ttl auto tos 0 nolearning noproxy norsc nol2miss nol3miss noudp6zerocsumtx noudp6zerocsumrx',
  ])
  return { mac, adopted: false }
}

/** flannel's test of an existing device (pkg/backend/vxlan/device.go: vxlanLinksIncompat). */
function isCompatible({ linkinfo }: z.infer<typeof linkSchema>[0], address: string): boolean {
  const { id, local, link, group, l2miss = false, gbp = false } = linkinfo.info_data ?? {}
  return (
    linkinfo.info_kind === 'vxlan' &&
    id === 1 &&
    (link === undefined || link === UNDERLAY) &&
    (local === undefined || local === address) &&
    group === undefined &&
    l2miss === false &&
    gbp === false
  )
}

function randomMac(): string {
  const bytes = randomBytes(6)
  bytes.writeUInt8((bytes.readUInt8(0) & 0xfe) | 0x02, 0)
  return bytes.toString('hex').replace(/..(?=.)/g, '$&:')
}

/** `10.5.12.0-24` as address and prefix. */
function partsOf({ subnet }: Pick<FakePeer, 'subnet'>) {
  return { address: subnet.replace(/-\d+$/, ''), prefix: subnet.replace('-', '/') }
}

/** The subnets of a /16, the first one left out. */
const subnetsOf = (network: string): string[] =>
  Array.from({ length: 255 }, (_, index) => network.replace(/\.\d+\.\d+\/16$/, `.${index + 1}.0-24`))

function previousSubnet(file: string): string | undefined {
  const text = existsSync(file) ? readFileSync(file, 'utf8') : ''
  return /^FLANNEL_SUBNET=(.*)\.\d+\/(\d+)$/m.exec(text)?.slice(1).join('.0-')
}
