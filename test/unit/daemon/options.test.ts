import { type Options, parseCommandLine, UsageError } from '../../../src/daemon/options'

async function parse(argv: string[], env: NodeJS.ProcessEnv = {}): Promise<Options> {
  const invocation = await parseCommandLine(argv, env)
  if (invocation.kind !== 'run') throw new Error(`${argv.join(' ')} asks for ${invocation.kind}`)
  return invocation.options
}

test('the defaults are flannel’s', async () => {
  expect(await parse([])).toEqual({
    'etcd-endpoints': 'http://127.0.0.1:4001,http://127.0.0.1:2379',
    'etcd-prefix': '/coreos.com/network',
    iface: [],
    'public-ip': undefined,
    'subnet-file': '/run/flannel/subnet.env',
    'run-dir': '/run/overlayd',
    v: 0,
    version: false,
    help: false,
  })
})

test.each([
  [['-etcd-prefix=/a']],
  [['--etcd-prefix=/a']],
  [['-etcd-prefix', '/a']],
  [['--etcd-prefix', '/a']],
  [['--etcd-prefix=/b', '--etcd-prefix=/a']],
])('%j gives the prefix /a', async (argv) => {
  expect((await parse(argv))['etcd-prefix']).toBe('/a')
})

test('iface adds up, in order', async () => {
  expect((await parse(['-iface', 'eth0', '--iface=192.0.2.1'])).iface).toEqual(['eth0', '192.0.2.1'])
})

test('an empty iface is none', async () => {
  expect((await parse(['--iface='])).iface).toEqual([])
  expect((await parse(['--iface=', '--iface=eth0'])).iface).toEqual(['eth0'])
})

test.each([
  ['10', 10],
  ['0x10', 16],
  ['0o17', 15],
  ['1_000', 1000],
])('-v %s is %d', async (text, value) => {
  expect((await parse(['-v', text])).v).toBe(value)
})

test('a value may begin with a dash or hold an equals sign', async () => {
  expect((await parse(['--etcd-prefix', '-x=y']))['etcd-prefix']).toBe('-x=y')
})

test('a boolean takes a value only with an equals sign', async () => {
  expect(await parseCommandLine(['--version'], {})).toEqual({ kind: 'version' })
  expect((await parse(['-version=F'])).version).toBe(false)
  await expect(parse(['--version', 'false'])).rejects.toThrow('"false" is not a flag')
})

test('the environment counts where no flag is given; an empty variable does not', async () => {
  const env = {
    FLANNELD_ETCD_PREFIX: '/env',
    FLANNELD_IFACE: 'eth0,eth1',
    FLANNELD_V: '2',
    FLANNELD_SUBNET_FILE: '',
    FLANNELD_VERSION: 'true',
  }
  expect(await parse(['--etcd-prefix=/flag'], env)).toMatchObject({
    'etcd-prefix': '/flag',
    iface: ['eth0,eth1'],
    v: 2,
    'subnet-file': '/run/flannel/subnet.env',
    version: false,
  })
})

test.each([
  [['--nonsense'], 'there is no flag --nonsense'],
  [['--constructor=1'], 'there is no flag --constructor'],
  [['run'], '"run" is not a flag'],
  [['--'], '"--" is not a flag'],
  [['---v=1'], '"---v=1" is not a flag'],
  [['-v'], 'the flag --v needs a value'],
  [['-v', 'loud'], 'the flag --v is "loud"'],
  [['-v=-1'], 'the flag --v is "-1"'],
  [['--public-ip=fd00::1'], 'the flag --public-ip is "fd00::1": an IPv4 address'],
  [['--version=maybe'], 'the flag --version is "maybe": true or false is wanted'],
])('%j is a usage error: %s', async (argv, message) => {
  const error = await parse(argv).catch((reason: unknown) => reason)
  expect(error).toBeInstanceOf(UsageError)
  expect((error as UsageError).message).toContain(message)
})

test('a bad variable is a usage error that names it', async () => {
  await expect(parse([], { FLANNELD_PUBLIC_IP: 'x' })).rejects.toThrow(
    'the variable FLANNELD_PUBLIC_IP is "x"',
  )
})

test('help names every flag with its default', async () => {
  const invocation = await parseCommandLine(['-h'], {})
  const text = invocation.kind === 'help' ? invocation.text : ''
  for (const flag of Object.keys(await parse([]))) expect(text).toContain(`-${flag} `)
  expect(text).toContain('/coreos.com/network')
})
