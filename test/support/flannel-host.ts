/**
 * A model of flanneld (0.28, vxlan, IPv4 or dual-stack): it writes the same objects to the kernel (by
 * iproute2 and iptables), the same keys to etcd and the same subnet.env. There is no process: it acts only
 * when a method is called, so a flanneld that has ended is one whose methods are no longer called.
 */
import { randomBytes } from 'node:crypto'
import { existsSync, readFileSync, renameSync, writeFileSync } from 'node:fs'
import { z } from 'zod'
import { Host } from '../lab/host'
import { ETCD_PREFIX, type Lab } from '../lab/lab'
import { type FakePeer, leaseKey, leaseValue, subnetName } from '../lab/leases'
import { exec, execOk, inNamespace, ipBatch, setSysctl } from '../lab/namespace'
import { runOk } from '../lab/process'

export interface FlannelOptions {
  /** flanneld's `--ip-masq`. */
  readonly ipMasq?: boolean
}

/** The part of a lease for one family. */
type Half = Omit<FakePeer, 'six'>

/** Properties in which the two families differ. */
interface Family {
  readonly device: string
  /** Bits of an address: the prefix length of the device's own address. */
  readonly bits: number
  readonly iptables: 'iptables' | 'ip6tables'
  /** The range of multicast addresses, which is not masqueraded. */
  readonly multicast: string
  /** Prefix of the variables in subnet.env. */
  readonly variable: string
}

const FOUR: Family = {
  device: Host.device,
  bits: 32,
  iptables: 'iptables',
  multicast: '224.0.0.0/4',
  variable: 'FLANNEL',
}
const SIX: Family = {
  device: Host.device6,
  bits: 128,
  iptables: 'ip6tables',
  multicast: 'ff00::/8',
  variable: 'FLANNEL_IPV6',
}

/** flannel's leases live one day. */
const TTL_SECONDS = 86_400
const UNDERLAY = 'eth0'

const configSchema = z.object({ Network: z.string(), IPv6Network: z.string().optional() })
type Config = z.infer<typeof configSchema>

const leaseSchema = z.object({
  PublicIP: z.string(),
  PublicIPv6: z.string().nullable(),
  BackendData: z.object({ VtepMAC: z.string() }),
  BackendV6Data: z.object({ VtepMAC: z.string() }).optional(),
})

const linkSchema = z.tuple([
  z.object({
    address: z.string(),
    linkinfo: z.object({ info_kind: z.string(), info_data: z.record(z.string(), z.unknown()).optional() }),
  }),
])

export class FlannelHost {
  #lease: FakePeer = { subnet: '', publicIp: '', mac: '' }
  #etcdLease = '0'
  #adopted = true

  /**
   * Does all that flanneld does at its start: devices, lease, addresses, rules, subnet.env, peers, in this
   * order.
   */
  static async start(lab: Lab, host: Host, options: FlannelOptions = {}): Promise<FlannelHost> {
    const text = (await lab.client.get(`${ETCD_PREFIX}/config`).string()) ?? ''
    const flannel = new FlannelHost(lab, host, configSchema.parse(JSON.parse(text)))
    await flannel.#makeDevices()
    await flannel.#acquire()
    await flannel.#configureDevices()
    for (const [family, network, half] of flannel.#families()) {
      await flannel.#setRules(family, network, half, options)
    }
    flannel.#writeSubnetEnv(options)
    await flannel.learnAll()
    return flannel
  }

  private constructor(
    private readonly lab: Lab,
    readonly host: Host,
    private readonly config: Config,
  ) {}

  /** The lease that this flanneld has written to etcd. */
  get lease(): FakePeer {
    return this.#lease
  }

