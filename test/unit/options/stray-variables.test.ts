import { parseCommandLine } from '../../../src/options/command-line'

const warningsOf = async (env: NodeJS.ProcessEnv, ...argv: string[]): Promise<readonly string[]> => {
  const invocation = await parseCommandLine(argv, env)
  return invocation.kind === 'run' ? invocation.warnings : []
}

test.each([
  ['FLANNELD_ETCD_ENDPOINT', 'FLANNELD_ETCD_ENDPOINTS'],
  ['FLANNELD_ETCD_ENDPIONTS', 'FLANNELD_ETCD_ENDPOINTS'],
  ['FLANNELD_INTERFACE', 'FLANNELD_IFACE'],
  ['FLANNELD_IPMASQ', 'FLANNELD_IP_MASQ'],
  ['FLANNELD_IP-MASQ', 'FLANNELD_IP_MASQ'],
  ['FLANNELD_SUBNETFILE', 'FLANNELD_SUBNET_FILE'],
  ['flanneld_etcd_prefix', 'FLANNELD_ETCD_PREFIX'],
  ['FLANNELD_PUBLICIP', 'FLANNELD_PUBLIC_IP'],
  ['FLANNEL_ETCD_ENDPOINTS', 'FLANNELD_ETCD_ENDPOINTS'],
  ['OVERLAYD_ETCD_ENDPOINTS', 'FLANNELD_ETCD_ENDPOINTS'],
  ['OVERLAYD_IFACE', 'FLANNELD_IFACE'],
])('%s is warned about, and %s is suggested', async (name, meant) => {
  const [warning = '', ...more] = await warningsOf({ [name]: 'hunter2' })
  expect(more).toEqual([])
  expect(warning).toContain(`the variable ${name} `)
  expect(warning).toContain(`did you mean ${meant}?`)
  expect(warning).not.toContain('hunter2')
})

test('a variable that resembles no other is warned about too', async () => {
  expect(await warningsOf({ FLANNELD_XYZZYPLUGH: '1' })).toEqual([
    expect.stringMatching(/^the variable FLANNELD_XYZZYPLUGH is not one of overlayd's.*--help/),
  ])
})

test.each([
  [{ FLANNELD_ETCD_ENDPOINTS: 'http://a:1', FLANNELD_V: '1', FLANNELD_IFACE: '' }],
  [{ FLANNELD_ETCD_ENDPOINT: '' }],
  [
    {
      FLANNEL_NETWORK: 'x',
      FLANNEL_SUBNET: 'x',
      FLANNEL_MTU: 'x',
      FLANNEL_IPMASQ: 'x',
      FLANNEL_IPV6_SUBNET: 'x',
    },
  ],
  [{ FLANNELD_SERVICE_HOST: '10.0.0.1', FLANNELD_PORT: 'tcp://10.0.0.1:1', FLANNELD_PORT_1_TCP_ADDR: 'x' }],
  [{ OVERLAYD_BUILD: '.', OVERLAYD_FUZZ_RUNS: '1', FLANNEL_OPTIONS: '-iface=eth0', PATH: '/bin', HOME: '/' }],
])('%j causes no warning', async (env) => expect(await warningsOf(env)).toEqual([]))

test('a misspelled variable causes no warning if its option is set otherwise', async () => {
  const env = { FLANNEL_ETCD_ENDPOINTS: 'http://a:1' }
  expect(await warningsOf(env, '--etcd-endpoints=http://a:1')).toEqual([])
  expect(await warningsOf({ ...env, FLANNELD_ETCD_ENDPOINTS: 'http://a:1' })).toEqual([])
})

test("flannel's unsupported variables are known, and a thousand variables cause few warnings", async () => {
  expect(await warningsOf({ FLANNELD_KUBE_API_URL: 'x' })).toEqual([
    expect.stringContaining('flannel flags without effect in overlayd'),
  ])
  const many = Object.fromEntries(Array.from({ length: 1000 }, (_, i) => [`FLANNELD_QQ${i}`, 'x']))
  expect((await warningsOf(many)).length).toBeLessThan(30)
})

test('a password among the flags causes a warning', async () => {
  const warnings = await warningsOf({}, '--etcd-password=hunter2')
  expect(warnings).toEqual([expect.stringContaining('FLANNELD_ETCD_PASSWORD')])
  expect(warnings.join()).not.toContain('hunter2')
})
