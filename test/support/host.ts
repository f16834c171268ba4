/** A host of the lab: a network namespace on the underlay in which overlayd runs as on a real machine. */
import { mkdirSync, readFileSync } from 'node:fs'
import { get } from 'node:http'
import { join, resolve } from 'node:path'
import { type Status, statusSchema } from '../../src/daemon/status'
import { type KernelView, readKernel } from './kernel-view'
import { execOk, inNamespace, ipBatch } from './namespace'
import { type Command, type Exit, LongProcess, run } from './process'
import { Pending, waitFor } from './wait'

const ROOT = resolve(__dirname, '../..')
/** The name of the bridge that stands for docker's. */
const BRIDGE = 'docker0'

/** What a host has to know of its lab. */
export interface HostSite {
  readonly name: string
  /** On the underlay, with its prefix length in `underlay`. */
  readonly address: string
  readonly address6: string
  /** Of the host alone; removed with the lab. */
  readonly directory: string
  readonly etcdEndpoint: string
  readonly etcdPrefix: string
}

/** overlayctl's commands that ask the daemon. */
const OF_DAEMON = ['status', 'events', 'metrics']

export interface StartOptions {
  /** More flags, or other values of those that are given anyway; undefined leaves one out. */
  readonly flags?: Readonly<Record<string, string | undefined>>
  readonly env?: NodeJS.ProcessEnv
  /** A command that runs the daemon's command, e.g. `setpriv ...`. */
  readonly wrapper?: readonly string[]
  /** What runs in place of the daemon that was built from this tree: a command without flags. */
  readonly program?: readonly string[]
}

/** The file's values; the empty text for a family that the network has not. */
export interface SubnetEnv {
  readonly network: string
  /** `10.5.12.1/24` */
  readonly subnet: string
  readonly ipv6Network: string
  /** `fd00:5:0:37::1/64` */
  readonly ipv6Subnet: string
  readonly mtu: number
}

/** A container as the overlay sees it: a namespace with an address of its host's subnet, behind the host's bridge. */
export interface Container {
  readonly name: string
  /** The same as its name. */
  readonly namespace: string
  /** Its only address in a network of one family; the IPv4 one where there are both. */
  readonly address: string
  /** Where the network has IPv6. */
  readonly address6: string | undefined
}

export class Host {
  static readonly device = 'flannel.1'
  static readonly device6 = 'flannel-v6.1'
  readonly subnetFile: string
  readonly runDirectory: string
  readonly stateDirectory: string
  #daemon: LongProcess | undefined
  #startOptions: StartOptions = {}
  #containers: Container[] = []

  constructor(private readonly site: HostSite) {
    this.subnetFile = join(site.directory, 'subnet.env')
    this.runDirectory = join(site.directory, 'run')
    this.stateDirectory = join(site.directory, 'state')
    mkdirSync(this.runDirectory, { recursive: true })
  }

  get name(): string {
    return this.site.name
  }

  get namespace(): string {
    return this.site.name
  }

  /** Its address on the underlay. */
  get address(): string {
    return this.site.address
  }

  get address6(): string {
    return this.site.address6
  }

  /** The daemon that was started last. */
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

  /** Starts overlayd and does not wait for anything. */
  start(options: StartOptions = {}): LongProcess {
    if (this.running) throw new Error(`overlayd runs already on ${this.name}`)
    this.#startOptions = options
    this.#daemon = this.spawn(options)
    return this.#daemon
  }

  /** Runs overlayd beside what {@link start} started; whoever calls it has to end it. */
  spawn(options: StartOptions = {}): LongProcess {
    const flags = {
      'etcd-endpoints': this.site.etcdEndpoint,
      'etcd-prefix': this.site.etcdPrefix,
      iface: 'eth0',
      'subnet-file': this.subnetFile,
      'run-dir': this.runDirectory,
      'state-dir': this.stateDirectory,
      v: '1',
      ...options.flags,
    }
    const command = [
      ...(options.wrapper ?? []),
      ...(options.program ?? [process.execPath, join(ROOT, 'dist/overlayd.js')]),
      ...Object.entries(flags)
        .filter(([, value]) => value !== undefined)
        .map(([name, value]) => `${name.length === 1 ? '-' : '--'}${name}=${value}`),
    ]
    return new LongProcess(`overlayd on ${this.name}`, inNamespace(this.namespace, command), {
      ...process.env,
      ...options.env,
    })
  }

  /** Ends the daemon and waits for that. */
  stop(signal: NodeJS.Signals = 'SIGTERM'): Promise<Exit> {
    return this.daemon.stop(signal)
  }

