import { parseIp, parseIpv4, parseIpv6 } from '../../../src/model/address'
import { parseCommandLine } from '../../../src/options/command-line'
import { yargsOptions } from '../../../src/options/documented'
import { etcdOptions } from '../../../src/options/etcd'
import { type Options, parseOptions } from '../../../src/options/schema'
import { describeOptions } from '../../../src/options/tell'
import { UsageError } from '../../../src/options/usage-error'

async function parse(argv: string[], env: NodeJS.ProcessEnv = {}): Promise<Options> {
  const invocation = await parseCommandLine(argv, env)
  if (invocation.kind !== 'run') throw new Error(`${argv.join(' ')} asks for ${invocation.kind}`)
  return invocation.options
}

async function warnings(argv: string[], env: NodeJS.ProcessEnv = {}): Promise<readonly string[]> {
  const invocation = await parseCommandLine(argv, env)
  return invocation.kind === 'run' ? invocation.warnings : []
}

test('--multicast is auto (by the network config) or off', async () => {
  expect((await parse(['--multicast=off'])).multicast).toBe('off')
  await expect(parse(['--multicast=on'])).rejects.toThrow('--multicast is "on": expected auto or off')
})

test('flags and variables of encryption are read as flannel’s are', async () => {
  expect(await parse(['-encryption', 'off', '--encryption-key-days=0'])).toMatchObject({
    encryption: 'off',
    'encryption-key-days': 0,
  })
  const env = { FLANNELD_ENCRYPTION: 'off', FLANNELD_ENCRYPTION_KEY_DAYS: '90' }
  expect(await parse(['--encryption=auto'], env)).toMatchObject({
    encryption: 'auto',
    'encryption-key-days': 90,
  })
  await expect(parse(['--encryption=required'])).rejects.toThrow('expected auto or off')
  await expect(parse(['--encryption-key-days=-1'])).rejects.toThrow('--encryption-key-days')
  await expect(parse(['--encryption-key-days=36501'])).rejects.toThrow('--encryption-key-days')
})

