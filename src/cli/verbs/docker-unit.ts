/**
 * `overlayctl docker enable` and `disable`: puts the drop-in by which Docker follows overlayd where systemd
 * finds it, and takes it away.
 */
import { lstat, mkdir, readdir, readFile, readlink, rename, rm, rmdir, symlink } from 'node:fs/promises'
import { dirname, join } from 'node:path'
import { findProgram, runProgram } from '../../firewall/program'
import { removeFile, writeFileAtomically } from '../../host/atomic-file'
import { readEnvironmentFile } from '../../host/environment-file'
import { complain, print } from '../../host/streams'
import { readFileOfOthers } from '../../host/trusted-path'
import { describeError, OverlayError, systemErrorCode } from '../../model/errors'
import { shippedFile } from '../../options/shipped'
import {
  type DropInStep,
  disableDropIn,
  enableDropIn,
  type FoundDropIn,
  type ShippedDropIn,
  settingsTwice,
} from '../../plan/host/docker-drop-in'

export interface DockerUnitFlags {
  /** The root directory of a system that does not run, such as an image; empty for this one. */
  readonly root: string
  /** Restarts Docker, if it runs. */
  readonly now: boolean
  /** Sets a drop-in of somebody's own aside. */
  readonly force: boolean
}

const NAME = 'docker.service.d/40-overlayd.conf'
const PLACE = `/etc/systemd/system/${NAME}`
const OPTIONS_FILE = '/run/docker_opts.env'
const DAEMON_JSON = '/etc/docker/daemon.json'
/** The suffix of a drop-in that is set aside. systemd reads names with the suffix .conf only. */
const ASIDE = '.before-overlayd'
const CODE = 'docker-drop-in'
/** Milliseconds for a call of systemctl. */
const DEADLINE = 10_000

/** @throws {OverlayError} `docker-drop-in` */
export async function runDockerEnable(flags: DockerUnitFlags): Promise<void> {
  await refuseSettingsTwice(flags.root)
  const step = enableDropIn(await findDropIn(flags.root), await readShipped(), flags.force)
  await apply(step, flags)
  print(
    step.kind === 'nothing'
      ? `enabled already: ${PLACE}\n`
      : `enabled: Docker follows overlayd by ${PLACE}\n`,
  )
  await warnOfOthers(flags.root)
  await reload(flags, step.kind !== 'nothing')
}

/** @throws {OverlayError} `docker-drop-in` */
export async function runDockerDisable(flags: DockerUnitFlags): Promise<void> {
  const step = disableDropIn(await findDropIn(flags.root), await readShipped(), flags.force)
  await apply(step, flags)
  if (step.kind === 'remove' && flags.root === '') await removeFile(OPTIONS_FILE).catch(() => undefined)
  print(
    step.kind === 'nothing'
      ? `not enabled: there is no ${PLACE}\n`
      : 'disabled: Docker starts without overlayd, and its containers do not reach other hosts then\n',
  )
  await reload(flags, step.kind !== 'nothing')
}

async function findDropIn(root: string): Promise<FoundDropIn> {
  const path = join(root, PLACE)
  const found = await lstat(path).catch((error: unknown) => {
    if (['ENOENT', 'ENOTDIR'].includes(systemErrorCode(error) ?? '')) return undefined
    throw cannot('look at', path, error)
  })
  if (found === undefined) return { kind: 'absent' }
  if (found.isSymbolicLink()) return { kind: 'link', target: await readlink(path) }
  if (!found.isFile()) return { kind: 'other' }
  return { kind: 'file', text: await readFileOfOthers(path) }
}

async function readShipped(): Promise<ShippedDropIn> {
  const path = shippedFile(NAME)
  const text = await readFile(path, 'utf8').catch((error: unknown) => {
    throw cannot('read', path, error)
  })
  return { path, text, isPackaged: path.startsWith('/usr/') }
}

