/**
 * The RPM package: its content, and what its scripts do. It is installed below an empty root, in which only
 * the tools of this machine are mounted, and no systemd runs.
 */
import {
  chmodSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  statSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs'
import { tmpdir } from 'node:os'
import { join, resolve } from 'node:path'
import { patient } from '../../lab/patience'
import { type RunResult, run, runOk } from '../../lab/process'
import { digestsIn, makePackages, makeTwice } from '../../support/packages'

jest.setTimeout(patient(200_000))

const ROOT = resolve(__dirname, '../../..')
const { version: VERSION } = JSON.parse(readFileSync(join(ROOT, 'package.json'), 'utf8'))
const ARCH = process.arch === 'x64' ? 'x86_64' : 'aarch64'
const fileName = (revision: string): string => `overlayd-${VERSION}-${revision}.${ARCH}.rpm`

let made: readonly string[] = []
/** The same package, packed once more. */
let newer: string
let root: string

beforeAll(async () => {
  newer = mkdtempSync(join(tmpdir(), 'overlayd-package-'))
  root = mkdtempSync(join(tmpdir(), 'overlayd-root-'))
  made = await makeTwice('rpm')
  await makePackages(['--fast', '--kinds=rpm', '--revision=2', `--output=${newer}`])
})
afterAll(() => {
  for (const directory of [...made, newer, root])
    if (directory !== undefined) rmSync(directory, { recursive: true, force: true })
})

const packageOf = (revision: '1' | '2'): string =>
  join(revision === '1' ? (made[0] ?? '') : newer, fileName(revision))
const query = (...args: readonly string[]): Promise<string> => runOk(['rpm', '--query', '--package', ...args])

/** Places below the root where a directory of this machine is mounted, read-only, for one command. */
const MOUNTS = { bin: '/usr/bin', sbin: '/usr/sbin', lib: '/usr/lib', dev: '/dev' }

/** Runs rpm on the root, whose scripts run in the root too. */
async function rpm(...args: readonly string[]): Promise<RunResult> {
  const mounts = Object.entries(MOUNTS).map(([name, from]) => {
    mkdirSync(join(root, name), { recursive: true })
    return `mount --rbind ${from} "$root/${name}" && mount -o remount,bind,ro "$root/${name}"`
  })
  const loader = `if [ -e /usr/lib64 ]; then mkdir -p "$root/lib64" && mount --bind -o ro /usr/lib64 "$root/lib64"; fi`
  // Programs of systemd look for their library by this path.
  const libraries = `for each in /usr/lib/*-linux-gnu; do
    mkdir -p "$root$each" && mount --bind -o ro "$each" "$root$each"; done`
  const script = ['set -e', 'root=$1', 'shift', ...mounts, loader, libraries, 'exec "$@"'].join('\n')
  const options = [`--root=${root}`, '--dbpath=/var/lib/rpm', ...(args[0] === '--query' ? [] : ['--nodeps'])]
  const result = await run(['unshare', '--mount', 'sh', '-c', script, 'sh', root, 'rpm', ...options, ...args])
  expect(result).toMatchObject({ code: 0 })
  return result
}

/** Lines of the scripts, without those of Debian's rpm and of systemd-sysusers. */
const said = ({ stderr }: RunResult): readonly string[] =>
  stderr.split('\n').filter((line) => /^(overlayd:|warning:|error:|\/)/.test(line))

/** What is below the root, without what is mounted there, accounts and rpm's own files. */
const installed = (): readonly string[] =>
  readdirSync(root, { recursive: true, withFileTypes: true })
    .filter((entry) => !entry.isDirectory())
    .map(({ parentPath, name }) => join(parentPath, name).slice(root.length))
    .filter((path) => !/^\/(var\/lib\/rpm|etc\/(\.pwd\.lock|passwd-?|group-?|g?shadow-?))/.test(path))

const settings = () => join(root, 'etc/default/overlayd')

test('the same source gives the same bytes, and a list of the libraries in them', () => {
  const [one = [], other] = made.map(digestsIn)
  expect(one.map(([name]) => name)).toEqual([fileName('1').replace(/rpm$/, 'cdx.json'), fileName('1')])
  expect(other).toEqual(one)
})

test('it has the files of the Debian package, and needs libraries by names that all distributions share', async () => {
  const paths = (await query('--list', packageOf('1'))).trim().split('\n')
  expect(paths).toEqual(
    expect.arrayContaining([
      ...['/usr/bin/overlayd', '/usr/bin/overlayctl', '/usr/lib/overlayd/node', '/etc/default/overlayd'],
      ...['/usr/lib/systemd/system/overlayd@.service', '/usr/lib/sysusers.d/overlayd.conf'],
      ...['/usr/share/man/man8/overlayctl.8.gz', '/usr/share/zsh/site-functions/_overlayctl'],
      ...['/usr/share/licenses/overlayd/LICENSE', '/usr/lib/overlayd/docker.service.d/40-overlayd.conf'],
      ...['/usr/lib/systemd/network/05-overlayd.network', '/usr/share/overlayd/monitoring/alerts.yml'],
    ]),
  )
  const owners = await query('--queryformat', '[%{FILEUSERNAME}:%{FILEGROUPNAME}\n]', packageOf('1'))
  expect(new Set(owners.trim().split('\n'))).toEqual(new Set(['root:root']))
  const needed = await query('--requires', packageOf('1'))
  expect(needed).toContain('libc.so.6(GLIBC_2.28)(64bit)')
  // Debian 10 and Red Hat Enterprise Linux 8 have glibc 2.28.
  expect(needed).not.toMatch(/GLIBC_2\.(29|[3-9]\d)/)
  expect(await query('--configfiles', packageOf('1'))).toBe('/etc/default/overlayd\n')
  const described = await query('--queryformat', '%{BUILDHOST} %{VENDOR} %{ARCH}', packageOf('1'))
  expect(described).toBe(`localhost (none) ${ARCH}`)
  expect(await query('--changelog', packageOf('1'))).toContain(`- ${VERSION}-1\n- `)
})

test('rpmlint finds nothing', async () => {
  const config = join(ROOT, 'scripts/package/rpm/rpmlint.toml')
  const { stdout } = await run(['rpmlint', '--config', config, packageOf('1')])
  expect(stdout).toMatch(/checked; 0 errors, 0 warnings/)
})

test('settings from before the package are kept, and a password in them becomes private', async () => {
  mkdirSync(join(root, 'etc/default'), { recursive: true })
  writeFileSync(settings(), 'FLANNELD_ETCD_PASSWORD=hunter2\n')
  chmodSync(settings(), 0o644)
  const lines = said(await rpm('--install', packageOf('1')))
  expect(lines).toEqual([
    'warning: /etc/default/overlayd created as /etc/default/overlayd.rpmnew',
    expect.stringMatching(/^overlayd: .* holds a password .*: its mode is 0640 now$/),
  ])
  expect(readFileSync(settings(), 'utf8')).toBe('FLANNELD_ETCD_PASSWORD=hunter2\n')
  expect(statSync(settings()).mode & 0o777).toBe(0o640)
  await rpm('--erase', 'overlayd')
  rmSync(join(root, 'etc/default'), { recursive: true })
})

describe('installed', () => {
  const bundles = (ending: string) =>
    readdirSync(join(root, 'usr/lib/overlayd')).filter((name) => name.endsWith(ending)).length

  beforeAll(async () => {
    expect(said(await rpm('--install', packageOf('1')))).toEqual([])
  })

  test('it has a user, a group, caches of its own code, and no file is other than rpm says', async () => {
    expect(readFileSync(join(root, 'etc/passwd'), 'utf8')).toMatch(/^overlayd:/m)
    expect(readFileSync(join(root, 'etc/group'), 'utf8')).toMatch(/^overlay:/m)
    expect(bundles('.cache')).toBe(2)
    expect(statSync(settings()).mode & 0o777).toBe(0o640)
    await rpm('--verify', 'overlayd')
  })

  test('an upgrade keeps settings, state and the caches', async () => {
    const own = readFileSync(settings(), 'utf8').replace('#FLANNELD_V=0', 'FLANNELD_V=1')
    writeFileSync(settings(), own)
    mkdirSync(join(root, 'var/lib/overlayd'), { recursive: true })
    writeFileSync(join(root, 'var/lib/overlayd/state.json'), '{}')
    expect(said(await rpm('--upgrade', packageOf('2')))).toEqual([])
    expect((await rpm('--query', 'overlayd')).stdout).toBe(`${fileName('2').replace(/\.rpm$/, '')}\n`)
    expect(readFileSync(settings(), 'utf8')).toBe(own)
    expect(own).toContain('\nFLANNELD_V=1\n')
    expect(existsSync(join(root, 'var/lib/overlayd/state.json'))).toBe(true)
    expect([bundles('.cache'), bundles('.js')]).toEqual([2, 6])
  })

  test('erased, it leaves settings and state, and says so; links into it go', async () => {
    const wants = join(root, 'etc/systemd/system/multi-user.target.wants')
    const dropIns = join(root, 'etc/systemd/system/docker.service.d')
    for (const directory of [wants, dropIns]) mkdirSync(directory, { recursive: true })
    for (const unit of ['overlayd-cni.path', 'overlayd.service']) {
      rmSync(join(wants, unit), { force: true })
      symlinkSync(`/usr/lib/systemd/system/${unit}`, join(wants, unit))
    }
    symlinkSync('/usr/lib/overlayd/docker.service.d/40-overlayd.conf', join(dropIns, '40-overlayd.conf'))
    expect(said(await rpm('--erase', 'overlayd'))).toEqual([
      'warning: /etc/default/overlayd saved as /etc/default/overlayd.rpmsave',
      expect.stringMatching(/^overlayd: Docker does not follow overlayd any more\./),
      'overlayd: containers do not reach other hosts',
      'overlayd: the settings are in /etc/default/overlayd.rpmsave now',
      'overlayd: /var/lib/overlayd stays, with the subnet and the keys of this host',
    ])
    expect([...installed()].sort()).toEqual(['/etc/default/overlayd.rpmsave', '/var/lib/overlayd/state.json'])
  })
})
