/** A host of the lab: a network namespace on the underlay, in which overlayd runs as on a real machine. */
import { mkdirSync, readFileSync, writeFileSync } from 'node:fs'
import { get } from 'node:http'
import { dirname, join } from 'node:path'
import { type Status, statusSchema } from '../../src/api/status'
import { type KernelView, readKernel } from './kernel-view'
import { execOk, inNamespace, ipBatch } from './namespace'
import { patient } from './patience'
import { type Command, type Exit, LongProcess, run } from './process'
import { OVERLAYCTL, OVERLAYD } from './programs'
import { Pending, waitFor } from './wait'

/** The bridge in place of Docker's. */
const BRIDGE = 'docker0'

/** A host's place in its lab. */
export interface HostSite {
  readonly name: string
  /** The host's addresses on the underlay. */
  readonly address: string
  readonly address6: string
  /** A directory for this host alone; removed with the lab. */
  readonly directory: string
  readonly etcdEndpoint: string
  readonly etcdPrefix: string
}

export interface StartOptions {
  /** Further flags, or other values of the default flags; undefined omits a flag. */
  readonly flags?: Readonly<Record<string, string | undefined>>
  readonly env?: NodeJS.ProcessEnv
  /** A command that runs the daemon's command, such as `setpriv ...`. */
  readonly wrapper?: readonly string[]
  /** A command, without flags, that runs instead of the daemon built from this tree. */
  readonly program?: readonly string[]
}

/** Values of subnet.env; empty strings for a family that the network does not have. */
export interface SubnetEnv {
  readonly network: string
  /** `10.5.12.1/24` */
  readonly subnet: string
  readonly ipv6Network: string
  /** `fd00:5:0:37::1/64` */
  readonly ipv6Subnet: string
  readonly mtu: number
}

/** Stands for a container: a namespace with an address of its host's subnet, behind the host's bridge. */
export interface Container {
  readonly name: string
  /** Same as the name. */
  readonly namespace: string
  /** The IPv4 address; the IPv6 address in a network without IPv4. */
  readonly address: string
  /** Undefined in a network without IPv6. */
  readonly address6: string | undefined
}

export class Host {
  static readonly device = 'flannel.1'
  static readonly device6 = 'flannel-v6.1'
  readonly subnetFile: string
  readonly runDirectory: string
  readonly stateDirectory: string
  /** Directory mounted over /etc/default for commands of this host. */
  readonly defaultsDirectory: string
  #daemon: LongProcess | undefined
  #startOptions: StartOptions = {}
  #containers: Container[] = []

  constructor(private readonly site: HostSite) {
    // As on a real host, the file has a directory of its own, so that a test can delete the directory.
    this.subnetFile = join(site.directory, 'flannel', 'subnet.env')
    this.runDirectory = join(site.directory, 'run')
    this.stateDirectory = join(site.directory, 'state')
    this.defaultsDirectory = join(site.directory, 'default')
    mkdirSync(this.runDirectory, { recursive: true })
    mkdirSync(dirname(this.subnetFile), { recursive: true })
    mkdirSync(this.defaultsDirectory)
    // As after an installation, before the first start.
    this.#writeDefaults(this.#flags())
  }

  get name(): string {
    return this.site.name
  }

  get namespace(): string {
    return this.site.name
  }

  /** The host's address on the underlay. */
  get address(): string {
    return this.site.address
  }

  get address6(): string {
    return this.site.address6
  }