async function apply(step: DropInStep, { root }: DockerUnitFlags): Promise<void> {
  const path = join(root, PLACE)
  if (step.kind === 'nothing') return
  if (step.kind === 'refuse') {
    throw new OverlayError(
      CODE,
      step.found === 'other'
        ? `${path} is neither a file nor a link`
        : `${path} is a ${step.found} of your own`,
      step.found === 'other'
        ? 'remove it, then try again'
        : `compare it with ${shippedFile(NAME)}, and give --force to set yours aside as ${PLACE}${ASIDE}`,
    )
  }
  try {
    if (step.sets) {
      await rename(path, `${path}${ASIDE}`)
      print(`set aside: ${PLACE}${ASIDE}\n`)
    }
    if (step.kind === 'copy') await writeFileAtomically(path, step.text)
    if (step.kind === 'link') await replaceByLink(path, step.target)
    if (step.kind === 'remove') {
      if (!step.sets) await removeFile(path)
      // Fails where other drop-ins are in it.
      await rmdir(dirname(path)).catch(() => undefined)
    }
  } catch (error) {
    throw cannot('change', path, error)
  }
}

/** Atomically: systemd may read the directory at any moment. */
async function replaceByLink(path: string, target: string): Promise<void> {
  await mkdir(dirname(path), { recursive: true, mode: 0o755 })
  const fresh = `${path}.${process.pid}.new`
  await rm(fresh, { force: true })
  await symlink(target, fresh)
  await rename(fresh, path)
}

function cannot(verb: string, path: string, error: unknown): OverlayError {
  const isDenied = ['EACCES', 'EPERM'].includes(systemErrorCode(error) ?? '')
  return new OverlayError(
    CODE,
    `cannot ${verb} ${path}: ${describeError(error)}`,
    isDenied ? 'do it as root' : undefined,
    { cause: error },
  )
}

/** dockerd refuses to start where a setting is a flag and in daemon.json too. */
async function refuseSettingsTwice(root: string): Promise<void> {
  const path = join(root, DAEMON_JSON)
  const text = await readFileOfOthers(path).catch((error: unknown) => {
    if (systemErrorCode(error) === 'ENOENT' || systemErrorCode(error) === 'ENOTDIR') return undefined
    throw cannot('read', path, error)
  })
  if (text === undefined) return
  let settings: unknown
  try {
    settings = JSON.parse(text)
  } catch (error) {
    complain(`overlayctl: ${path} is not JSON, and dockerd does not start with it: ${describeError(error)}`)
    return
  }
  if (typeof settings !== 'object' || settings === null || Array.isArray(settings)) return
  const names = settingsTwice(settings as Readonly<Record<string, unknown>>, await isShared(root))
  if (names.length === 0) return
  throw new OverlayError(
    CODE,
    `${path} has ${names.map((name) => `"${name}"`).join(', ')}, which overlayd gives dockerd as a flag, ` +
      'and dockerd does not start with both',
    `remove ${names.length === 1 ? 'it' : 'them'} from the file`,
  )
}

/** Whether docker-opts shares the subnet out, as a line in Docker's environment file has it. */
async function isShared(root: string): Promise<boolean> {
  const path = join(root, '/etc/default/docker')
  const file = await readEnvironmentFile(path).catch((error: unknown) => {
    throw cannot('read', path, error)
  })
  return (file?.variables['DOCKER_NETWORKS'] ?? '') !== ''
}

/** Names drop-ins that have Docker follow flannel. */
async function warnOfOthers(root: string): Promise<void> {
  const directory = join(root, dirname(PLACE))
  const names = (await readdir(directory).catch(() => [])).sort()
  for (const name of names.filter((each) => each.endsWith('.conf') && each !== '40-overlayd.conf')) {
    const text = await readFileOfOthers(join(directory, name)).catch(() => '')
    if (!/flannel|mk-docker-opts|docker_opts/.test(text)) continue
    complain(
      `overlayctl: ${join(directory, name)} is about flannel: where it sets ExecStart= too, ` +
        'the file whose name sorts last counts; remove what is not needed any more',
    )
  }
}

async function reload({ root, now }: DockerUnitFlags, hasChanged: boolean): Promise<void> {
  if (root !== '') return
  const systemctl = await findProgram('systemctl')
  const isBooted = await lstat('/run/systemd/system').then(
    () => true,
    () => false,
  )
  if (systemctl === undefined || !isBooted) {
    complain('overlayctl: systemd does not run here, so nothing is reloaded')
    return
  }
  const call = (...args: string[]) =>
    runProgram(CODE, { command: [systemctl, ...args], signal: AbortSignal.timeout(DEADLINE) })
  if (hasChanged) await call('daemon-reload')
  if (now) {
    await call('--no-block', 'try-restart', 'docker.service')
    print('Docker is being restarted, if it runs: systemctl status docker\n')
  } else if (hasChanged) print('it counts from the next start of Docker on: systemctl restart docker\n')
}