test('the defaults are flannel’s', async () => {
  expect(await parse([])).toEqual({
    'etcd-endpoints': 'http://127.0.0.1:4001,http://127.0.0.1:2379',
    'etcd-discovery-srv': '',
    'etcd-prefix': '/coreos.com/network',
    'etcd-cafile': '',
    'etcd-certfile': '',
    'etcd-keyfile': '',
    'etcd-username': '',
    'etcd-password': '',
    'subnet-lease-renew-margin': 60,
    multicast: 'auto',
    encryption: 'auto',
    'encryption-key-days': 30,
    'peer-removal-grace': 60,
    probe: 'on',
    'path-mtu': 'auto',
    'probe-interval': 1,
    iface: [],
    'iface-regex': [],
    'iface-can-reach': undefined,
    'public-ip': undefined,
    'public-ipv6': undefined,
    'allow-network-overlap': false,
    'subnet-file': '/run/flannel/subnet.env',
    'run-dir': '/run/overlayd',
    'state-dir': '/var/lib/overlayd',
    'ip-masq': false,
    'ip-masq-fully-random-disable': false,
    'iptables-forward-rules': true,
    'iptables-resync': 5,
    'docker-mark': 0x1000,
    'ip-blackhole-route': false,
    'ip-forward': true,
    'healthz-ip': '0.0.0.0',
    'healthz-port': 0,
    'metrics-ip': '127.0.0.1',
    'metrics-port': 0,
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

test('several --iface add up, in order', async () => {
  expect((await parse(['-iface', 'eth0', '--iface=192.0.2.1'])).iface).toEqual(['eth0', '192.0.2.1'])
})

test('an empty --iface is ignored', async () => {
  expect((await parse(['--iface='])).iface).toEqual([])
  expect((await parse(['--iface=', '--iface=eth0'])).iface).toEqual(['eth0'])
})

test.each([
  ['10', 10],
  ['0x10', 16],
  ['0o17', 15],
  ['017', 15],
  ['0b101', 5],
  ['1_000', 1000],
  ['0x_ff', 255],
  ['+7', 7],
  ['-0', 0],
])('-v %s is %d', async (text, value) => {
  expect((await parse(['-v', text])).v).toBe(value)
})

test('a value may begin with a dash or hold an equals sign', async () => {
  expect((await parse(['--etcd-prefix', '-x=y']))['etcd-prefix']).toBe('-x=y')
})

test('a boolean takes a value only with an equals sign', async () => {
  expect(await parseCommandLine(['--version'], {})).toEqual({ kind: 'version' })
  expect((await parse(['-version=F'])).version).toBe(false)
  for (const text of ['1', 't', 'T', 'TRUE', 'true', 'True']) {
    expect((await parse([`-ip-masq=${text}`]))['ip-masq']).toBe(true)
  }
  for (const text of ['0', 'f', 'F', 'FALSE', 'false', 'False']) {
    expect((await parse([`--iptables-forward-rules=${text}`]))['iptables-forward-rules']).toBe(false)
  }
  expect((await parse(['--ip-masq', '-v', '2'])).v).toBe(2)
})

test('a boolean with a blank before its value is refused (flannel ignores all flags after it)', async () => {
  await expect(parse(['--ip-masq', 'false', '--iface=eth0'])).rejects.toMatchObject({
    message: expect.stringContaining('"false" is not a flag, and not the value of --ip-masq either'),
    fix: 'write --ip-masq=false',
  })
})

test('several --iface-regex add up, in order, and are Go patterns', async () => {
  const patterns = (await parse(['--iface-regex=^10\\.', '--iface-regex=', '-iface-regex', '(?i)ETH']))[
    'iface-regex'
  ]
  expect(patterns).toEqual([/^10\./, /ETH/i])
})

test('addresses are parsed by family', async () => {
  const options = await parse([
    '--public-ip=192.0.2.1',
    '--public-ipv6=2001:db8::1',
    '--iface-can-reach=2001:DB8:0::2',
  ])
  expect(options).toMatchObject({
    'public-ip': parseIpv4('192.0.2.1'),
    'public-ipv6': parseIpv6('2001:db8::1'),
    'iface-can-reach': parseIp('2001:db8::2'),
  })
})

test('help and version are answered even beside wrong flags and variables', async () => {
  const env = { FLANNELD_V: 'loud' }
  expect(await parseCommandLine(['--version', '--iptables-resync=0'], env)).toEqual({ kind: 'version' })
  expect(await parseCommandLine(['-help'], env)).toMatchObject({ kind: 'help' })
})

test('the environment counts where no flag is given; an empty variable does not count', async () => {
  const env = {
    FLANNELD_ETCD_PREFIX: '/env',
    FLANNELD_IFACE: 'eth0,eth1',
    FLANNELD_IFACE_REGEX: 'a,b',
    FLANNELD_IP_MASQ: 'T',
    FLANNELD_V: '2',
    FLANNELD_SUBNET_FILE: '',
    FLANNELD_VERSION: 'true',
  }
  expect(await parse(['--etcd-prefix=/flag'], env)).toMatchObject({
    'etcd-prefix': '/flag',
    iface: ['eth0,eth1'],
    'iface-regex': [/a,b/],
    'ip-masq': true,
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
  [['-v=1e3'], 'the flag --v is "1e3": expected a whole number'],
  [['-v=08'], 'the flag --v is "08"'],
  [['-v', ''], 'the flag --v is ""'],
  [['--etcd-prefix='], 'the flag --etcd-prefix is "": expected a value'],
  [
    ['--subnet-lease-renew-margin=0'],
    '--subnet-lease-renew-margin is "0": expected a whole number from 1 to 1439',
  ],
  [['--subnet-lease-renew-margin=1440'], 'from 1 to 1439'],
  [['--iptables-resync=0'], 'the flag --iptables-resync is "0": expected a whole number from 1'],
  [['--healthz-port=65536'], 'the flag --healthz-port is "65536"'],
  [['--public-ipv6=192.0.2.1'], 'the flag --public-ipv6 is "192.0.2.1": expected an IPv6 address'],
  [['--iface-can-reach=etcd'], 'the flag --iface-can-reach is "etcd": expected an address'],
  [['--iface-regex=eth(', '--iface-regex=ok'], 'the flag --iface-regex is ["eth(","ok"]: "eth(": Invalid'],
  [['--ip-masq=yes'], 'the flag --ip-masq is "yes": expected true or false'],
  [['--public-ip=fd00::1'], 'the flag --public-ip is "fd00::1": expected an IPv4 address'],
  [['--version=maybe'], 'the flag --version is "maybe": expected true or false'],
])('%j is a usage error: %s', async (argv, message) => {
  const error = await parse(argv).catch((reason: unknown) => reason)
  expect(error).toBeInstanceOf(UsageError)
  expect((error as UsageError).message).toContain(message)
})

test.each([
  ['FLANNELD_PUBLIC_IP', 'x'],
  ['FLANNELD_IP_MASQ', 'yes'],
  ['FLANNELD_SUBNET_LEASE_RENEW_MARGIN', '1h'],
  ['FLANNELD_IFACE_REGEX', '('],
])('a bad variable %s=%s is a usage error that names it', async (name, value) => {
  await expect(parse([], { [name]: value })).rejects.toMatchObject({
    code: 'usage',
    message: expect.stringContaining(`the variable ${name} is `),
  })
})

describe('flags of flannel that overlayd does not support', () => {
  test.each([
    [['--kube-subnet-mgr'], '--kube-subnet-mgr: overlayd keeps its network in etcd', '--etcd-endpoints'],
    [['--remote=http://a:1'], '--remote: there is no client and server mode', '--etcd-endpoints'],
    [['-listen', ':8888'], '--listen: there is no client and server mode', 'grpc-proxy'],
    [['--remote-cafile=/ca'], '--remote-cafile: ', 'give --etcd-cafile'],
    [['--networks=blue,green'], '--networks: one daemon serves one network', '--etcd-prefix'],
    [['--watch-networks'], '--watch-networks: one daemon', '--etcd-prefix'],
    [['--subnet-dir=/run/networks'], '--subnet-dir: one daemon', '--subnet-file'],
    [['--kube-subnet-mgr=maybe'], '--kube-subnet-mgr is "maybe": expected true or false', '--help'],
    [['--kube-subnet-mgr', 'false'], 'a boolean takes one only with "="', '--kube-subnet-mgr=false'],
  ])('%j is refused with what to do instead', async (argv, message, fix) => {
    await expect(parse(argv)).rejects.toMatchObject({
      code: 'usage',
      message: expect.stringContaining(message),
      fix: expect.stringContaining(fix),
    })
  })

  test('a variable is refused likewise, unless a flag overrides it', async () => {
    const env = { FLANNELD_KUBE_SUBNET_MGR: 'true' }
    await expect(parse([], env)).rejects.toThrow(
      'FLANNELD_KUBE_SUBNET_MGR: overlayd keeps its network in etcd',
    )
    expect(await warnings(['--kube-subnet-mgr=false'], env)).toHaveLength(1)
  })

  test('those without effect are named in one warning', async () => {
    const argv = [
      ...['--kube-subnet-mgr=false', '--kube-api-url=http://a', '-logtostderr', '--vmodule', 'main=2'],
      ...['--log_backtrace_at=main.go:1', '--set-node-network-unavailable=false', '--remote=', '--v=1'],
    ]
    const [line, ...more] = await warnings(argv, {
      FLANNELD_NET_CONFIG_PATH: '/etc/net.json',
      FLANNELD_LOG_DIR: '',
    })
    expect(more).toEqual([])
    for (const name of ['kube-api-url', 'logtostderr', 'vmodule', 'log_backtrace_at', 'remote']) {
      expect(line).toContain(`--${name}`)
    }
    expect(line).toContain('FLANNELD_NET_CONFIG_PATH')
    expect(line).not.toContain('LOG_DIR')
    expect(await warnings([])).toEqual([])
  })

  test('none of them is in the help', async () => {
    expect(await helpText()).not.toMatch(/kube|vmodule|logtostderr|networks/)
  })
})

const helpText = async (): Promise<string> => {
  const invocation = await parseCommandLine(['-h'], {})
  return invocation.kind === 'help' ? invocation.text : ''
}

test('help names every flag with its default, under a heading, and fits into 100 columns', async () => {
  const text = await helpText()
  for (const flag of Object.keys(await parse([]))) expect(text).toContain(`-${flag} `)
  for (const heading of [
    'etcd',
    'Underlay interface',
    'Files',
    'Firewall and routing',
    'Health',
    'Logging',
  ]) {
    expect(text).toContain(`\n${heading}:\n`)
  }
  expect(text).toContain('/coreos.com/network')
  expect(text).toMatch(/iptables-forward-rules[^-]*\(default: true\)/)
  expect(text).not.toContain('undefined')
  expect(Math.max(...text.split('\n').map((line) => line.length))).toBeLessThanOrEqual(100)
})

test('every option has a description', () => {
  const described = yargsOptions(['etcd-cafile', 'healthz-port'])
  expect(described['etcd-cafile'].describe).toContain('CA')
  expect(described['healthz-port'].group).toBe('Health:')
})

test('the options of the etcd client are passed on, and the log does not contain the password', async () => {
  const options = await parse(
    ['--etcd-endpoints=https://a', '--etcd-cafile=/ca', '--etcd-username=u', '--public-ip=192.0.2.1'],
    { FLANNELD_ETCD_PASSWORD: 'hunter2', FLANNELD_IFACE_REGEX: '^eth' },
  )
  expect(etcdOptions(options)).toEqual({
    endpoints: 'https://a',
    discoverySrv: '',
    tls: { caFile: '/ca', certFile: '', keyFile: '' },
    auth: { username: 'u', password: 'hunter2' },
  })
  expect(describeOptions(options)).toBe(
    'etcd-endpoints=https://a etcd-cafile=/ca etcd-username=u etcd-password=(not shown) ' +
      'iface-regex=^eth public-ip=192.0.2.1',
  )
})

describe('the state directory', () => {
  const directoryOf = (flags: Record<string, string>, env: NodeJS.ProcessEnv = {}) =>
    parseOptions(flags, env)['state-dir']
  const further = { 'etcd-prefix': '/blue', 'subnet-file': '/run/blue.env' }

  test('is that of the flag, else of the variable, else of the unit, else one for the network', () => {
    const unit = { STATE_DIRECTORY: '/var/lib/overlayd-blue:/var/lib/more' }
    const variable = { ...unit, FLANNELD_STATE_DIR: '/b' }
    expect(directoryOf({ 'state-dir': '/a' }, variable)).toBe('/a')
    expect(directoryOf({}, variable)).toBe('/b')
    expect(directoryOf({}, unit)).toBe('/var/lib/overlayd-blue')
    expect(directoryOf({})).toBe('/var/lib/overlayd')
    expect(directoryOf(further)).toMatch(/^\/var\/lib\/overlayd-[0-9a-f]{8}$/)
  })
})

test.each([
  ['off', undefined],
  ['0x80000', 0x80000],
  ['1', 1],
])('--docker-mark=%s', async (value, expected) => {
  expect((await parse([`--docker-mark=${value}`]))['docker-mark']).toBe(expected)
})

test.each(['0x4000', '3', 'on', ''])('--docker-mark=%s is refused', async (value) => {
  await expect(parse([`--docker-mark=${value}`])).rejects.toThrow('docker-mark')
})
