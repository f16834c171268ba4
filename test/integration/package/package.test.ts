/** The Debian package: what is in it, that it installs and goes without a trace, and that what it installs makes an overlay. */
import {
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
import { CertificateAuthority } from '../../support/certificates'
import { startEtcd } from '../../support/etcd'
import { ETCD_PREFIX, Lab, NETWORK_CONFIG } from '../../support/lab'
import { inNamespace } from '../../support/namespace'
import { type Command, run, runOk } from '../../support/process'

jest.setTimeout(120_000)

const ROOT = resolve(__dirname, '../../..')
const DIRECTORY = join(ROOT, 'dist/package')
const ARCH = process.arch === 'x64' ? 'amd64' : process.arch
const SOURCES = ['src', 'scripts/package', 'scripts/systemd', 'package.json', 'package-lock.json', 'LICENSE']

let deb: string
/** Where dpkg installs it, with a database of its own. */
let root: string

beforeAll(async () => {
  for (const [program, debianPackage] of [
    ['dpkg-deb', 'dpkg'],
    ['lintian', 'lintian'],
    ['deb-systemd-helper', 'init-system-helpers'],
  ]) {
    const { code } = await run(['sh', '-c', `command -v ${program}`])
    if (code !== 0) throw new Error(`${program} is missing: apt-get install ${debianPackage}`)
  }
  deb = await buildPackage()
  root = mkdtempSync(join(tmpdir(), 'overlayd-root-'))
  for (const name of ['info', 'updates', 'triggers']) {
    mkdirSync(join(root, 'var/lib/dpkg', name), { recursive: true })
  }
  writeFileSync(join(root, 'var/lib/dpkg/status'), '')
})
afterAll(() => {
  if (root !== undefined) rmSync(root, { recursive: true })
})

/** Makes the package unless there is one that is newer than all it is made of. */
async function buildPackage(): Promise<string> {
  const find = () => {
    const names = existsSync(DIRECTORY) ? readdirSync(DIRECTORY) : []
    const name = names.find((file) => file.endsWith(`_${ARCH}.deb`))
    return name === undefined ? undefined : join(DIRECTORY, name)
  }
  const existing = find()
  if (existing !== undefined && !(await isStale(existing))) return existing
  await runOk(['npm', 'run', '--silent', 'package', '--', `--arch=${ARCH}`], { timeoutMs: 60_000 })
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

/** All that lies below the root, without dpkg's own. */
async function installedFiles(): Promise<string[]> {
  const text = await runOk([
    'sh',
    '-c',
    `cd "${root}" && find . -path ./var/lib/dpkg -prune -o ! -type d -print`,
  ])
  return text.split('\n').filter((line) => line !== '')
}

/** A command on a machine that has the package: a view of /usr with its files in it. */
function onInstalled(...command: readonly [string, ...string[]]): Command {
  const script = 'mount -t overlay overlay -o "lowerdir=$1/usr:/usr" /usr && shift && exec "$@"'
  return ['unshare', '--mount', 'sh', '-c', script, 'sh', root, ...command]
}

test('every file is where Debian has such files, belongs to root, and is dated by the changelog', async () => {
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
      './etc/default/overlayd',
      './usr/share/overlayd/monitoring/alerts.yml',
      './usr/share/overlayd/monitoring/dashboard.json',
      './usr/share/man/man8/overlayd.8.gz',
      './usr/share/man/man8/overlayctl.8.gz',
      './usr/share/bash-completion/completions/overlayctl',
      './usr/share/zsh/vendor-completions/_overlayctl',
      './usr/share/fish/vendor_completions.d/overlayctl.fish',
      './usr/share/doc/overlayd/copyright',
      './usr/share/doc/overlayd/changelog.Debian.gz',
      './usr/share/doc/overlayd/NOTICES.gz',
    ]),
  )
  expect(await runOk(['dpkg-deb', '--field', deb, 'Architecture'])).toBe(`${ARCH}\n`)
  expect(await runOk(['dpkg-deb', '--info', deb, 'conffiles'])).toBe('/etc/default/overlayd\n')
})

test('the units are those of the tree, and so is the drop-in for Docker, which is only an example', async () => {
  const units = join(ROOT, 'scripts/systemd')
  await dpkg('--install', deb)
  const read = (directory: string) =>
    readdirSync(directory, { recursive: true, withFileTypes: true })
      .filter((entry) => entry.isFile())
      .map(({ parentPath, name }) => join(relative(directory, parentPath), name))
      .sort()
      .map((path) => [path, readFileSync(join(directory, path), 'utf8')])
  const installed = ['usr/lib/systemd/system', 'usr/share/doc/overlayd/examples'].map((path) =>
    join(root, path),
  )
  expect(installed.flatMap(read).sort()).toEqual(read(units).sort())
  expect(await installedFiles()).toContain('./etc/systemd/system/multi-user.target.wants/overlayd.service')
})

test('lintian finds nothing', async () => {
  const allow = process.getuid?.() === 0 ? ['--allow-root'] : []
  const { stdout, stderr } = await run(['lintian', ...allow, '--tag-display-limit', '0', deb])
  expect(`${stdout}${stderr}`).toBe('')
})

