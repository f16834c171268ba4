/**
 * A host that boots in a systemd-nspawn container: Debian with systemd as process 1, cloud-init, etcd and
 * Docker.
 */
import { copyFileSync, mkdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { basename, dirname, join } from 'node:path'
import { type Command, LongProcess, type RunResult, run, runOk } from './process'
import { Pending, type WaitOptions, waitFor } from './wait'

/** PATH of programs in a host. */
export const PATH = '/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin'

/**
 * MESSAGE_ID of systemd's journal entries about units: SD_MESSAGE_UNIT_STARTING and _STARTED in
 * sd-messages.h.
 */
const JOURNAL_STARTING = '7d4958e842da4a758f6c1cdc7b36dcc5'
const JOURNAL_STARTED = '39f53479d3a045ac8e11786248231fbf'

/** Exit code of systemd-nspawn when the guest reboots (nspawn.c: EXIT_FORCE_RESTART). */
const REBOOT = 133

/** Name of the containers' image in the guest; it contains only busybox. */
const IMAGE = 'busybox'
/** Directory of the projects of compose in the guest. */
const PROJECTS = '/srv'

export interface BootedHostSettings {
  readonly name: string
  /** The host's address on the underlay. */
  readonly address: string
  /** The bridge that the host's interface joins. */
  readonly bridge: string
  /** Directory for all files that the host writes; below /run of the sandbox. */
  readonly directory: string
  /** Read-only layers of the root file system, the uppermost first. */
  readonly layers: readonly string[]
  /**
   * A control group in each hierarchy. The host creates its own group in each; the sandbox removes the groups
   * with theirs.
   */
  readonly cgroups: readonly string[]
  /** Files of cloud-init's NoCloud seed: `user-data`, `meta-data`, `network-config` -> content. */
  readonly seed: Readonly<Record<string, string>>
  /** Puts files into the host's uppermost layer before the first boot. */
  readonly prepare?: (upper: string) => Promise<void>
  /** Whether /usr is read-only, as on hosts whose system is an image. */
  readonly readOnlyUsr?: boolean
}

/** A Docker container. `namespace` is the name of its network namespace in the sandbox. */
export interface BootedContainer {
  readonly namespace: string
  readonly address: string
}

/** A journal entry about a unit. */
interface UnitEvent {
  readonly unit: string
  readonly event: 'starting' | 'started'
  /** Seconds since boot. */
  readonly monotonic: number
  /** Seconds since the epoch. */
  readonly realtime: number
}

export class BootedHost {
  readonly #root: string
  readonly #cgroups: readonly string[]
  readonly #namespaces = new Set<string>()
  #nspawn: LongProcess | undefined

  constructor(readonly settings: BootedHostSettings) {
    this.#root = join(settings.directory, 'root')
    // The name contains the lab: groups of earlier labs' hosts exist until the sandbox ends.
    const lab = basename(dirname(settings.directory))
    this.#cgroups = settings.cgroups.map((parent) => join(parent, `${lab}-${settings.name}`))
  }

  get name(): string {
    return this.settings.name
  }

  /** The host's address on the underlay. */
  get address(): string {
    return this.settings.address
  }

  /** Pid of the host's process 1 in the sandbox; undefined while the host boots or is down. */
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

  /** Mounts the file system, writes cloud-init's seed and boots the host, without waiting for the boot. */
  async start(): Promise<void> {
    const { directory, layers } = this.settings
    const of = (part: string) => join(directory, part)
    for (const part of ['upper', 'work', 'docker', 'root']) mkdirSync(of(part), { recursive: true })
    const seed = of('upper/var/lib/cloud/seed/nocloud')
    mkdirSync(seed, { recursive: true })
    for (const [name, text] of Object.entries(this.settings.seed)) writeFileSync(join(seed, name), text)
    await this.settings.prepare?.(of('upper'))
    const overlay = `lowerdir=${layers.join(':')},upperdir=${of('upper')},workdir=${of('work')}`
    await runOk(['mount', '-t', 'overlay', '-o', overlay, 'overlay', this.#root])
    for (const cgroup of this.#cgroups) mkdirSync(cgroup)
    this.#nspawn = this.#spawn()
  }

  /**
   * Waits until the boot is complete, including cloud-init.
   * @throws {Error} if a unit has failed
   */
  async waitBooted(timeoutMs = 60_000): Promise<void> {
    await this.waitFor(
      'to have booted',
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

  /** Reboots the host and waits until it has booted. */
  async reboot(): Promise<void> {
    // The exit code is ignored: the connection to systemd may break before systemctl gets its answer.
    await this.run('systemctl', 'reboot')
    const exit = await this.#nspawn?.waitForExit(30_000)
    if (exit?.code !== REBOOT) throw new Error(`${this.name} did not reboot\n${this.#nspawn?.tail()}`)
    this.#nspawn = this.#spawn()
    await this.waitBooted()
  }

  /** Runs a command in the host. Any exit code is accepted; 127 if the host is down. */
  async run(...command: Command): Promise<RunResult> {
    const leader = this.processOne
    if (leader === undefined)
      return { code: 127, signal: null, stdout: '', stderr: 'the host has no process 1' }
    const namespaces = ['--mount', '--uts', '--ipc', '--net', '--pid', '--cgroup']
    const environment = ['env', '-i', `PATH=${PATH}`, 'LC_ALL=C.UTF-8']
    return run(['nsenter', `--target=${leader}`, ...namespaces, ...environment, ...command], {
      timeoutMs: 60_000,
    })
  }

  /** Runs a command in the host; it has to succeed. @returns its standard output */
  async exec(...command: Command): Promise<string> {
    const { code, stdout, stderr } = await this.run(...command)
    if (code === 0) return stdout
    throw new Error(`\`${command.join(' ')}\` on ${this.name} failed (${code}): ${(stderr || stdout).trim()}`)
  }

  /** Restarts Docker, whose unit allows 3 starts in a minute, more often than that. */
  async restartDocker(): Promise<void> {
    await this.exec('systemctl', 'reset-failed', 'docker')
    await this.exec('systemctl', 'restart', 'docker')
  }

  /** Copies a file into the host's file system. */
  put(source: string, path: string): void {
    copyFileSync(source, join(this.#root, path))
  }

  /** Waits for a condition of the host. On failure the message ends with the host's console. */
  waitFor<T>(what: string, probe: () => Promise<T | Pending>, options: WaitOptions = {}): Promise<T> {
    return waitFor(`${this.name} ${what}`, probe, { context: () => this.#nspawn?.tail() ?? '', ...options })
  }

  /** A property of a unit, as `systemctl show` prints it. */
  async property(unit: string, name: string): Promise<string> {
    return (await this.exec('systemctl', 'show', `--property=${name}`, '--value', unit)).trim()
  }

  /** Starts of units in this boot, in the journal's order. */
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
        // A unit that is skipped because its condition does not hold has the same MESSAGE_ID as a started
        // one.
        .filter((entry) => !/ was skipped /.test(entry['MESSAGE'] ?? ''))
        .map((entry) => ({
          unit: entry['UNIT'] ?? '',
          event: entry['MESSAGE_ID'] === JOURNAL_STARTED ? 'started' : 'starting',
          monotonic: Number(entry['__MONOTONIC_TIMESTAMP']) / 1e6,
          realtime: Number(entry['__REALTIME_TIMESTAMP']) / 1e6,
        }))
    )
  }

  /** Reads subnet.env: variable -> value. */
  async subnetEnv(): Promise<Readonly<Record<string, string>>> {
    const text = await this.exec('cat', '/run/flannel/subnet.env')
    return Object.fromEntries(
      text
        .trim()
        .split('\n')
        .map((line) => line.split('=', 2) as [string, string]),
    )
  }

  /**
   * Starts a container that Docker starts again whenever Docker itself starts.
   * @param network of Docker; docker0 by default
   * @param more options of `docker run`
   */
  async startContainer(
    name: string,
    network = 'bridge',
    more: readonly string[] = [],
  ): Promise<BootedContainer> {
    const options = ['--detach', '--restart=always', `--network=${network}`, `--name=${name}`, ...more]
    await this.#runContainer(options, ['sleep', '1000000'])
    return this.container(name)
  }

  /**
   * Has compose bring up a project of one container. Its network has the options that a network in the
   * overlay needs: Docker before 24 has no defaults for them.
   * @param name of the container
   */
  async startProject(project: string, name: string): Promise<BootedContainer> {
    await this.#makeImage()
    const version = await this.exec('docker', 'version', '--format', '{{.Server.Version}}')
    const file = `
services:
  ${project}:
    image: ${IMAGE}
    command: /bin/busybox sleep 1000000
    container_name: ${name}
    init: true
    restart: always
`
    const options = `
networks:
  default:
    driver_opts:
      com.docker.network.driver.mtu: "1450"
      com.docker.network.bridge.enable_ip_masquerade: "false"
`
    const directory = `${PROJECTS}/${project}`
    mkdirSync(join(this.#root, directory), { recursive: true })
    const hasDefaults = Number(version.split('.')[0]) >= 24
    writeFileSync(join(this.#root, directory, 'compose.yaml'), hasDefaults ? file : file + options)
    await this.#compose(project, 'up', '--detach')
    return this.container(name)
  }

  /** Has compose take down a project, with its network. */
  async stopProject(project: string): Promise<void> {
    await this.#compose(project, 'down')
  }

  async #compose(project: string, ...command: Command): Promise<void> {
    // Version 2 is a plugin of Docker's client. Debian 12 has version 1.
    const { code } = await this.run('docker', 'compose', 'version')
    const program = code === 0 ? ['docker', 'compose'] : ['docker-compose']
    await this.exec('env', `--chdir=${PROJECTS}/${project}`, ...program, ...command)
  }

  /**
   * Starts a container that runs a shell script in the host's file system, mounted read-only.
   * @param writable directories, besides /run, that are empty and writable in the container
   */
  async startProgram(
    name: string,
    script: string,
    writable: readonly string[] = [],
  ): Promise<BootedContainer> {
    await this.#runProgram(['--detach', `--name=${name}`], script, writable)
    return this.container(name)
  }

  /**
   * As {@link startProgram}, but waits for the end; the script has to succeed.
   * @returns its standard output
   */
  runProgram(script: string): Promise<string> {
    return this.#runProgram(['--rm'], script, [])
  }

  #runProgram(options: readonly string[], script: string, writable: readonly string[]): Promise<string> {
    const own = ['/run', ...writable].map((path) => `--tmpfs=/host${path}`)
    // An empty resolv.conf: there is no DNS server, and a program's query would block it for seconds.
    const files = ['/:/host:ro', '/dev/null:/host/etc/resolv.conf:ro'].map((volume) => `--volume=${volume}`)
    return this.#runContainer([...options, ...files, ...own], ['chroot', '/host', '/bin/sh', '-c', script])
  }

  /** @param command arguments of busybox */
  async #runContainer(options: readonly string[], command: readonly string[]): Promise<string> {
    await this.#makeImage()
    return this.exec('docker', 'run', '--init', ...options, IMAGE, '/bin/busybox', ...command)
  }

  /** Makes the containers' image, unless the host has it. */
  async #makeImage(): Promise<void> {
    const { code } = await this.run('docker', 'image', 'inspect', IMAGE)
    if (code === 0) return
    const build = [
      'mkdir -p /run/image/bin',
      'cp /bin/busybox /run/image/bin',
      `tar -C /run/image -c . | docker import - ${IMAGE}`,
    ].join(' && ')
    await this.exec('sh', '-c', build)
  }

  /** Waits until a container's output matches. */
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

  /**
   * Waits until a container is running, and makes its present network namespace known in the sandbox by a
   * name.
   */
  async container(name: string): Promise<BootedContainer> {
    const format =
      '{{.State.Running}} {{.NetworkSettings.SandboxKey}} ' +
      '{{range .NetworkSettings.Networks}}{{.IPAddress}}{{end}}'
    const [key, address] = await this.waitFor(`to run container ${name}`, async () => {
      const { stdout, stderr } = await this.run('docker', 'inspect', '--format', format, name)
      const [running, key = '', address = ''] = stdout.trim().split(' ')
      if (running === 'true' && address !== '') return [key, address] as const
      const logs = await this.run('docker', 'logs', '--tail=10', name)
      return new Pending(stdout + stderr + logs.stdout + logs.stderr)
    })
    const namespace = `${this.name}-${name}`
    await this.#forgetNamespace(namespace)
    writeFileSync(`/run/netns/${namespace}`, '')
    this.#namespaces.add(namespace)
    // In the host /var/run is a symbolic link to /run, which mount would resolve in the sandbox's root.
    const file = join(`/proc/${this.processOne}/root`, key.replace(/^\/var\/run\//, '/run/'))
    await runOk(['mount', '--bind', file, `/run/netns/${namespace}`])
    return { namespace, address }
  }

  /** Kills the host and removes its namespaces, mounts and files. */
  async destroy(): Promise<void> {
    for (const namespace of this.#namespaces) await this.#forgetNamespace(namespace)
    const leader = this.processOne
    if (leader !== undefined) await run(['kill', '-KILL', leader])
    await this.#nspawn?.stop('SIGTERM')
    await run(['umount', this.#root])
    rmSync(this.settings.directory, { recursive: true, force: true })
  }

  /** Starts nspawn for one boot: the process ends when the host is powered off or rebooted. */
  #spawn(): LongProcess {
    const { name, directory, bridge, readOnlyUsr = false } = this.settings
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
      // System calls that Docker needs and nspawn does not allow by default.
      '--system-call-filter=add_key keyctl bpf @mount',
      // Docker stores layers with overlayfs, whose upper directory cannot be on another overlayfs.
      `--bind=${join(directory, 'docker')}:/var/lib/docker`,
      ...(readOnlyUsr ? [`--bind-ro=${join(this.#root, 'usr')}:/usr`] : []),
    ]
    // The shell moves itself into the host's control groups and then becomes nspawn.
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

/** Whether a process is number 1 of its own process namespace (NSpid in proc_pid_status(5)). */
function isInit(pid: string): boolean {
  const numbers = /^NSpid:\s*(.*)$/m.exec(readFileSync(`/proc/${pid}/status`, 'utf8'))?.[1]?.split(/\s+/)
  return numbers !== undefined && numbers.length > 1 && numbers.at(-1) === '1'
}