  get key(): string {
    return leaseKey(ETCD_PREFIX, subnetName(this.#lease))
  }

  /** Id of the etcd lease that the key is bound to. */
  get etcdLease(): string {
    return this.#etcdLease
  }

  /** Whether flanneld found all its devices at its start and used them unchanged. */
  get adopted(): boolean {
    return this.#adopted
  }

  /** Grants a new etcd lease and puts the same value unconditionally. The old etcd lease is not revoked. */
  async renew(): Promise<void> {
    this.#etcdLease = await this.#grant()
    await this.lab.client.put(this.key).value(leaseValue(this.#lease)).lease(this.#etcdLease)
  }

  /** Writes a peer to the kernel, IPv4 first: neighbour, FDB, route, each created or replaced. */
  async learn(peer: FakePeer): Promise<void> {
    const { namespace } = this.host
    for (const [{ device }, { mac, publicIp, ...half }] of halvesOf(peer)) {
      const { address, prefix } = partsOf(half)
      await ipBatch(namespace, [`neigh replace ${address} lladdr ${mac} dev ${device} nud permanent`])
      const entry = [mac, 'dev', device, 'dst', publicIp, 'self', 'permanent']
      await execOk(namespace, ['bridge', 'fdb', 'replace', ...entry])
      await ipBatch(namespace, [`route replace ${prefix} via ${address} dev ${device} proto boot onlink`])
    }
  }

  /** Writes all peers in etcd to the kernel. */
  async learnAll(): Promise<void> {
    for (const peer of await this.#list()) {
      if (peer.subnet !== this.#lease.subnet) await this.learn(peer)
    }
  }

  /** Removes a peer from the kernel: neighbour, FDB, route. An object that is missing is ignored. */
  async forget(peer: FakePeer): Promise<void> {
    const { namespace } = this.host
    for (const [{ device }, { mac, publicIp, ...half }] of halvesOf(peer)) {
      const { address, prefix } = partsOf(half)
      await exec(namespace, ['ip', 'neigh', 'del', address, 'dev', device])
      await exec(namespace, ['bridge', 'fdb', 'del', mac, 'dev', device, 'dst', publicIp, 'self'])
      await exec(namespace, ['ip', 'route', 'del', prefix, 'via', address, 'dev', device])
    }
  }

  async #makeDevices(): Promise<void> {
    const { address: publicIp, address6 } = this.host
    this.#lease = { subnet: '', publicIp, mac: await this.#makeDevice(FOUR, publicIp) }
    if (this.config.IPv6Network === undefined) return
    const six = { subnet: '', publicIp: address6, mac: await this.#makeDevice(SIX, address6) }
    this.#lease = { ...this.#lease, six }
  }

  /**
   * Uses an existing device that flannel considers compatible. Otherwise deletes it and creates the device.
   * @returns the device's MAC
   */
  async #makeDevice({ device }: Family, local: string): Promise<string> {
    const { namespace } = this.host
    const found = await exec(namespace, ['ip', '-d', '-j', 'link', 'show', 'dev', device])
    if (found.code === 0) {
      const [link] = linkSchema.parse(JSON.parse(found.stdout))
      if (isCompatible(link, local)) return link.address
      await ipBatch(namespace, [`link del ${device}`])
    }
    this.#adopted = false
    const mac = randomMac()
    // Without dstport the kernel uses 8472 (drivers/net/vxlan, vxlan_port); iproute2 only prints a warning.
    await ipBatch(namespace, [
      `link add ${device} address ${mac} mtu 1450 txqueuelen 0 ` +
        `type vxlan id 1 local ${local} dev ${UNDERLAY} ttl auto tos 0 ` +
        'nolearning noproxy norsc nol2miss nol3miss noudp6zerocsumtx noudp6zerocsumrx',
    ])
    return mac
  }

  /**
   * Takes the lease with this host's PublicIP if it has the same families. Otherwise deletes that lease, and
   * takes the subnets of subnet.env if they are free, else the first free ones.
   */
  async #acquire(): Promise<void> {
    const leases = await this.#list()
    const own = leases.find(({ publicIp }) => publicIp === this.host.address)
    const isFitting = own !== undefined && (own.six === undefined) === (this.#lease.six === undefined)
    if (isFitting) {
      this.#setSubnets(own.subnet, own.six?.subnet)
      return this.renew()
    }
    if (own !== undefined) await this.lab.client.delete().key(leaseKey(ETCD_PREFIX, subnetName(own)))
    const before = previousSubnets(this.host.subnetFile)
    const taken = leases.flatMap(({ subnet, six }) => [subnet, six?.subnet ?? ''])
    const choose = (candidates: readonly (string | undefined)[]): string =>
      candidates.find((each) => each !== undefined && !taken.includes(each)) ?? ''
    const { Network, IPv6Network } = this.config
    this.#setSubnets(
      choose([before.four, ...subnetsOf(Network)]),
      IPv6Network && choose([before.six, ...subnetsOf(IPv6Network)]),
    )
    await this.#create()
  }

  #setSubnets(subnet: string, subnet6: string | undefined): void {
    const six = this.#lease.six && { ...this.#lease.six, subnet: subnet6 ?? '' }
    this.#lease = { ...this.#lease, subnet, ...(six && { six }) }
  }

  async #create(): Promise<void> {
    const [key, lease] = [Buffer.from(this.key), await this.#grant()]
    const { succeeded } = await this.lab.client.kv.txn({
      compare: [{ key, target: 'Version', result: 'Equal', version: '0' }],
      success: [{ request_put: { key, value: Buffer.from(leaseValue(this.#lease)), lease } }],
    })
    if (!succeeded) throw new Error(`failed to acquire lease ${this.key}: subnet already exists`)
    this.#etcdLease = lease
  }

  async #configureDevices(): Promise<void> {
    const { namespace } = this.host
    for (const [{ device, bits }, half] of halvesOf(this.#lease)) {
      const own = `${partsOf(half).address}/${bits}`
      await setSysctl(namespace, `net/ipv6/conf/${device}/accept_ra`, '0')
      const shown = await execOk(namespace, ['ip', '-o', 'address', 'show', 'dev', device])
      await ipBatch(namespace, [
        ...(shown.includes(` ${own} `) ? [] : [`address add ${own} dev ${device}`]),
        `link set ${device} up`,
      ])
    }
  }

  async #setRules(family: Family, network: string, half: Half, { ipMasq }: FlannelOptions): Promise<void> {
    const { prefix } = partsOf(half)
    await this.#restore(family, 'filter', 'FLANNEL-FWD', 'FORWARD', 'flanneld forward', [
      `-s ${network} ACCEPT`,
      `-d ${network} ACCEPT`,
    ])
    if (ipMasq !== true) return
    await this.#restore(family, 'nat', 'FLANNEL-POSTRTG', 'POSTROUTING', 'flanneld masq', [
      '-m mark --mark 0x4000/0x4000 RETURN',
      `-s ${prefix} -d ${network} RETURN`,
      `-s ${network} -d ${prefix} RETURN`,
      `! -s ${network} -d ${prefix} RETURN`,
      `-s ${network} ! -d ${family.multicast} MASQUERADE --random-fully`,
      `! -s ${network} -d ${network} MASQUERADE --random-fully`,
    ])
  }

  /** Flushes and fills flannel's own chain, and moves the jump to it to the end of the chain `from`. */
  async #restore(
    { iptables }: Family,
    table: string,
    chain: string,
    from: string,
    comment: string,
    rules: readonly string[],
  ): Promise<void> {
    const match = `-m comment --comment "${comment}"`
    const jump = `-A ${from} ${match} -j ${chain}`
    const { stdout } = await exec(this.host.namespace, [iptables, '-t', table, '-S'])
    const lines = [
      `*${table}`,
      `:${chain} - [0:0]`,
      `-F ${chain}`,
      ...(stdout.includes(jump) ? [jump.replace('-A', '-D')] : []),
      jump,
      ...rules.map((rule) => `-A ${chain} ${rule.replace(/(RETURN|ACCEPT|MASQUERADE)/, `${match} -j $1`)}`),
      'COMMIT',
    ]
    const command = inNamespace(this.host.namespace, [`${iptables}-restore`, '--noflush', '--wait'])
    await runOk(command, { input: `${lines.join('\n')}\n` })
  }

  /** Writes subnet.env through a temporary file. As in flannel, the MTU is that for IPv4 even with IPv6. */
  #writeSubnetEnv({ ipMasq = false }: FlannelOptions): void {
    const lines = this.#families().flatMap(([{ variable, bits }, network, half]) => {
      const { address, prefix } = partsOf(half)
      const first = bits === 32 ? address.replace(/\d+$/, (last) => `${Number(last) + 1}`) : `${address}1`
      return [`${variable}_NETWORK=${network}`, `${variable}_SUBNET=${prefix.replace(address, first)}`]
    })
    const temporary = `${this.host.subnetFile}.flannel`
    const text = [...lines, 'FLANNEL_MTU=1450', `FLANNEL_IPMASQ=${ipMasq}`, ''].join('\n')
    writeFileSync(temporary, text, { mode: 0o644 })
    renameSync(temporary, this.host.subnetFile)
  }

  /** The families of this host's lease: family, the network's range, the host's part of the lease. */
  #families(): (readonly [Family, string, Half])[] {
    const networks = [this.config.Network, this.config.IPv6Network ?? '']
    return halvesOf(this.#lease).map(([family, half], index) => [family, networks[index] ?? '', half])
  }

  /** All leases in etcd, in the order of their keys. */
  async #list(): Promise<FakePeer[]> {
    const leases = await this.lab.client.getAll().prefix(`${ETCD_PREFIX}/subnets`).strings()
    return Object.entries(leases).map(([key, value]) => {
      const {
        PublicIP: publicIp,
        PublicIPv6,
        BackendData,
        BackendV6Data,
      } = leaseSchema.parse(JSON.parse(value))
      const [subnet = '', subnet6] = key.slice(key.lastIndexOf('/') + 1).split('&')
      const peer = { subnet, publicIp, mac: BackendData.VtepMAC }
      if (subnet6 === undefined) return peer
      return {
        ...peer,
        six: { subnet: subnet6, publicIp: PublicIPv6 ?? '', mac: BackendV6Data?.VtepMAC ?? '' },
      }
    })
  }

  async #grant(): Promise<string> {
    return (await this.lab.client.leaseClient.leaseGrant({ TTL: TTL_SECONDS })).ID
  }
}

