/**
 * The Debian package: its content, installation, removal without leftovers. The installed programs make an
 * overlay.
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
import { join, relative, resolve } from 'node:path'
import { CertificateAuthority } from '../../lab/certificates'
import { startEtcd } from '../../lab/etcd'
import { ETCD_PREFIX, Lab, NETWORK_CONFIG } from '../../lab/lab'
import { inNamespace } from '../../lab/namespace'
import { patient } from '../../lab/patience'
import { type Command, run, runOk } from '../../lab/process'
import { Pending, waitFor } from '../../lab/wait'
import { ARCH, cachedIn, digestsIn, makePackages, makeTwice, merged } from '../../support/packages'

jest.setTimeout(patient(200_000))

const ROOT = resolve(__dirname, '../../..')
const DIRECTORY = join(ROOT, 'dist/package')
const SOURCES = [
  ...['src', 'scripts/package', 'scripts/systemd', 'scripts/docs', 'scripts/monitoring'],
  ...['package.json', 'package-lock.json', 'LICENSE', 'CHANGELOG.md'],
]

let deb: string
/** The files in it, and their checksums. */
let packedFiles: ReturnType<typeof digestsIn> = []
/** The root where dpkg installs the package, with a database of its own. */
let root: string

beforeAll(async () => {
  for (const [program, debianPackage] of [
    ['dpkg-deb', 'dpkg'],
    ['lintian', 'lintian'],
    ['deb-systemd-helper', 'init-system-helpers'],
    ['systemd-analyze', 'systemd'],
  ]) {
    const { code } = await run(['sh', '-c', `command -v ${program}`])
    if (code !== 0) throw new Error(`${program} is missing: apt-get install ${debianPackage}`)
  }
  deb = await buildPackage()
  const contents = mkdtempSync(join(tmpdir(), 'overlayd-deb-'))
  try {
    await runOk(['dpkg-deb', '--extract', deb, contents])
    packedFiles = digestsIn(contents)
  } finally {
    rmSync(contents, { recursive: true })
  }
  root = mkdtempSync(join(tmpdir(), 'overlayd-root-'))
  for (const name of ['info', 'updates', 'triggers']) {
    mkdirSync(join(root, 'var/lib/dpkg', name), { recursive: true })
  }
  writeFileSync(join(root, 'var/lib/dpkg/status'), '')
})
afterAll(() => {
  if (root !== undefined) rmSync(root, { recursive: true })
})

/** Makes the package, unless the package is newer than all its sources. */
async function buildPackage(): Promise<string> {
  const find = () => {
    const names = existsSync(DIRECTORY) ? readdirSync(DIRECTORY) : []
    const name = names.find((file) => file.endsWith(`_${ARCH}.deb`))
    return name === undefined ? undefined : join(DIRECTORY, name)
  }
  const existing = find()
  if (existing !== undefined && !(await isStale(existing))) return existing
  await makePackages(['--kinds=bundle,deb'])
  const made = find()
  if (made === undefined) throw new Error(`npm run package made no package in ${DIRECTORY}`)
  return made
}

async function isStale(file: string): Promise<boolean> {
  const sources = SOURCES.map((path) => join(ROOT, path)).filter((path) => existsSync(path))
  return (await runOk(['find', ...sources, '-newer', file, '-print', '-quit'])) !== ''
}

const dpkg = (...args: readonly string[]) => dpkgWith({}, ...args)

function dpkgWith(env: NodeJS.ProcessEnv, ...args: readonly string[]): Promise<string> {
  const options = ['--force-script-chrootless', '--force-depends', '--force-not-root', '--log=/dev/null']
  return runOk(['dpkg', `--root=${root}`, ...options, ...args], { env: { ...process.env, ...env } })
}

/** The files of accounts. The package's user stays when the package goes. */
const ACCOUNTS = /^\.\/etc\/(\.pwd\.lock|(passwd|group|shadow|gshadow)-?)$/

/** All files below the root, without dpkg's own files and the accounts. */
async function installedFiles(): Promise<string[]> {
  const text = await runOk([
    'sh',
    '-c',
    `cd "${root}" && find . -path ./var/lib/dpkg -prune -o ! -type d -print`,
  ])
  return text.split('\n').filter((line) => line !== '' && !ACCOUNTS.test(line))
}