  /** The daemon that {@link start} started last. */
  get daemon(): LongProcess {
    if (this.#daemon === undefined) throw new Error(`overlayd was never started on ${this.name}`)
    return this.#daemon
  }

  get running(): boolean {
    return this.#daemon?.running ?? false
  }

  get containers(): readonly Container[] {
    return this.#containers
  }

  /** Starts overlayd without waiting for it. */
  start(options: StartOptions = {}): LongProcess {
    if (this.running) throw new Error(`overlayd is already running on ${this.name}`)
    this.#startOptions = options
    this.#writeDefaults({ ...this.#flags(), ...variablesOf(options.env), ...options.flags })
    this.#daemon = this.spawn(options)
    return this.#daemon
  }

  /** Starts another overlayd beside that of {@link start}. The caller has to end it. */
  spawn(options: StartOptions = {}): LongProcess {
    const flags: Record<string, string | undefined> = { ...this.#flags(), v: '1', ...options.flags }
    const command = [
      ...(options.wrapper ?? []),
      ...(options.program ?? [process.execPath, OVERLAYD]),
      ...Object.entries(flags)
        .filter(([, value]) => value !== undefined)
        .map(([name, value]) => `${name.length === 1 ? '-' : '--'}${name}=${value}`),
    ]
    return new LongProcess(`overlayd on ${this.name}`, inNamespace(this.namespace, command), {
      ...process.env,
      // Leases of hosts that do not exist are in many labs, and nothing answers for them.
      FLANNELD_PROBE: 'off',
      ...options.env,
    })
  }

  #flags(): Record<string, string> {
    return {
      'etcd-endpoints': this.site.etcdEndpoint,
      'etcd-prefix': this.site.etcdPrefix,
      iface: 'eth0',
      'subnet-file': this.subnetFile,
      'run-dir': this.runDirectory,
      'state-dir': this.stateDirectory,
    }
  }

  /** Ends the daemon and waits for its exit. */
  stop(signal: NodeJS.Signals = 'SIGTERM'): Promise<Exit> {
    return this.daemon.stop(signal)
  }

  /** Stops the daemon by a signal and starts it again with the same options. */
  async restart(signal: NodeJS.Signals = 'SIGTERM'): Promise<void> {
    await this.stop(signal)
    this.start(this.#startOptions)
  }

  /**
   * Starts overlayd, and again where it has not waited for etcd: without an answer for 3 s, which a slow
   * machine may need, it comes up from its state file.
   * @param prepare done before each start
   */
  async startByEtcd(
    options: StartOptions = {},
    prepare: () => Promise<unknown> = async () => undefined,
  ): Promise<void> {
    for (;;) {
      await prepare()
      this.start(options)
      await this.waitForStatus('an answer of etcd', ({ etcd }) => etcd.connected, 20_000)
      if (!this.daemon.output.includes('coming up from what was known')) return
      await this.stop()
    }
  }

  /** {@link restart}, with {@link startByEtcd}. */
  async restartByEtcd(): Promise<void> {
    await this.stop()
    await this.startByEtcd(this.#startOptions)
  }

  /**
   * Reads the status document from the control socket; {@link Pending} with the reason if that fails.
   * @param query `?brief` for a document with few peers
   */
  async status(query: '' | '?brief' = ''): Promise<Status | Pending> {
    const text = await httpGet(join(this.runDirectory, 'overlayd.sock'), `/status${query}`)
    return text instanceof Pending ? text : statusSchema.parse(JSON.parse(text))
  }

  /** Reads the Prometheus metrics from the control socket; {@link Pending} with the reason if that fails. */
  metrics(): Promise<string | Pending> {
    return httpGet(join(this.runDirectory, 'overlayd.sock'), '/metrics')
  }

  /** Runs overlayctl on this host. It finds etcd and the daemon by /etc/default, as on a real host. */
  overlayctl(...args: readonly string[]) {
    return run(this.overlayctlCommand(...args))
  }

  /** The command of {@link overlayctl}. */
  overlayctlCommand(...args: readonly string[]): Command {
    return this.withDefaults([process.execPath, OVERLAYCTL, ...args])
  }

  /** Wraps a command so that it runs on this host with the host's own /etc/default. */
  withDefaults(command: readonly string[]): Command {
    const mount = `mount --bind ${this.defaultsDirectory} /etc/default && exec "$@"`
    return inNamespace(this.namespace, ['unshare', '--mount', 'sh', '-c', mount, 'sh', ...command])
  }

  /** Writes the options as FLANNELD_ variables to the host's /etc/default/overlayd. */
  #writeDefaults(settings: Readonly<Record<string, string | undefined>>): void {
    const lines = Object.entries(settings).flatMap(([name, value]) =>
      value === undefined || name === 'v'
        ? []
        : [`FLANNELD_${name.toUpperCase().replaceAll('-', '_')}="${value.replace(/["\\`$]/g, '\\$&')}"`],
    )
    writeFileSync(join(this.defaultsDirectory, 'overlayd'), `${lines.join('\n')}\n`, { mode: 0o640 })
  }