  /** Stops the daemon by a signal and starts it as it was started before. */
  async restart(signal: NodeJS.Signals = 'SIGTERM'): Promise<void> {
    await this.stop(signal)
    this.start(this.#startOptions)
  }

  /**
   * The status document, straight from the control socket, or why there is none.
   * @param query `?brief` for one with few peers
   */
  async status(query: '' | '?brief' = ''): Promise<Status | Pending> {
    const text = await httpGet(join(this.runDirectory, 'overlayd.sock'), `/status${query}`)
    return text instanceof Pending ? text : statusSchema.parse(JSON.parse(text))
  }

  /** What Prometheus would read, straight from the control socket, or why there is nothing. */
  metrics(): Promise<string | Pending> {
    return httpGet(join(this.runDirectory, 'overlayd.sock'), '/metrics')
  }

  /** Runs overlayctl on this host, for its daemon where it concerns one. */
  overlayctl(...args: readonly string[]) {
    const [command = 'status', ...rest] = args
    return run(
      inNamespace(this.namespace, [
        process.execPath,
        join(ROOT, 'dist/overlayctl.js'),
        command,
        ...(OF_DAEMON.includes(command) ? [`--run-dir=${this.runDirectory}`] : []),
        ...rest,
      ]),
    )
  }

  /** Waits until the status document is as wanted. */
  waitForStatus(what: string, wanted: (status: Status) => boolean, timeoutMs = 10_000): Promise<Status> {
    return waitFor(
      `the status of ${this.name}: ${what}`,
      async () => {
        const status = await this.status()
        if (status instanceof Pending) {
          if (!this.running)
            throw new Error(`waited for ${what}, and the daemon has ended\n${this.daemon.tail()}`)
          return status
        }
        return wanted(status) ? status : new Pending(summarize(status))
      },
      { timeoutMs, context: () => this.#daemon?.tail() ?? '' },
    )
  }

  /** Waits until the daemon is healthy and the kernel has exactly this number of peers, in each family of the network. */
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

  /** What the daemon wrote for Docker; waits for it. */
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

  /** Its overlay device's objects, as iproute2 shows them. */
  kernel(device = Host.device): Promise<KernelView> {
    return readKernel(this.namespace, device)
  }

  /** Waits until iproute2 shows the device's objects as wanted. */
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

  /** Waits until something about the host holds. */
  waitUntil(what: string, holds: () => Promise<boolean>, timeoutMs = 10_000): Promise<true> {
    return waitFor(`${this.name}: ${what}`, async () => (await holds()) || new Pending('it is not so'), {
      timeoutMs,
      context: () => this.#daemon?.tail() ?? '',
    })
  }

  /** Its overlay device, by iproute2. */
  async link(device = Host.device): Promise<{ readonly mac: string; readonly mtu: number }> {
    const shown = await this.exec('ip', '-o', 'link', 'show', 'dev', device)
    const match = / mtu (\d+) .* link\/ether ([0-9a-f:]{17})/.exec(shown)
    if (match?.[2] === undefined) throw new Error(`not the line of a device: ${shown}`)
    return { mac: match[2], mtu: Number(match[1]) }
  }

  /** Runs a command on the host that has to succeed. */
  exec(...command: Command): Promise<string> {
    return execOk(this.namespace, command)
  }

  /** Adds a container in the host's subnets, and with the first one the bridge, sized as Docker would by subnet.env. */
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
    const address = addresses[0]?.address ?? ''
    const address6 = addresses.find((each) => each.address.includes(':'))?.address
    if (address6 !== undefined) {
      // IPv6 waits for the link to be told up, which may take the kernel a second.
      const answers = () => run(inNamespace(this.namespace, ['ping', '-n', '-c', '1', '-W', '1', address6]))
      await this.waitUntil(`${name} speaks IPv6`, async () => (await answers()).code === 0)
    }
    const container = { name, namespace: name, address, address6 }
    this.#containers.push(container)
    return container
  }
}

/** A container's address: as many after the bridge's as it has number. */
function containerAddress(subnet: string, number: number) {
  const [gateway = '', length = ''] = subnet.split('/')
  const address = gateway.replace(/\d+$/, (last) => `${Number(last) + number}`)
  return { gateway, length, address, anywhere: gateway.includes(':') ? '::/0' : '0.0.0.0/0' }
}

/** Duplicate address detection takes a second, in which an IPv6 address is of no use. */
const withoutDad = (address: string): string => (address.includes(':') ? 'nodad' : '')

/** The peers that are in the kernel, counted for each family of the network. */
function goodPeers({ network, peers }: Status): number[] {
  const good = peers.filter(({ state }) => state === 'ok')
  const six = good.filter(({ subnet }) => subnet.includes(':')).length
  return [
    ...(network?.network === undefined ? [] : [good.length - six]),
    ...(network?.ipv6Network === undefined ? [] : [six]),
  ]
}

/** A GET over a unix socket; a daemon that does not answer (yet) is no error. */
function httpGet(socketPath: string, path: string): Promise<string | Pending> {
  return new Promise((resolve) => {
    const failed = (error: Error) => resolve(new Pending(error.message))
    const request = get({ socketPath, path, agent: false, timeout: 5000 }, (response) => {
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

/** A status document in a line, for the message of a wait that failed. */
function summarize(status: Status): string {
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