/** The file with the id of the package's user, which the functions below read and set. */
const passwd = () => join(root, 'etc/passwd')
const userOfService = (): number =>
  Number(/^overlayd:[^:]*:(\d+):/m.exec(readFileSync(passwd(), 'utf8'))?.[1])
const setUserOfService = (uid: number): void =>
  writeFileSync(passwd(), readFileSync(passwd(), 'utf8').replace(/^(overlayd:[^:]*:)\d+:/m, `$1${uid}:`))

/** Runs a command as on a machine with the package. */
const onInstalled = (...command: Command): Command => merged(root, ...command)

test('each file is where Debian wants it, belongs to root, and has the date of the changelog', async () => {
  const listing = (await runOk(['dpkg-deb', '--contents', deb])).trimEnd().split('\n')
  expect(listing.filter((line) => !/^\S+ root\/root /.test(line))).toEqual([])
  expect(
    new Set(listing.filter((line) => !line.startsWith('l')).map((line) => line.split(/ +/)[3])).size,
  ).toBe(1)
  const paths = listing.map((line) => line.split(/ +/).slice(5).join(' '))
  expect(paths).toEqual(
    expect.arrayContaining([
      './usr/bin/overlayd -> ../lib/overlayd/overlayd.js',
      './usr/bin/overlayctl -> ../lib/overlayd/overlayctl.js',
      './usr/lib/overlayd/node',
      './usr/lib/overlayd/netlink.node',
      './usr/lib/overlayd/koffi.node',
      './usr/lib/overlayd/mk-docker-opts.sh',
      './usr/lib/sysusers.d/overlayd.conf',
      './usr/share/overlayd/default',
      './usr/share/overlayd/monitoring/alerts.yml',
      './usr/share/overlayd/monitoring/dashboard.json',
      './usr/share/man/man8/overlayd.8.gz',
      './usr/share/man/man8/overlayctl.8.gz',
      './usr/share/bash-completion/completions/overlayctl',
      './usr/share/zsh/vendor-completions/_overlayctl',
      './usr/share/fish/vendor_completions.d/overlayctl.fish',
      './usr/share/doc/overlayd/copyright',
      './usr/share/doc/overlayd/changelog.gz',
      './usr/share/doc/overlayd/changelog.Debian.gz',
      './usr/share/doc/overlayd/NOTICES.gz',
    ]),
  )
  expect(await runOk(['dpkg-deb', '--field', deb, 'Architecture'])).toBe(`${ARCH}\n`)
  // A file of settings from before the package must not make dpkg ask.
  expect((await run(['dpkg-deb', '--info', deb, 'conffiles'])).code).not.toBe(0)
  expect(paths).not.toContain('./etc/default/overlayd')
})

test('the same source gives the same bytes, and a list of the libraries in them', async () => {
  const made = await makeTwice('bundle,deb')
  try {
    const digests = made.map(digestsIn)
    expect(digests[0]?.length).toBeGreaterThan(10)
    expect(digests[1]).toEqual(digests[0])
    const names = (digests[0] ?? []).map(([name = '']) => name)
    const lists = names.filter((name) => name.endsWith('.cdx.json'))
    expect(lists).toHaveLength(2)
    for (const list of lists) {
      const { components } = JSON.parse(readFileSync(join(made[0] ?? '', list), 'utf8'))
      const purls: string[] = components.map(({ purl }: { purl: string }) => purl.replace(/@[^@]*$/, ''))
      expect(purls).toEqual(expect.arrayContaining(['pkg:npm/etcd3', 'pkg:npm/netlink', 'pkg:npm/koffi']))
      expect(purls.some((purl) => purl.startsWith('pkg:npm/node-linux-'))).toBe(
        list.endsWith(`_${ARCH}.cdx.json`),
      )
    }
  } finally {
    for (const output of made) rmSync(output, { recursive: true })
  }
})