describe('installed', () => {
  beforeAll(() => dpkg('--install', deb))

  test('it has compiled itself for this machine', () => {
    expect(readdirSync(join(root, 'usr/lib/overlayd'))).toContainEqual(
      expect.stringMatching(/^bundle-.*\.cache$/),
    )
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
      // The host's own command ends with node, its script and the flags; only the flags are wanted here.
      const wrapper = onInstalled('sh', '-c', 'shift 2 && exec /usr/bin/overlayd "$@"', 'sh')
      for (const host of lab.hosts) host.start({ wrapper })
      await lab.waitConverged()
      const [here, there] = [await lab.host(1).addContainer(), await lab.host(2).addContainer()]
      expect(await lab.ping(here, there)).toMatchObject({ lost: 0 })
      const { namespace, runDirectory } = lab.host(1)
      const status = onInstalled('/usr/bin/overlayctl', 'status', `--run-dir=${runDirectory}`)
      expect(await run(inNamespace(namespace, status))).toMatchObject({
        code: 0,
        stdout: expect.stringContaining('healthy'),
      })
      expect(await lab.host(1).stop()).toMatchObject({ code: 0 })
    } finally {
      await lab.close()
    }
  })

  // Of etcd's protocol the bundle has only the part that is used.
  test('a host takes part by an etcd that wants certificates and a login', async () => {
    const lab = await Lab.create({ hosts: 1 })
    const certificates = mkdtempSync(join(tmpdir(), 'overlayd-tls-'))
    const authority = new CertificateAuthority(certificates)
    const client = authority.sign('client')
    const host = lab.host(1)
    // On the host itself, at the address that the certificates are for.
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
      // Each of these is another kind of call.
      const overlayctl = (...words: readonly string[]) => {
        const given = Object.entries(flags).map(([name, value]) => `--${name}=${value}`)
        const command = onInstalled('/usr/bin/overlayctl', ...words, ...given)
        return runOk(inNamespace(host.namespace, command), { env: { ...process.env, ...env } })
      }
      expect(JSON.parse(await overlayctl('config', 'get'))).toEqual(JSON.parse(NETWORK_CONFIG))
      await overlayctl(
        'reserve',
        '--public-ip=192.168.77.99',
        '--subnet=10.5.7.0/24',
        `--etcd-prefix=${ETCD_PREFIX}`,
      )
      await host.waitConverged(1)
      await overlayctl('release', '10.5.7.0/24', '--yes')
      await host.waitConverged(0)
      const { subnet } = await host.subnetEnv()
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

describe('removed', () => {
  /** As systemd makes them for a dynamic user. */
  const DIRECTORIES = {
    run: ['overlayd', 'overlayd-blue', 'flannel'],
    'var/lib': ['overlayd', 'overlayd-blue'],
  }
  const subnetFiles = ['subnet.env', 'networks/blue.env']

  beforeEach(async () => {
    await dpkg('--install', deb)
    for (const [parent, names] of Object.entries(DIRECTORIES)) {
      for (const name of names) {
        mkdirSync(join(root, parent, 'private', name), { recursive: true })
        symlinkSync(`private/${name}`, join(root, parent, name))
      }
    }
    mkdirSync(join(root, 'run/flannel/networks'))
    for (const file of subnetFiles) writeFileSync(join(root, 'run/flannel', file), '')
    await dpkg('--remove', 'overlayd')
  })

  test('it leaves the configuration and what runs; purged, nothing', async () => {
    const left = await installedFiles()
    expect(left).toContain('./etc/default/overlayd')
    expect(left).toContain('./run/private/flannel/subnet.env')
    expect(left.filter((path) => path.startsWith('./usr/'))).toEqual([])
    await dpkg('--purge', 'overlayd')
    expect(await installedFiles()).toEqual([])
    expect(readdirSync(join(root, 'run/private'))).toEqual([])
    expect(readdirSync(join(root, 'var/lib/private'))).toEqual([])
  })

  test('purged where flannel is, it leaves the subnet files', async () => {
    const programs = join(root, 'flannel')
    mkdirSync(programs)
    writeFileSync(join(programs, 'flanneld'), '#!/bin/sh\n', { mode: 0o755 })
    await dpkgWith({ PATH: `${programs}:${process.env['PATH']}` }, '--purge', 'overlayd')
    rmSync(programs, { recursive: true })
    const left = (await installedFiles()).filter((path) => !path.startsWith('./run/flannel'))
    expect(left.sort()).toEqual(subnetFiles.map((file) => `./run/private/flannel/${file}`).sort())
    rmSync(join(root, 'run'), { recursive: true })
  })
})

test('the bundle runs in any folder on the node that is there', async () => {
  const { version } = JSON.parse(readFileSync(join(ROOT, 'package.json'), 'utf8'))
  const bundle = join(DIRECTORY, `overlayd-${version}-linux-${process.arch}`)
  expect(statSync(join(bundle, 'overlayd.js')).mode & 0o111).not.toBe(0)
  const copy = mkdtempSync(join(tmpdir(), 'overlayd-bundle-'))
  try {
    await runOk(['cp', '-r', `${bundle}/.`, copy])
    expect(await run(['sh', '-c', `cd / && "${copy}/overlayd.js" --version`])).toMatchObject({
      code: 0,
      stderr: `${version}\n`,
    })
  } finally {
    rmSync(copy, { recursive: true })
  }
})
