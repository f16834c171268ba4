/** A host that really boots: Debian with systemd as process 1, cloud-init, etcd and Docker, in a container of systemd-nspawn. */
import { copyFileSync, mkdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { basename, dirname, join } from 'node:path'
import { type Command, LongProcess, type RunResult, run, runOk } from './process'
import { Pending, type WaitOptions, waitFor } from './wait'

/** Of a program in a host. */
export const PATH = '/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin'

/** The message ids of systemd's journal entries about units (systemd.io/CATALOG: sd-messages.h). */
const JOURNAL_STARTING = '7d4958e842da4a758f6c1cdc7b36dcc5'
const JOURNAL_STARTED = '39f53479d3a045ac8e11786248231fbf'

/** The exit code by which nspawn says that the guest wants to boot again. */
const REBOOT = 133

/** In the guest: the image of containers, made of busybox alone. */
const IMAGE = 'busybox'

export interface BootedHostSettings {
  readonly name: string
  /** The bridge its interface joins. */
  readonly bridge: string
  /** For all that it writes; below /run of the sandbox. */
  readonly directory: string
  /** Read-only layers of its root file system, the uppermost first. */
  readonly layers: readonly string[]
  /** A control group in each hierarchy, for one of its own below; whoever made them removes that too. */
  readonly cgroups: readonly string[]
  /** What cloud-init finds, by file name: user-data, meta-data, network-config. */
  readonly seed: Readonly<Record<string, string>>
}

/** A Docker container, with its network namespace also under this name in the sandbox. */
export interface BootedContainer {
  readonly namespace: string
  readonly address: string
}

/** An entry of the journal about a unit; seconds since boot and since the epoch. */
interface UnitEvent {
  readonly unit: string
  readonly event: 'starting' | 'started'
  readonly monotonic: number
  readonly realtime: number
}

export class BootedHost {
  readonly #root: string
  readonly #cgroups: readonly string[]
  readonly #namespaces = new Set<string>()
  #nspawn: LongProcess | undefined

  constructor(readonly settings: BootedHostSettings) {
    this.#root = join(settings.directory, 'root')
    // Those of a host of that name in an earlier lab are there until the sandbox ends.
    const lab = basename(dirname(settings.directory))
    this.#cgroups = settings.cgroups.map((parent) => join(parent, `${lab}-${settings.name}`))
  }

  get name(): string {
    return this.settings.name
  }

  /** Its process 1 as the sandbox numbers it; none while it boots or is down. */
  get processOne(): string | undefined {
    if (this.#nspawn?.running !== true) return undefined
    const { pid } = this.#nspawn
    try {
      const children = readFileSync(`/proc/${pid}/task/${pid}/children`, 'utf8').trim().split(' ')
      return children.find((child) => child !== '' && isInit(child))
    } catch {
      return undefined
    }
  }

  /** Makes its file system, seeds cloud-init and starts it; {@link waitBooted} waits for it. */
  async start(): Promise<void> {
    const { directory, layers } = this.settings
    const of = (part: string) => join(directory, part)
    for (const part of ['upper', 'work', 'docker', 'root']) mkdirSync(of(part), { recursive: true })
    const seed = of('upper/var/lib/cloud/seed/nocloud')
    mkdirSync(seed, { recursive: true })
    for (const [name, text] of Object.entries(this.settings.seed)) writeFileSync(join(seed, name), text)
    const overlay = `lowerdir=${layers.join(':')},upperdir=${of('upper')},workdir=${of('work')}`
    await runOk(['mount', '-t', 'overlay', '-o', overlay, 'overlay', this.#root])
    for (const cgroup of this.#cgroups) mkdirSync(cgroup)
    this.#nspawn = this.#spawn()
  }

  /** Waits until all that belongs to the boot is done, cloud-init too, and has not failed. */
  async waitBooted(timeoutMs = 60_000): Promise<void> {
    await this.waitFor(
      'to be up',
      async () => {
        const { stdout, stderr } = await this.run('systemctl', 'is-system-running')
        const state = stdout.trim()
        if (state === 'running') return true
        if (state !== 'degraded') return new Pending(state || stderr.trim())
        throw new Error(`${this.name} is degraded:\n${await this.exec('systemctl', '--failed', '--plain')}`)
      },
      { timeoutMs, intervalMs: 50 },
    )
  }

  /** Reboots it and waits until it is up again. */
  async reboot(): Promise<void> {
    // The connection to systemd may end before the answer.
    await this.run('systemctl', 'reboot')
    const exit = await this.#nspawn?.waitForExit(30_000)
    if (exit?.code !== REBOOT) throw new Error(`${this.name} did not reboot\n${this.#nspawn?.tail()}`)
    this.#nspawn = this.#spawn()
    await this.waitBooted()
  }

  /** Runs a command in it to its end. */
  async run(...command: Command): Promise<RunResult> {
    const leader = this.processOne
    if (leader === undefined) return { code: 127, signal: null, stdout: '', stderr: 'it has no process 1' }
    const namespaces = ['--mount', '--uts', '--ipc', '--net', '--pid', '--cgroup']
    const environment = ['env', '-i', `PATH=${PATH}`, 'LC_ALL=C.UTF-8']
    return run(['nsenter', `--target=${leader}`, ...namespaces, ...environment, ...command], {
      timeoutMs: 60_000,
    })
  }

  /** Runs a command in it that has to succeed. */
  async exec(...command: Command): Promise<string> {
    const { code, stdout, stderr } = await this.run(...command)
    if (code === 0) return stdout
    throw new Error(`\`${command.join(' ')}\` on ${this.name} failed (${code}): ${(stderr || stdout).trim()}`)
  }

  /** Copies a file into its file system. */
  put(source: string, path: string): void {
    copyFileSync(source, join(this.#root, path))
  }

  /** Waits for something about it; says where it stands when that does not come. */
  waitFor<T>(what: string, probe: () => Promise<T | Pending>, options: WaitOptions = {}): Promise<T> {
    return waitFor(`${this.name} ${what}`, probe, { context: () => this.#nspawn?.tail() ?? '', ...options })
  }

  /** A property of a unit, as `systemctl show` has it. */
  async property(unit: string, name: string): Promise<string> {
    return (await this.exec('systemctl', 'show', `--property=${name}`, '--value', unit)).trim()
  }

  /** When units were started in this boot, by the journal, in its order. */
  async unitEvents(): Promise<readonly UnitEvent[]> {
    const lines = await this.exec(
      'journalctl',
      '--boot',
      '--output=json',
      `MESSAGE_ID=${JOURNAL_STARTING}`,
      `MESSAGE_ID=${JOURNAL_STARTED}`,
    )
    return (
      lines
        .split('\n')
        .filter((line) => line !== '')
        .map((line): Record<string, string> => JSON.parse(line))
        // A unit whose condition does not hold is reported as started, in other words.
        .filter((entry) => !/ was skipped /.test(entry['MESSAGE'] ?? ''))
        .map((entry) => ({
          unit: entry['UNIT'] ?? '',
          event: entry['MESSAGE_ID'] === JOURNAL_STARTED ? 'started' : 'starting',
          monotonic: Number(entry['__MONOTONIC_TIMESTAMP']) / 1e6,
          realtime: Number(entry['__REALTIME_TIMESTAMP']) / 1e6,
        }))
    )
  }

  /** What overlayd wrote for Docker. */
  async subnetEnv(): Promise<Readonly<Record<string, string>>> {
    const text = await this.exec('cat', '/run/flannel/subnet.env')
    return Object.fromEntries(
      text
        .trim()
        .split('\n')
        .map((line) => line.split('=', 2) as [string, string]),
    )
  }

  /** Starts a container that Docker restarts with itself. */
  async startContainer(name: string): Promise<BootedContainer> {
    await this.#runContainer(['--detach', '--restart=always', `--name=${name}`], ['sleep', '1000000'])
    return this.container(name)
  }

  /**
   * Starts a container that runs a shell's commands on the host's own file system, which it cannot write to.
   * @param writable directories that it has for itself, empty, besides /run
   */
  async startProgram(
    name: string,
    script: string,
    writable: readonly string[] = [],
  ): Promise<BootedContainer> {
    await this.#runProgram(['--detach', `--name=${name}`], script, writable)
    return this.container(name)
  }

  /** Runs such a container to its end, which has to be a good one, and answers what it printed. */
  runProgram(script: string): Promise<string> {
    return this.#runProgram(['--rm'], script, [])
  }

  #runProgram(options: readonly string[], script: string, writable: readonly string[]): Promise<string> {
    const own = ['/run', ...writable].map((path) => `--tmpfs=/host${path}`)
    // Nobody here answers questions for names, and programs that ask would wait for seconds.
    const files = ['/:/host:ro', '/dev/null:/host/etc/resolv.conf:ro'].map((volume) => `--volume=${volume}`)
    return this.#runContainer([...options, ...files, ...own], ['chroot', '/host', '/bin/sh', '-c', script])
  }

  /** @param command of busybox */
  async #runContainer(options: readonly string[], command: readonly string[]): Promise<string> {
    const image = await this.run('docker', 'image', 'inspect', IMAGE)
    if (image.code !== 0) {
      const build = `mkdir -p /run/image/bin && cp /bin/busybox /run/image/bin && tar -C /run/image -c . | docker import - ${IMAGE}`
      await this.exec('sh', '-c', build)
    }
    return this.exec('docker', 'run', '--init', ...options, IMAGE, '/bin/busybox', ...command)
  }

  /** Waits until a container has printed something. */
  async waitForOutput(container: string, wanted: RegExp, timeoutMs?: number): Promise<void> {
    const probe = async (): Promise<true | Pending> => {
      const { stdout, stderr } = await this.run('docker', 'logs', '--tail=100', container)
      return wanted.test(stdout + stderr) || new Pending(stdout + stderr)
    }
    await this.waitFor(
      `to have ${container} print ${wanted}`,
      probe,
      timeoutMs === undefined ? {} : { timeoutMs },
    )
  }

  /** Waits for a container to run, and gives its present network namespace its name in the sandbox. */
  async container(name: string): Promise<BootedContainer> {
    const format = '{{.State.Running}} {{.NetworkSettings.SandboxKey}} {{.NetworkSettings.IPAddress}}'
    const [key, address] = await this.waitFor(`to run container ${name}`, async () => {
      const { stdout, stderr } = await this.run('docker', 'inspect', '--format', format, name)
      const [running, key = '', address = ''] = stdout.trim().split(' ')
      if (running === 'true' && address !== '') return [key, address] as const
      const said = await this.run('docker', 'logs', '--tail=10', name)
      return new Pending(stdout + stderr + said.stdout + said.stderr)
    })
    const namespace = `${this.name}-${name}`
    await this.#forgetNamespace(namespace)
    writeFileSync(`/run/netns/${namespace}`, '')
    this.#namespaces.add(namespace)
    // /var/run is a link, which would be followed outside of the host's root.
    const seen = join(`/proc/${this.processOne}/root`, key.replace(/^\/var\/run\//, '/run/'))
    await runOk(['mount', '--bind', seen, `/run/netns/${namespace}`])
    return { namespace, address }
  }

  /** Ends it at once and removes all it had. */
  async destroy(): Promise<void> {
    for (const namespace of this.#namespaces) await this.#forgetNamespace(namespace)
    const leader = this.processOne
    if (leader !== undefined) await run(['kill', '-KILL', leader])
    await this.#nspawn?.stop('SIGTERM')
    await run(['umount', this.#root])
    rmSync(this.settings.directory, { recursive: true, force: true })
  }

  /** A boot of it, from process 1 to power-off or reboot. */
  #spawn(): LongProcess {
    const { name, directory, bridge } = this.settings
    const nspawn = [
      'systemd-nspawn',
      `--directory=${this.#root}`,
      '--boot',
      `--machine=${name}`,
      '--register=no',
      '--keep-unit',
      '--link-journal=no',
      '--resolv-conf=off',
      '--timezone=off',
      '--console=read-only',
      `--network-bridge=${bridge}`,
      '--capability=all',
      // What Docker needs beyond nspawn's usual.
      '--system-call-filter=add_key keyctl bpf @mount',
      // Docker stores layers by overlayfs, which does not go on top of another one.
      `--bind=${join(directory, 'docker')}:/var/lib/docker`,
    ]
    // nspawn goes into the host's control groups before it starts.
    const enter = 'while [ "$1" != -- ]; do echo $$ >"$1/cgroup.procs" || exit; shift; done; shift; exec "$@"'
    return new LongProcess(name, ['sh', '-c', enter, 'enter', ...this.#cgroups, '--', ...nspawn], {
      ...process.env,
      SYSTEMD_NSPAWN_UNIFIED_HIERARCHY: '1',
    })
  }

  async #forgetNamespace(namespace: string): Promise<void> {
    if (!this.#namespaces.delete(namespace)) return
    await runOk(['umount', `/run/netns/${namespace}`])
    rmSync(`/run/netns/${namespace}`)
  }
}

/** Whether a process is the first of its own process namespace. */
function isInit(pid: string): boolean {
  const numbers = /^NSpid:\s*(.*)$/m.exec(readFileSync(`/proc/${pid}/status`, 'utf8'))?.[1]?.split(/\s+/)
  return numbers !== undefined && numbers.length > 1 && numbers.at(-1) === '1'
}