test('the units are those of the tree, and so is the drop-in for Docker', async () => {
  const units = join(ROOT, 'scripts/systemd')
  await dpkg('--install', deb)
  const read = (directory: string) =>
    readdirSync(directory, { recursive: true, withFileTypes: true })
      .filter((entry) => entry.isFile())
      .map(({ parentPath, name }) => join(relative(directory, parentPath), name))
      .sort()
      .map((path) => [path, readFileSync(join(directory, path), 'utf8')])
  const dropIn = 'docker.service.d/40-overlayd.conf'
  const library = join(root, 'usr/lib/overlayd')
  const installed = [
    ...read(join(root, 'usr/lib/systemd/system')),
    [dropIn, readFileSync(join(library, dropIn), 'utf8')],
  ]
  expect(installed.sort()).toEqual(read(units).sort())
  expect(await installedFiles()).toContain('./etc/systemd/system/multi-user.target.wants/overlayd.service')
})

test('systemd finds nothing wrong with the units, and those of container engines are not enabled', async () => {
  await dpkg('--install', deb)
  const units = readdirSync(join(root, 'usr/lib/systemd/system')).filter((name) => !name.includes('@'))
  expect(units).toEqual(expect.arrayContaining(['overlayd-cni.path', 'overlayd-podman.service']))
  const paths = units.map((name) => `/usr/lib/systemd/system/${name}`)
  const { stdout, stderr } = await run(onInstalled('systemd-analyze', 'verify', '--man=no', ...paths))
  expect(`${stdout}${stderr}`).toBe('')
  expect((await installedFiles()).filter((path) => /wants\/overlayd-/.test(path))).toEqual([])
})

test('lintian finds nothing', async () => {
  const allow = process.getuid?.() === 0 ? ['--allow-root'] : []
  const result = await run(['lintian', ...allow, '--tag-display-limit', '0', deb], { timeoutMs: 120_000 })
  expect(result).toMatchObject({ code: 0, stdout: '', stderr: '' })
})