  /** Waits until `wanted` holds for the status document. Throws at once if the daemon has exited. */
  waitForStatus(what: string, wanted: (status: Status) => boolean, timeoutMs = 10_000): Promise<Status> {
    return waitFor(
      `the status of ${this.name}: ${what}`,
      async () => {
        const status = await this.status()
        if (status instanceof Pending) {
          if (!this.running)
            throw new Error(`waited for ${what}, but the daemon has exited\n${this.daemon.tail()}`)
          return status
        }
        return wanted(status) ? status : new Pending(summarize(status))
      },
      { timeoutMs, context: () => this.#daemon?.tail() ?? '' },
    )
  }

  /**
   * Waits until the daemon reports itself healthy and converged, with exactly this number of `ok` peers in
   * each family of the network.
   */
  waitConverged(peers: number, timeoutMs?: number): Promise<Status> {
    return this.waitForStatus(
      `healthy and converged with ${peers} peers`,
      (status) =>
        status.state === 'healthy' &&
        status.convergence.converged &&
        goodPeers(status).every((count) => count === peers),
      timeoutMs,
    )
  }

  /** Waits for subnet.env and reads it. */
  subnetEnv(): Promise<SubnetEnv> {
    return waitFor(
      `${this.subnetFile}`,
      () => {
        try {
          return parseSubnetEnv(readFileSync(this.subnetFile, 'utf8'))
        } catch (error) {
          return new Pending(String(error))
        }
      },
      { context: () => this.#daemon?.tail() ?? '' },
    )
  }

  /** Objects of the overlay device, read by iproute2. */
  kernel(device = Host.device): Promise<KernelView> {
    return readKernel(this.namespace, device)
  }

  /** Waits until `wanted` holds for the device's objects, read by iproute2. */
  waitForKernel(
    what: string,
    wanted: (view: KernelView) => boolean,
    timeoutMs = 10_000,
    device = Host.device,
  ): Promise<KernelView> {
    return waitFor(
      `the kernel of ${this.name}: ${what}`,
      async () => {
        const view = await this.kernel(device)
        return wanted(view) ? view : new Pending(JSON.stringify(view))
      },
      { timeoutMs, context: () => this.#daemon?.tail() ?? '' },
    )
  }

  /** Waits until `holds` returns true. On failure the message ends with the daemon's log. */
  waitUntil(what: string, holds: () => Promise<boolean>, timeoutMs = 10_000): Promise<true> {
    const probe = async () => (await holds()) || new Pending('the condition does not hold')
    return waitFor(`${this.name}: ${what}`, probe, {
      timeoutMs,
      context: () => this.#daemon?.tail() ?? '',
    })
  }

  /** The overlay device, read by iproute2. */
  async link(device = Host.device): Promise<{ readonly mac: string; readonly mtu: number }> {
    const shown = await this.exec('ip', '-o', 'link', 'show', 'dev', device)
    const match = / mtu (\d+) .* link\/ether ([0-9a-f:]{17})/.exec(shown)
    if (match?.[2] === undefined) throw new Error(`unexpected output of ip link: ${shown}`)
    return { mac: match[2], mtu: Number(match[1]) }
  }

  /** Runs a command on the host that has to succeed. */
  exec(...command: Command): Promise<string> {
    return execOk(this.namespace, command)
  }

  /**
   * Adds a container with an address in each of the host's subnets. Creates the bridge with the first
   * container, with subnet and MTU from subnet.env as Docker does.
   */
  async addContainer(): Promise<Container> {
    const { subnet, ipv6Subnet, mtu } = await this.subnetEnv()
    const subnets = [subnet, ipv6Subnet].filter((each) => each !== '')
    const number = this.#containers.length + 1
    const name = `${this.name}-c${number}`
    const bridge =
      number > 1
        ? []
        : [
            `link add ${BRIDGE} mtu ${mtu} type bridge`,
            ...subnets.map((each) => `address add ${each} dev ${BRIDGE} ${withoutDad(each)}`),
            `link set ${BRIDGE} up`,
          ]
    await ipBatch(undefined, [`netns add ${name}`])
    await ipBatch(this.namespace, [
      ...bridge,
      `link add veth${number} mtu ${mtu} type veth peer name eth0 mtu ${mtu} netns ${name}`,
      `link set veth${number} master ${BRIDGE} up`,
    ])
    const addresses = subnets.map((each) => containerAddress(each, number))
    await ipBatch(name, [
      'link set lo up',
      ...addresses.map(
        ({ address, length }) => `address add ${address}/${length} dev eth0 ${withoutDad(address)}`,
      ),
      'link set eth0 up',
      ...addresses.map(({ gateway, anywhere }) => `route add ${anywhere} via ${gateway}`),
    ])
    // The bridge forwards only once the kernel has announced that the link is up, which may take a second.
    const port = () => this.exec('bridge', 'link', 'show', 'dev', `veth${number}`)
    await this.waitUntil(`${name} is forwarded to`, async () => (await port()).includes(' state forwarding '))
    const address = addresses[0]?.address ?? ''
    const address6 = addresses.find((each) => each.address.includes(':'))?.address
    if (address6 !== undefined) {
      // IPv6 works only once the kernel has announced that the link is up, which may take a second.
      const answers = () => run(inNamespace(this.namespace, ['ping', '-n', '-c', '1', '-W', '1', address6]))
      await this.waitUntil(`${name} answers over IPv6`, async () => (await answers()).code === 0)
    }
    const container = { name, namespace: name, address, address6 }
    this.#containers.push(container)
    return container
  }
}

/** Options set by FLANNELD_ environment variables: flag name -> value. */
const variablesOf = (env: NodeJS.ProcessEnv = {}): Record<string, string> =>
  Object.fromEntries(
    Object.entries(env).flatMap(([name, value]) =>
      name.startsWith('FLANNELD_') && value !== undefined
        ? [[name.slice('FLANNELD_'.length).toLowerCase().replaceAll('_', '-'), value]]
        : [],
    ),
  )

/** A container's address: the bridge's plus the container's number. */
function containerAddress(subnet: string, number: number) {
  const [gateway = '', length = ''] = subnet.split('/')
  const address = gateway.replace(/\d+$/, (last) => `${Number(last) + number}`)
  return { gateway, length, address, anywhere: gateway.includes(':') ? '::/0' : '0.0.0.0/0' }
}

/** Flag against duplicate address detection (RFC 4862), which takes a second before an IPv6 address works. */
const withoutDad = (address: string): string => (address.includes(':') ? 'nodad' : '')

/** How many peers are `ok`, for each family of the network. */
function goodPeers({ network, peers }: Status): number[] {
  const good = peers.filter(({ state }) => state === 'ok')
  const six = good.filter(({ subnet }) => subnet.includes(':')).length
  return [
    ...(network?.network === undefined ? [] : [good.length - six]),
    ...(network?.ipv6Network === undefined ? [] : [six]),
  ]
}

/** An HTTP GET over a UNIX socket. Failures give {@link Pending}: the daemon may not listen yet. */
function httpGet(socketPath: string, path: string): Promise<string | Pending> {
  return new Promise((resolve) => {
    const failed = (error: Error) => resolve(new Pending(error.message))
    const request = get({ socketPath, path, agent: false, timeout: patient(5000) }, (response) => {
      let body = ''
      response.setEncoding('utf8').on('data', (text: string) => {
        body += text
      })
      response.on('error', failed)
      response.on('end', () =>
        resolve(response.statusCode === 200 ? body : new Pending(`HTTP ${response.statusCode}`)),
      )
    })
    request.on('timeout', () => request.destroy(new Error('the control socket does not answer')))
    request.on('error', failed)
  })
}

function parseSubnetEnv(text: string): SubnetEnv {
  const value = (name: string): string => new RegExp(`^${name}=(.+)$`, 'm').exec(text)?.[1] ?? ''
  if (value('FLANNEL_MTU') === '') throw new Error(`no FLANNEL_MTU in ${JSON.stringify(text)}`)
  return {
    network: value('FLANNEL_NETWORK'),
    subnet: value('FLANNEL_SUBNET'),
    ipv6Network: value('FLANNEL_IPV6_NETWORK'),
    ipv6Subnet: value('FLANNEL_IPV6_SUBNET'),
    mtu: Number(value('FLANNEL_MTU')),
  }
}

/** The essential parts of a status document in one line, for a failure's message. */
export function summarize(status: Status): string {
  const peers = status.peers.map(
    ({ subnet, state, reason }) => `${subnet} ${state}${reason === undefined ? '' : ` (${reason})`}`,
  )
  return JSON.stringify({
    state: status.state,
    problems: status.problems,
    phase: status.daemon.phase,
    convergence: status.convergence,
    etcd: status.etcd,
    peers: peers.length > 10 ? `${peers.length} peers` : peers,
  })
}
