/**
 * The images: the layout of the container image and what runs in it without an engine; the system extension.
 */
import { createHash } from 'node:crypto'
import { existsSync, mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { z } from 'zod'
import packageJson from '../../../package.json'
import { ignitionSchema } from '../../../scripts/ignition/translate'
import { patient } from '../../lab/patience'
import { run, runOk } from '../../lab/process'
import { layDown } from '../../support/ignition'
import {
  ARCH,
  cachedIn,
  digestsIn,
  makeTwice,
  merged,
  NONE_REJECTED,
  printRejected,
} from '../../support/packages'

jest.setTimeout(patient(200_000))

const { version } = packageJson
const IGNITION = join(__dirname, '../../../scripts/ignition/config.ign')
const IMAGE = `overlayd-${version}-oci-${ARCH}`
const MACHINE = process.arch === 'x64' ? 'x86-64' : process.arch
const EXTENSION = `overlayd-${version}-${MACHINE}`

let made: readonly string[] = []
/** A directory for what is unpacked. */
let work: string

beforeAll(async () => {
  work = mkdtempSync(join(tmpdir(), 'overlayd-images-'))
  made = await makeTwice('oci,sysext')
})
afterAll(() => {
  for (const directory of [...made, work])
    if (directory !== undefined) rmSync(directory, { recursive: true, force: true })
})

test('the same source gives the same bytes, and a list of the libraries in them', () => {
  const [one = [], other] = made.map(digestsIn)
  expect(one.map(([name]) => name)).toEqual([
    ...[`${IMAGE}.cdx.json`, `${IMAGE}.tar`],
    ...[`${EXTENSION}.cdx.json`, `${EXTENSION}.raw`],
  ])
  expect(other).toEqual(one)
  const { components } = JSON.parse(readFileSync(join(made[0] ?? '', `${IMAGE}.cdx.json`), 'utf8'))
  const purls: string[] = components.map(({ purl }: { purl: string }) => purl.replace(/@.*$/, ''))
  expect(purls).toEqual(
    expect.arrayContaining(['pkg:npm/etcd3', 'pkg:deb/debian/libc6', 'pkg:deb/debian/nftables']),
  )
  // Whatever has a shell or a package manager has more than these.
  expect(purls.filter((purl) => purl.startsWith('pkg:deb/')).length).toBeLessThan(40)
})

describe('the container image', () => {
  const descriptor = z.object({ mediaType: z.string(), digest: z.string(), size: z.number() })
  const manifestSchema = z.object({ config: descriptor, layers: z.array(descriptor) })
  const configSchema = z.object({
    architecture: z.string(),
    config: z.object({ Cmd: z.array(z.string()), Env: z.array(z.string()) }),
    rootfs: z.object({ diff_ids: z.array(z.string()) }),
  })

  const layout = () => join(work, 'layout')
  const root = () => join(work, 'root')
  const read = (file: string) => readFileSync(join(layout(), file))
  const blob = (digest: string) => read(`blobs/${digest.replace(':', '/')}`)
  const sha256 = (bytes: Uint8Array) => `sha256:${createHash('sha256').update(bytes).digest('hex')}`
  const manifest = () => {
    const index = z
      .object({ manifests: z.array(descriptor) })
      .parse(JSON.parse(read('index.json').toString()))
    return manifestSchema.parse(JSON.parse(blob(index.manifests[0]?.digest ?? '').toString()))
  }
  const inImage = (...command: readonly string[]) =>
    run(['unshare', '--root', root(), '--wd', '/', ...command], { env: { PATH: '/usr/sbin:/usr/bin' } })

  beforeAll(async () => {
    for (const directory of [layout(), root()]) mkdirSync(directory)
    await runOk(['tar', '-xf', join(made[0] ?? '', `${IMAGE}.tar`), '-C', layout()])
    for (const { digest } of manifest().layers) {
      const file = join(layout(), 'blobs', digest.replace(':', '/'))
      await runOk(['tar', '--no-same-owner', '-xf', file, '-C', root()])
    }
  })

  test('is a layout of OCI in which each blob has its digest and size, and the archive of docker save', () => {
    const { config, layers } = manifest()
    for (const { digest, size } of [config, ...layers])
      expect([sha256(blob(digest)), blob(digest).length]).toEqual([digest, size])
    expect(readdirSync(join(layout(), 'blobs/sha256'))).toHaveLength(layers.length + 2)
    const { architecture, rootfs } = configSchema.parse(JSON.parse(blob(config.digest).toString()))
    expect(architecture).toBe(ARCH)
    // The layers of this test are not compressed.
    expect(rootfs.diff_ids).toEqual(layers.map(({ digest }) => digest))
    const path = (digest: string) => `blobs/${digest.replace(':', '/')}`
    expect(JSON.parse(read('manifest.json').toString())).toEqual([
      {
        Config: path(config.digest),
        RepoTags: [`overlayd:${version}`],
        Layers: layers.map(({ digest }) => path(digest)),
      },
    ])
    expect(JSON.parse(read('oci-layout').toString())).toEqual({ imageLayoutVersion: '1.0.0' })
  })

  test('has only files of root, no shell, and nothing of the machine that made it', async () => {
    for (const { digest } of manifest().layers) {
      const file = join(layout(), 'blobs', digest.replace(':', '/'))
      const listing = (await runOk(['tar', '--numeric-owner', '-tvf', file])).trimEnd().split('\n')
      expect(listing.filter((line) => !/^\S+ 0\/0 /.test(line))).toEqual([])
    }
    for (const path of ['usr/bin/sh', 'etc/apt', 'etc/hostname', 'etc/resolv.conf', 'usr/lib/systemd'])
      expect({ path, exists: existsSync(join(root(), path)) }).toEqual({ path, exists: false })
  })

  test('has all that its programs need', async () => {
    expect(await inImage('/usr/bin/overlayd', '--version')).toMatchObject({ code: 0, stderr: `${version}\n` })
    const config = '{"Network":"10.5.0.0/16","Backend":{"Type":"vxlan"}}'
    expect(await inImage('/usr/bin/overlayctl', 'config', 'validate', config)).toMatchObject({
      code: 0,
      stdout: expect.stringContaining('255 subnets of /24'),
    })
    for (const [program = '', flag] of [
      ['nft', '--version'],
      ...['iptables', 'ip6tables', 'iptables-save', 'iptables-restore'].map((name) => [name, '--version']),
      ['iptables-legacy', '--version'],
      ['ping', '-V'],
    ])
      expect({ program, ...(await inImage(program, flag ?? '')) }).toMatchObject({ program, code: 0 })
  })
})

describe('the system extension', () => {
  const root = () => join(work, 'extension')
  const read = (path: string) => readFileSync(join(root(), path), 'utf8')

  beforeAll(() =>
    runOk(['unsquashfs', '-quiet', '-no-progress', '-dest', root(), join(made[0] ?? '', `${EXTENSION}.raw`)]),
  )

  test('has only /usr, of root, and says for which systems it is, under both of its names', async () => {
    expect(readdirSync(root())).toEqual(['usr'])
    const image = join(made[0] ?? '', `${EXTENSION}.raw`)
    const listing = (await runOk(['unsquashfs', '-llnumeric', image])).trimEnd().split('\n')
    expect(listing.filter((line) => !/^\S+ 0\/0 /.test(line))).toEqual([])
    const releases = 'usr/lib/extension-release.d'
    expect(readdirSync(join(root(), releases)).sort()).toEqual([
      'extension-release.overlayd',
      `extension-release.${EXTENSION}`,
    ])
    for (const name of readdirSync(join(root(), releases)))
      expect(read(`${releases}/${name}`)).toBe(
        `ID=_any\nARCHITECTURE=${MACHINE}\nEXTENSION_RELOAD_MANAGER=1\n`,
      )
  })

  test('systemd finds nothing wrong with its units, and with those of the Ignition config', async () => {
    const units = readdirSync(join(root(), 'usr/lib/systemd/system')).filter((name) => !name.includes('@'))
    expect(units).toContain('overlayd.service')
    const host = join(work, 'host')
    const config = ignitionSchema.parse(JSON.parse(readFileSync(IGNITION, 'utf8')))
    await layDown(config, host, async (_, path) => mkdirSync(path))
    const own = config.systemd.units.filter(({ contents }) => contents !== undefined)
    expect(own).toHaveLength(2)
    const paths = [
      ...units.map((name) => `/usr/lib/systemd/system/${name}`),
      ...own.map(({ name }) => join(host, 'etc/systemd/system', name)),
    ]
    const verify = merged(root(), 'systemd-analyze', 'verify', '--man=no', ...paths)
    const { stdout, stderr } = await run(verify)
    expect(`${stdout}${stderr}`).toBe('')
  })
})

test.each(['root', 'extension'])(
  'V8 takes the caches of its code that the image brings (%s)',
  async (image) => {
    const library = join(work, image, 'usr/lib/overlayd')
    expect(cachedIn(library)).toEqual(['bundle', 'overlayctl'])
    const rejected = await runOk([join(library, 'node'), '--eval', printRejected(join(library, 'launch.js'))])
    expect(rejected).toBe(NONE_REJECTED)
  },
)
