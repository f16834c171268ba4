/**
 * `overlayctl docker-opts` replaces flannel's mk-docker-opts.sh: files, environment, exit codes, and flags as
 * in unit files.
 */
import {
  chmodSync,
  chownSync,
  existsSync,
  linkSync,
  mkdirSync,
  mkdtempSync,
  readFileSync,
  rmSync,
  statSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs'
import { join } from 'node:path'
import { assertSandbox, execOk, inNamespace, ipBatch } from '../../lab/namespace'
import { patient } from '../../lab/patience'
import { run } from '../../lab/process'
import { OVERLAYCTL } from '../../lab/programs'

jest.setTimeout(patient(60_000))

const NAMESPACE = 'docker-options'
const SUBNET_ENV =
  'FLANNEL_NETWORK=10.1.0.0/16\nFLANNEL_SUBNET=10.1.74.1/24\nFLANNEL_MTU=1450\nFLANNEL_IPMASQ=true\n'
const OPTIONS = '--bip=10.1.74.1/24 --ip-masq=false --mtu=1450'
const LINES = `DOCKER_OPT_BIP="--bip=10.1.74.1/24"\nDOCKER_OPT_IPMASQ="--ip-masq=false"\nDOCKER_OPT_MTU="--mtu=1450"\n`
const ALL = `${LINES}DOCKER_OPTS=" ${OPTIONS}"\n`

let directory: string
let input: string
let output: string

beforeAll(async () => {
  assertSandbox()
  await ipBatch(undefined, [`netns add ${NAMESPACE}`])
  await ipBatch(NAMESPACE, [
    'link set lo up',
    'link add eth0 type bridge',
    'address add 192.168.77.11/24 dev eth0',
    'link set eth0 up',
  ])
})
afterAll(() => ipBatch(undefined, [`netns del ${NAMESPACE}`]))

beforeEach(() => {
  directory = mkdtempSync('/run/docker-options-')
  input = join(directory, 'subnet.env')
  output = join(directory, 'docker_opts.env')
  writeFileSync(input, SUBNET_ENV)
})
afterEach(() => rmSync(directory, { recursive: true }))

/** Runs the command in an environment with the given variables only. */
const command = (args: readonly string[], env: NodeJS.ProcessEnv = {}) =>
  run(inNamespace(NAMESPACE, [process.execPath, OVERLAYCTL, 'docker-opts', ...args]), {
    env: { PATH: process.env['PATH'], ...env },
  })
const dockerOptions = (args: readonly string[], env?: NodeJS.ProcessEnv) =>
  command(['-f', input, '-d', output, ...args], env)

test.each([
  [[], ALL],
  [['-i'], LINES],
  [['-c'], `DOCKER_OPTS=" ${OPTIONS}"\n`],
  [['-i', '-c'], ALL],
  [['-ic'], ALL],
  [['-c', '-k', 'DOCKER_NETWORK_OPTIONS'], `DOCKER_NETWORK_OPTIONS=" ${OPTIONS}"\n`],
  [['-kCUSTOM', '-c'], `CUSTOM=" ${OPTIONS}"\n`],
  [['-mc'], `DOCKER_OPTS=" --bip=10.1.74.1/24 --mtu=1450"\n`],
  [['-ck', 'A', '-k', 'B'], `B=" ${OPTIONS}"\n`],
])('with the flags %j it writes what flannel’s script writes', async (flags, text) => {
  expect(await dockerOptions(flags)).toEqual({ code: 0, signal: null, stdout: '', stderr: '' })
  expect(readFileSync(output, 'utf8')).toBe(text)
})

test.each([
  [{ DOCKER_OPTS: '--debug' }, `DOCKER_OPTS="--debug  ${OPTIONS}"\n`],
  [{ DOCKER_OPT_X: '--x' }, `DOCKER_OPTS=" ${OPTIONS} --x"\n`],
])('what the environment has is kept: %j', async (env, text) => {
  expect(await dockerOptions(['-c'], env)).toMatchObject({ code: 0 })
  expect(readFileSync(output, 'utf8')).toBe(text)
})

test.each([
  ['quotes', SUBNET_ENV.replace(/=(.*)/g, '="$1"')],
  ['export', SUBNET_ENV.replace(/^/gm, 'export ').replace(/export $/, '')],
  ['comments', `# written by hand\n${SUBNET_ENV}`],
])('a file with %s is read as a shell reads it', async (_, text) => {
  writeFileSync(input, text)
  expect(await dockerOptions([])).toMatchObject({ code: 0 })
  expect(readFileSync(output, 'utf8')).toBe(ALL)
})

test('without the input file there are no options, and that is no error', async () => {
  rmSync(input)
  expect(await dockerOptions([])).toMatchObject({ code: 0, stderr: '' })
  expect(readFileSync(output, 'utf8')).toBe('DOCKER_OPTS=""\n')
})

test('a value of FLANNEL_IPMASQ that is neither true nor false is refused, and nothing written', async () => {
  writeFileSync(input, SUBNET_ENV.replace('true', 'maybe'))
  expect(await dockerOptions([])).toMatchObject({ code: 1, stderr: expect.stringContaining('maybe') })
  expect(existsSync(output)).toBe(false)
})

test.each([[['-h']], [['-?']], [['-x']], [['-f']], [['--bip=1']], [['word']]])(
  '%j is answered with the usage on stderr and exit code 1',
  async (flags) => {
    const { code, stdout, stderr } = await command(flags)
    expect({ code, stdout }).toEqual({ code: 1, stdout: '' })
    expect(stderr).toMatch(/^usage: overlayctl docker-opts \[-f FILE\]/m)
  },
)

test('--help explains the flags on stdout', async () => {
  const { code, stdout } = await command(['--help'])
  expect(code).toBe(0)
  for (const flag of ['-f', '-d', '-i', '-c', '-k', '-m']) expect(stdout).toContain(` ${flag} `)
})

describe('--networks shares the subnet out', () => {
  /** A program of that name in a directory of its own, which is first in PATH. */
  const withDockerd = (script: string): NodeJS.ProcessEnv => {
    const bin = join(directory, 'bin')
    mkdirSync(bin)
    writeFileSync(join(bin, 'dockerd'), `#!/bin/sh\n${script}\n`, { mode: 0o755 })
    return { PATH: `${bin}:${process.env['PATH']}` }
  }
  const NETWORK =
    'DOCKER_OPT_NETWORK="--default-network-opt=bridge=com.docker.network.driver.mtu=1450 ' +
    '--default-network-opt=bridge=com.docker.network.bridge.enable_ip_masquerade=false"\n'
  const POOL = 'DOCKER_OPT_POOL="--default-address-pool=base=10.1.74.128/25,size=25"\n'
  const SHARED = LINES.replace('/24', '/25')

  test('with a dockerd that has defaults for networks', async () => {
    const env = withDockerd('echo "Docker version 28.5.2+dfsg4, build ecc6942"')
    expect(await dockerOptions(['-i', '--networks=25'], env)).toMatchObject({ code: 0, stderr: '' })
    expect(readFileSync(output, 'utf8')).toBe(SHARED + NETWORK + POOL)
  })

  test.each([
    ['an older one', 'echo "Docker version 20.10.24+dfsg1, build 297e128"', 'Docker 20.10.24+dfsg1 has no'],
    ['one that fails', 'exit 1', 'its version is not known'],
  ])('with %s: says what each network needs', async (_, script, words) => {
    const { code, stderr } = await dockerOptions(['-i', '--networks', '/25'], withDockerd(script))
    expect(code).toBe(0)
    expect(stderr).toContain(words)
    expect(stderr).toContain('-o com.docker.network.driver.mtu=1450 -o com.docker.network.bridge.enable_ip')
    expect(readFileSync(output, 'utf8')).toBe(SHARED + POOL)
  })

  test('the nftables backend of Docker gets the flags that let other hosts in', async () => {
    const env = { ...withDockerd('exit 1'), DOCKER_OPTS: '--firewall-backend=nftables' }
    expect(await dockerOptions(['-i'], env)).toMatchObject({ code: 0, stderr: '' })
    expect(readFileSync(output, 'utf8')).toBe(
      `${LINES.split('\n')[0]}\nDOCKER_OPT_FIREWALL="--allow-direct-routing --bridge-accept-fwmark=0x1000/0x1000"\n` +
        LINES.split('\n').slice(1).join('\n'),
    )
    const marked = { ...env, FLANNELD_DOCKER_MARK: '0x80000' }
    const { stderr } = await dockerOptions(['-i'], marked)
    expect(stderr).toContain('--docker-mark=0x80000: that bit is used by Tailscale and Calico too')
    expect(readFileSync(output, 'utf8')).toContain('--bridge-accept-fwmark=0x80000/0x80000')
  })

  test('a route for all of the subnet keeps Docker from making networks, which is told', async () => {
    const hole = ['blackhole', '10.1.74.0/24', 'metric', '4278198272']
    await execOk(NAMESPACE, ['ip', 'route', 'add', ...hole])
    try {
      const { code, stderr } = await dockerOptions(['--networks=25'])
      expect({ code, stderr }).toEqual({ code: 0, stderr: expect.stringContaining('--ip-blackhole-route') })
    } finally {
      await execOk(NAMESPACE, ['ip', 'route', 'del', ...hole])
    }
  })

  test.each([
    ['24', 'SubnetLen'],
    ['0x1b', 'not a prefix length'],
    ['-1', 'not a prefix length'],
  ])('--networks=%s is refused, and nothing is written', async (size, words) => {
    const { code, stderr } = await dockerOptions([`--networks=${size}`])
    expect({ code, stderr }).toEqual({ code: 1, stderr: expect.stringContaining(words) })
    expect(existsSync(output)).toBe(false)
  })

  test('in the subnet file itself', async () => {
    const env = withDockerd('echo "Docker version 28.5.2, build ecc6942"')
    for (let time = 0; time < 2; time += 1) {
      const { code, stderr } = await command(['-f', input, '-d', input, '-i', '--networks=25'], env)
      expect(code).toBe(0)
      expect(stderr).not.toContain('is not for Docker')
      expect(readFileSync(input, 'utf8')).toBe(SUBNET_ENV + SHARED + NETWORK + POOL)
    }
  })
})

test('the file that is there keeps its mode, and is replaced as a whole', async () => {
  writeFileSync(output, 'x'.repeat(4096))
  chmodSync(output, 0o600)
  const { ino } = statSync(output)
  expect(await dockerOptions([])).toMatchObject({ code: 0 })
  expect(readFileSync(output, 'utf8')).toBe(ALL)
  expect(statSync(output).mode & 0o777).toBe(0o600)
  // flannel's script truncates the file in place. Readers of our file never see half of the content.
  expect(statSync(output).ino).not.toBe(ino)
})

test('it can be written to a pipe', async () => {
  const script = '"$0" "$1" docker-opts -c -f "$2" -d /dev/stdout | cat'
  const shell = ['sh', '-c', script, process.execPath, OVERLAYCTL, input]
  expect(await run(inNamespace(NAMESPACE, shell))).toMatchObject({
    code: 0,
    stdout: `DOCKER_OPTS=" ${OPTIONS}"\n`,
  })
})

test('nothing of the file but addresses, an MTU, true and false gets to Docker', async () => {
  writeFileSync(
    input,
    `${SUBNET_ENV}LD_PRELOAD=/tmp/x.so\nDOCKER_OPT_X=-H tcp://0.0.0.0\nDOCKER_OPTS=--debug\n`,
  )
  const { code, stderr } = await dockerOptions([])
  expect(code).toBe(0)
  expect(stderr).toContain(
    'has DOCKER_OPTS, DOCKER_OPT_X, LD_PRELOAD, which is not for Docker and is ignored',
  )
  expect(readFileSync(output, 'utf8')).toBe(ALL)
  writeFileSync(input, SUBNET_ENV.replace('1450', '"1450 --debug"'))
  rmSync(output)
  expect(await dockerOptions([])).toMatchObject({ code: 1, stderr: expect.stringContaining('FLANNEL_MTU') })
  expect(existsSync(output)).toBe(false)
})

test.each(['the same path', 'a link', 'a hard link'])(
  'over its own input, by %s: told, and nothing is lost',
  async (way) => {
    rmSync(output, { force: true })
    if (way === 'a link') symlinkSync('subnet.env', output)
    if (way === 'a hard link') linkSync(input, output)
    const target = way === 'the same path' ? input : output
    for (let time = 0; time < 2; time += 1) {
      const { code, stderr } = await command(['-f', input, '-d', target])
      expect(code).toBe(0)
      if (way !== 'a hard link' || time === 0) expect(stderr).toContain('is the subnet file itself')
      expect(readFileSync(target, 'utf8')).toBe(time === 0 || way !== 'a hard link' ? SUBNET_ENV + ALL : ALL)
    }
    expect(readFileSync(input, 'utf8')).toContain(SUBNET_ENV)
  },
)

test('root writes through no link of another user, and says whose directory it is', async () => {
  const theirs = join(directory, 'theirs')
  mkdirSync(theirs)
  chownSync(theirs, 65_534, 65_534)
  const victim = join(directory, 'victim')
  writeFileSync(victim, 'precious')
  symlinkSync(victim, join(theirs, 'docker'))
  const { code, stderr } = await command(['-f', input, '-d', join(theirs, 'docker')])
  expect({ code, stderr }).toMatchObject({
    code: 1,
    stderr: expect.stringContaining('root does not follow it'),
  })
  expect(readFileSync(victim, 'utf8')).toBe('precious')
  const other = await command(['-f', input, '-d', join(theirs, 'other')])
  expect(other).toMatchObject({ code: 0, stderr: expect.stringContaining('can be changed by user 65534') })
  symlinkSync(victim, join(theirs, 'subnet.env'))
  expect((await command(['-f', join(theirs, 'subnet.env'), '-d', output])).code).toBe(1)
})

describe('a subnet that is routed elsewhere', () => {
  const route = async (verb: string, ...words: string[]) => {
    await execOk(NAMESPACE, ['ip', 'route', verb, ...words])
  }

  test('is exit code 1 and a line on stderr, after the file is written', async () => {
    await route('add', '10.1.74.0/24', 'via', '192.168.77.1')
    try {
      expect(await dockerOptions([])).toMatchObject({
        code: 1,
        stdout: '',
        stderr: expect.stringContaining('10.1.74.0/24 via 192.168.77.1'),
      })
      expect(readFileSync(output, 'utf8')).toBe(ALL)
    } finally {
      await route('del', '10.1.74.0/24')
    }
  })

  test.each([
    [['10.1.74.0/24', 'dev', 'eth0']],
    [['10.1.75.0/24', 'via', '192.168.77.1']],
    [['10.1.0.0/16', 'via', '192.168.77.1']],
    [['blackhole', '10.1.74.0/24', 'metric', '4278198272']],
  ])('is not one with the route %j', async (words) => {
    await route('add', ...words)
    try {
      expect(await dockerOptions([])).toMatchObject({ code: 0, stderr: '' })
    } finally {
      await route('del', ...words)
    }
  })
})