function halvesOf(lease: FakePeer): (readonly [Family, Half])[] {
  const four = [FOUR, lease] as const
  return lease.six === undefined ? [four] : [four, [SIX, lease.six]]
}

/** flannel's test of an existing device (pkg/backend/vxlan/device.go: vxlanLinksIncompat). */
function isCompatible({ linkinfo }: z.infer<typeof linkSchema>[0], address: string): boolean {
  const { id, local, local6, link, group, l2miss = false, gbp = false } = linkinfo.info_data ?? {}
  return (
    linkinfo.info_kind === 'vxlan' &&
    id === 1 &&
    (link === undefined || link === UNDERLAY) &&
    (local ?? local6 ?? address) === address &&
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
function partsOf({ subnet }: Pick<Half, 'subnet'>) {
  return { address: subnet.replace(/-\d+$/, ''), prefix: subnet.replace('-', '/') }
}

/** The /24 subnets of a /16, or the first 255 /64 subnets of a /48, each without subnet 0. */
const subnetsOf = (network: string): string[] =>
  Array.from({ length: 255 }, (_, index) =>
    network.includes(':')
      ? network.replace(/::\/48$/, `:0:${(index + 1).toString(16)}::-64`)
      : network.replace(/\.\d+\.\d+\/16$/, `.${index + 1}.0-24`),
  )

/** The subnets in a subnet.env, spelled as in keys. */
function previousSubnets(file: string): {
  readonly four: string | undefined
  readonly six: string | undefined
} {
  const text = existsSync(file) ? readFileSync(file, 'utf8') : ''
  return {
    four: /^FLANNEL_SUBNET=(.*)\.\d+\/(\d+)$/m.exec(text)?.slice(1).join('.0-'),
    six: /^FLANNEL_IPV6_SUBNET=(.*::)1\/(\d+)$/m.exec(text)?.slice(1).join('-'),
  }
}