describe('installed', () => {
  beforeAll(() => dpkg('--install', deb))

  test('it has compiled itself for this machine', () => {
    expect(cachedIn(join(root, 'usr/lib/overlayd'))).toEqual(['bundle', 'overlayctl'])
  })

  test('installed again, it keeps what the administrator wrote', async () => {
    const file = join(root, 'etc/default/overlayd')
    const own = readFileSync(file, 'utf8').replace('#FLANNELD_V=0', 'FLANNELD_V=1')
    writeFileSync(file, own)
    await dpkg('--install', deb)
    expect(readFileSync(file, 'utf8')).toBe(own)
    expect(own).toContain('\nFLANNELD_V=1\n')
  })

  test('the programs run by their names, with the node they brought', async () => {
    const { version } = JSON.parse(readFileSync(join(ROOT, 'package.json'), 'utf8'))
    const asked = await run(onInstalled('overlayd', '--version'), {
      env: { PATH: '/usr/sbin:/usr/bin:/sbin:/bin' },
    })
    expect(asked).toMatchObject({ code: 0, stderr: `${version}\n` })
    const wrong = await run(onInstalled('overlayd', '--no-such-flag'))
    expect(wrong).toMatchObject({ code: 2, stderr: expect.stringContaining('no-such-flag') })
  })

  test('the pages are installed, and each of their links leads to another of them', () => {
    const directory = join(root, 'usr/share/doc/overlayd')
    const source = join(ROOT, 'scripts/docs')
    const pagesIn = (path: string) => readdirSync(path).filter((name) => name.endsWith('.md'))
    expect(pagesIn(directory).sort()).toEqual(pagesIn(source).sort())
    const links = pagesIn(directory).flatMap((name) =>
      Array.from(
        readFileSync(join(directory, name), 'utf8').matchAll(/\]\(([^)#:]+)[^):]*\)/g),
        ([, to = '']) => to,
      ),
    )
    expect(links.length).toBeGreaterThan(20)
    expect(links.filter((to) => !existsSync(join(directory, to)))).toEqual([])
  })

  test("flannel's mk-docker-opts.sh is there", async () => {
    const input = join(root, 'subnet.env')
    const output = join(root, 'docker-opts.env')
    writeFileSync(
      input,
      'FLANNEL_NETWORK=10.5.0.0/16\nFLANNEL_SUBNET=10.5.7.1/24\nFLANNEL_MTU=1450\nFLANNEL_IPMASQ=false\n',
    )
    await runOk(onInstalled('/usr/lib/overlayd/mk-docker-opts.sh', '-c', '-f', input, '-d', output))
    expect(readFileSync(output, 'utf8')).toContain('--bip=10.5.7.1/24')
    rmSync(input)
    rmSync(output)
  })

  test('bash completes commands and flags', async () => {
    const script = `. "${root}/usr/share/bash-completion/completions/overlayctl"
      COMP_WORDS=(overlayctl config set --if); COMP_CWORD=3; _overlayctl; echo "\${COMPREPLY[*]}"
      COMP_WORDS=(overlayctl con); COMP_CWORD=1; _overlayctl; echo "\${COMPREPLY[*]}"`
    expect(await runOk(['bash', '-c', script])).toBe('--if-absent\nconfig\n')
  })

  test('two hosts that have it make an overlay', async () => {
    const lab = await Lab.create({ hosts: 2 })
    try {
      // The host's own command ends with node, a script and flags. Only the flags are wanted here.
      const wrapper = onInstalled('sh', '-c', 'shift 2 && exec /usr/bin/overlayd "$@"', 'sh')
      for (const host of lab.hosts) host.start({ wrapper })
      await lab.waitConverged()
      const [here, there] = [await lab.host(1).addContainer(), await lab.host(2).addContainer()]
      expect(await lab.ping(here, there)).toMatchObject({ lost: 0 })
      const { namespace, runDirectory } = lab.host(1)
      const status = onInstalled('/usr/bin/overlayctl', 'status', `--run-dir=${runDirectory}`)
      await waitFor('a healthy host', async () => {
        const { code, stdout, stderr } = await run(inNamespace(namespace, status))
        return (code === 0 && stdout.includes('healthy')) || new Pending(stdout + stderr)
      })
      expect(await lab.host(1).stop()).toMatchObject({ code: 0 })
    } finally {
      await lab.close()
    }
  })

  // The bundle has only the used part of etcd's protocol.
  test('a host takes part by an etcd that wants certificates and a login', async () => {
    const lab = await Lab.create({ hosts: 1 })
    const certificates = mkdtempSync(join(tmpdir(), 'overlayd-tls-'))
    const authority = new CertificateAuthority(certificates)
    const client = authority.sign('client')
    const host = lab.host(1)
    // etcd runs on the host itself, at the address in the certificates.
    const tls = { server: authority.sign('server'), client }
    const etcd = await startEtcd({ netns: host.namespace, tls })
    try {
      await etcd.etcdctl('put', `${ETCD_PREFIX}/config`, NETWORK_CONFIG)
      for (const command of ['user add root:hunter2', 'user grant-role root root', 'auth enable']) {
        await etcd.etcdctl(...command.split(' '))
      }
      const flags = {
        'etcd-endpoints': etcd.endpoint,
        'etcd-cafile': client.caFile,
        'etcd-certfile': client.certFile,
        'etcd-keyfile': client.keyFile,
        'etcd-username': 'root',
      }
      const env = { FLANNELD_ETCD_PASSWORD: 'hunter2' }
      host.start({
        flags,
        env,
        wrapper: onInstalled('sh', '-c', 'shift 2 && exec /usr/bin/overlayd "$@"', 'sh'),
      })
      await host.waitConverged(0)
      // Each of these commands makes another kind of call.
      const overlayctl = (...words: readonly string[]) => {
        const given = Object.entries(flags).map(([name, value]) => `--${name}=${value}`)
        const command = onInstalled('/usr/bin/overlayctl', ...words, ...given)
        return runOk(inNamespace(host.namespace, command), { env: { ...process.env, ...env } })
      }
      expect(JSON.parse(await overlayctl('config', 'get'))).toEqual(JSON.parse(NETWORK_CONFIG))
      const { subnet } = await host.subnetEnv()
      const other = subnet === '10.5.7.1/24' ? '10.5.8.0/24' : '10.5.7.0/24'
      await overlayctl(
        'reserve',
        '--public-ip=192.168.77.99',
        `--subnet=${other}`,
        `--etcd-prefix=${ETCD_PREFIX}`,
      )
      await host.waitConverged(1)
      await overlayctl('release', other, '--yes')
      await host.waitConverged(0)
      await host.restart()
      await host.waitConverged(0)
      expect((await host.subnetEnv()).subnet).toBe(subnet)
      expect(host.daemon.output).not.toContain('hunter2')
    } finally {
      await lab.close()
      await etcd.stop()
      rmSync(certificates, { recursive: true })
    }
  })
})

test('settings from before the package are kept, and a password in them becomes private', async () => {
  await dpkg('--purge', 'overlayd').catch(() => undefined)
  const file = join(root, 'etc/default/overlayd')
  mkdirSync(join(root, 'etc/default'), { recursive: true })
  for (const [text, mode] of [
    ['FLANNELD_V=1\n', 0o644],
    ['FLANNELD_ETCD_PASSWORD=hunter2\n', 0o640],
    ['#FLANNELD_ETCD_PASSWORD=hunter2\n', 0o644],
  ] as const) {
    writeFileSync(file, text)
    chmodSync(file, 0o644)
    await dpkg('--install', deb)
    expect(readFileSync(file, 'utf8')).toBe(text)
    expect(statSync(file).mode & 0o777).toBe(mode)
  }
  rmSync(file)
  await dpkg('--install', deb)
  expect(readFileSync(file, 'utf8')).toContain('#FLANNELD_ETCD_PASSWORD=')
  expect(statSync(file).mode & 0o777).toBe(0o640)
})

describe('removed', () => {
  /**
   * Directories as systemd makes them: for the package's user, or below `private` for the dynamic user of an
   * earlier package.
   */
  const DIRECTORIES = {
    run: ['overlayd', 'overlayd-blue', 'flannel'],
    'var/lib': ['overlayd', 'overlayd-blue'],
  }
  const subnetFiles = ['subnet.env', 'networks/blue.env']

  describe.each([
    ['directories of its user', false],
    ['those of a dynamic user', true],
  ])('with %s', (_, isDynamic) => {
    /** Where the directories are. */
    const [runs, states] = isDynamic ? ['run/private', 'var/lib/private'] : ['run', 'var/lib']

    beforeEach(async () => {
      await dpkg('--install', deb)
      expect(userOfService()).toBeGreaterThan(0)
      // A sandbox without root has no other user who could own directories.
      setUserOfService(process.getuid?.() ?? 0)
      for (const [parent, names] of Object.entries(DIRECTORIES)) {
        for (const name of names) {
          if (isDynamic) {
            mkdirSync(join(root, parent, 'private', name), { recursive: true })
            symlinkSync(`private/${name}`, join(root, parent, name))
          } else {
            mkdirSync(join(root, parent, name), { recursive: true })
          }
        }
      }
      mkdirSync(join(root, 'run/flannel/networks'))
      for (const file of subnetFiles) writeFileSync(join(root, 'run/flannel', file), '')
      await dpkg('--remove', 'overlayd')
    })

    // The user goes with the package.
    afterEach(() => rmSync(join(root, 'etc'), { recursive: true, force: true }))

    test('it leaves the configuration and what runs; purged, nothing', async () => {
      const left = await installedFiles()
      expect(left).toContain('./etc/default/overlayd')
      expect(left).toContain(`./${runs}/flannel/subnet.env`)
      expect(left.filter((path) => path.startsWith('./usr/'))).toEqual([])
      await dpkg('--purge', 'overlayd')
      expect(await installedFiles()).toEqual([])
      for (const directory of [runs, states]) {
        const names = readdirSync(join(root, directory))
        expect(names.filter((name) => /overlayd|flannel/.test(name))).toEqual([])
      }
      expect(userOfService()).toBe(process.getuid?.())
    })

    test('a purge takes nothing of others, and follows no link that the service may have made', async () => {
      const theirs = ['var/lib/overlayd-exporter/data', 'var/lib/private/overlayd-tools/data', 'etc/x.env']
      for (const path of theirs) {
        mkdirSync(join(root, path, '..'), { recursive: true })
        writeFileSync(join(root, path), 'precious')
      }
      symlinkSync('private/overlayd-tools', join(root, 'var/lib/overlayd-tools'))
      for (const name of ['state.json', 'wireguard-keys.json', '.wireguard-keys.json.7.a1b2c3d4'])
        writeFileSync(join(root, 'var/lib/overlayd-blue', name), '{}')
      rmSync(join(root, 'run/flannel/networks'), { recursive: true })
      symlinkSync(join(root, 'etc'), join(root, 'run/flannel/networks'))
      await dpkg('--purge', 'overlayd')
      for (const path of theirs) expect(readFileSync(join(root, path), 'utf8')).toBe('precious')
      expect(existsSync(join(root, 'var/lib/overlayd-tools/data'))).toBe(true)
      expect(existsSync(join(root, states, 'overlayd-blue'))).toBe(false)
      expect(existsSync(join(root, runs, 'flannel/subnet.env'))).toBe(false)
      for (const path of ['var/lib', 'run', 'etc'])
        rmSync(join(root, path, path === 'var/lib' ? 'private' : '.'), { recursive: true, force: true })
      for (const path of ['overlayd-exporter', 'overlayd-tools'])
        rmSync(join(root, 'var/lib', path), { recursive: true, force: true })
    })

    test('purged, it leaves directories of another user', async () => {
      const file = join(root, 'var/lib/overlayd-blue/state.json')
      writeFileSync(file, '{}')
      setUserOfService((process.getuid?.() ?? 0) + 1)
      await dpkg('--purge', 'overlayd')
      expect(existsSync(file)).toBe(!isDynamic)
      for (const path of ['var/lib', 'run']) {
        const names = readdirSync(join(root, path)).filter((name) => /^(private|overlayd.*)$/.test(name))
        for (const name of names) rmSync(join(root, path, name), { recursive: true })
      }
    })

    test('purged where flannel is, it leaves the subnet files', async () => {
      const programs = join(root, 'flannel')
      mkdirSync(programs)
      writeFileSync(join(programs, 'flanneld'), '#!/bin/sh\n', { mode: 0o755 })
      await dpkgWith({ PATH: `${programs}:${process.env['PATH']}` }, '--purge', 'overlayd')
      rmSync(programs, { recursive: true })
      const left = (await installedFiles()).filter((path) => path !== './run/flannel')
      expect(left.sort()).toEqual(subnetFiles.map((file) => `./${runs}/flannel/${file}`).sort())
      rmSync(join(root, 'run'), { recursive: true })
    })
  })
})

test('the bundle has what a host needs besides the programs, as the package has it', () => {
  const { version } = JSON.parse(readFileSync(join(ROOT, 'package.json'), 'utf8'))
  const host = join(DIRECTORY, `overlayd-${version}-linux-${process.arch}`, 'host')
  const packed = new Map(packedFiles)
  const files = digestsIn(host)
  const paths = files.map(([path]) => path)
  for (const path of ['usr/lib/systemd/system/overlayd.service', 'usr/share/man/man8/overlayd.8.gz'])
    expect(paths).toContain(path)
  const different = files.filter(([path, digest]) => packed.get(path) !== digest).map(([path]) => path)
  // Distributions differ in where zsh looks.
  expect(different).toEqual([
    'usr/share/zsh/site-functions/_overlayctl',
    'usr/share/zsh/site-functions/_overlayd',
  ])
})

/** The bundle that was made with the package. */
function ownBundle(): string {
  const { version } = JSON.parse(readFileSync(join(ROOT, 'package.json'), 'utf8'))
  return join(DIRECTORY, `overlayd-${version}-linux-${process.arch}`)
}

const NO_ETCD = '--etcd-endpoints=http://127.0.0.1:1'

test('the bundle runs in any folder on the node that is there', async () => {
  const { version } = JSON.parse(readFileSync(join(ROOT, 'package.json'), 'utf8'))
  const bundle = ownBundle()
  expect(statSync(join(bundle, 'overlayd.js')).mode & 0o111).not.toBe(0)
  const copy = mkdtempSync(join(tmpdir(), 'overlayd-bundle-'))
  try {
    await runOk(['cp', '-r', `${bundle}/.`, copy])
    expect(await run(['sh', '-c', `cd / && "${copy}/overlayd.js" --version`])).toMatchObject({
      code: 0,
      stderr: `${version}\n`,
    })
    // The files of the page are in the code. No daemon runs here, and the page says so.
    const page = await run([join(copy, 'overlayctl.js'), 'ui', '--output=-', `--run-dir=${copy}`, NO_ETCD])
    expect(page).toMatchObject({ code: 0, stdout: expect.stringContaining('"text":"DAEMON DOWN"') })
    expect(page.stdout).toMatch(/<style>:root \{[\s\S]*<script>\(\(\) => \{/)
  } finally {
    rmSync(copy, { recursive: true })
  }
})
