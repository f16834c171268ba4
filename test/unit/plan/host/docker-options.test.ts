import fc from 'fast-check'
import { dockerOptions } from '../../../../src/plan/host/docker-options'
import { anyUnicode } from '../../support/text'
import { net, net6 } from '../support'

const env = {
  FLANNEL_NETWORK: '10.1.0.0/16',
  FLANNEL_SUBNET: '10.1.74.1/24',
  FLANNEL_MTU: '1450',
  FLANNEL_IPMASQ: 'true',
}
const all = { individual: false, combined: false, key: 'DOCKER_OPTS', ipMasq: true }

const BIP = 'DOCKER_OPT_BIP="--bip=10.1.74.1/24"\n'
const MASQ = 'DOCKER_OPT_IPMASQ="--ip-masq=false"\n'
const MTU = 'DOCKER_OPT_MTU="--mtu=1450"\n'
const COMBINED = 'DOCKER_OPTS=" --bip=10.1.74.1/24 --ip-masq=false --mtu=1450"\n'

test.each([
  ['by default', env, all, BIP + MASQ + MTU + COMBINED],
  ['-i -c', env, { ...all, individual: true, combined: true }, BIP + MASQ + MTU + COMBINED],
  ['-i', env, { ...all, individual: true }, BIP + MASQ + MTU],
  ['-c', env, { ...all, combined: true }, COMBINED],
  ['-k K', env, { ...all, key: 'K' }, BIP + MASQ + MTU + COMBINED.replace('DOCKER_OPTS', 'K')],
  ['-m', env, { ...all, ipMasq: false }, `${BIP}${MTU}DOCKER_OPTS=" --bip=10.1.74.1/24 --mtu=1450"\n`],
  [
    'with what Docker had',
    { ...env, DOCKER_OPTS: '--debug' },
    { ...all, combined: true },
    COMBINED.replace('=" ', '="--debug  '),
  ],
  ['with other options', { DOCKER_OPT_X: '-x' }, all, 'DOCKER_OPT_X="-x"\nDOCKER_OPTS=" -x"\n'],
  ['without a file', {}, all, 'DOCKER_OPTS=""\n'],
])('%s: the text is flannel’s', (_, variables, request, text) => {
  expect(dockerOptions(variables, request)).toEqual({ ok: true, value: text })
})

test('the value of --ip-masq is inverted, and only true and false are valid', () => {
  expect(dockerOptions({ FLANNEL_IPMASQ: 'false' }, { ...all, combined: true }).value).toContain(
    '--ip-masq=true',
  )
  expect(dockerOptions({ FLANNEL_IPMASQ: 'yes' }, all).problem?.text).toContain('"yes"')
  expect(dockerOptions({ FLANNEL_IPMASQ: 'yes' }, { ...all, ipMasq: false }).problem).toBeUndefined()
})

describe('flannel’s own cases (dist/mk_docker_opts_test.go)', () => {
  const input = {
    FLANNEL_NETWORK: '10.1.0.0/16',
    FLANNEL_SUBNET: '10.1.74.1/24',
    FLANNEL_MTU: '1472',
    FLANNEL_IPMASQ: 'false',
  }
  const lines =
    'DOCKER_OPT_BIP="--bip=10.1.74.1/24"\nDOCKER_OPT_IPMASQ="--ip-masq=true"\nDOCKER_OPT_MTU="--mtu=1472"\n'
  const value = '" --bip=10.1.74.1/24 --ip-masq=true --mtu=1472"\n'

  test.each([
    ['default', all, `${lines}DOCKER_OPTS=${value}`],
    ['-i', { ...all, individual: true }, lines],
    ['-c', { ...all, combined: true }, `DOCKER_OPTS=${value}`],
    ['-k CUSTOM_KEY', { ...all, key: 'CUSTOM_KEY' }, `${lines}CUSTOM_KEY=${value}`],
    [
      '-m',
      { ...all, ipMasq: false },
      `${lines}DOCKER_OPTS=${value}`
        .replace('DOCKER_OPT_IPMASQ="--ip-masq=true"\n', '')
        .replace(' --ip-masq=true', ''),
    ],
  ])('%s', (_, request, text) => expect(dockerOptions(input, request)).toEqual({ ok: true, value: text }))
})

test('only the IPv4 values of subnet.env count', () => {
  const dual = { ...env, FLANNEL_IPV6_NETWORK: 'fd00:5::/48', FLANNEL_IPV6_SUBNET: 'fd00:5:0:37::1/64' }
  expect(dockerOptions(dual, all)).toEqual(dockerOptions(env, all))
  const { FLANNEL_SUBNET: _, ...without } = env
  expect(dockerOptions(without, { ...all, combined: true }).value).toBe(
    'DOCKER_OPTS=" --ip-masq=false --mtu=1450"\n',
  )
})

test('the subnet in the file overrides an option of the same name', () => {
  expect(dockerOptions({ DOCKER_OPT_BIP: '--bip=none', ...env }, all)).toEqual(dockerOptions(env, all))
})

test.each([
  ['FLANNEL_SUBNET', '10.5.7.1/24 --authorization-plugin=x'],
  ['FLANNEL_SUBNET', '10.5.7.1/24"\nLD_PRELOAD=/tmp/x.so\n"'],
  ['FLANNEL_SUBNET', '10.5.7.1'],
  ['FLANNEL_SUBNET', '10.5.7.1/33'],
  ['FLANNEL_SUBNET', 'fd00::1/64'],
  ['FLANNEL_SUBNET', '10.5.7.1/24\u202e'],
  ['FLANNEL_MTU', '1450 -H tcp://0.0.0.0'],
  ['FLANNEL_MTU', '0x5aa'],
  ['FLANNEL_MTU', '67'],
  ['FLANNEL_MTU', '65536'],
  ['FLANNEL_MTU', '-1'],
  ['FLANNEL_MTU', '1450\n'],
  ['FLANNEL_IPMASQ', 'true --debug'],
  ['FLANNEL_IPMASQ', 'constructor'],
])('%s=%j is refused', (name, value) => {
  const { ok, problem } = dockerOptions({ ...env, [name]: value }, all)
  expect(ok).toBe(false)
  expect(problem?.text).toContain(name)
})

test('a quoted value stays one value, for a shell and for systemd', () => {
  const { value: text = '' } = dockerOptions({ DOCKER_OPTS: 'a"b\\c$d`e' }, { ...all, combined: true })
  expect(text).toBe('DOCKER_OPTS="a\\"b\\\\c\\$d\\`e "\n')
})

test('for any file each line has the form of ours', () => {
  const value = fc.oneof(
    anyUnicode,
    anyUnicode.map((text) => `10.5.7.1/24${text}`),
    fc.constantFrom('10.5.7.1/24', '1450', 'true'),
  )
  const names = ['FLANNEL_SUBNET', 'FLANNEL_MTU', 'FLANNEL_IPMASQ', 'FLANNEL_NETWORK', 'LD_PRELOAD', 'PATH']
  fc.assert(
    fc.property(fc.dictionary(fc.constantFrom(...names), value), (variables) => {
      const { ok, value: text = '' } = dockerOptions(variables, all)
      if (!ok) return
      for (const line of text.trimEnd().split('\n'))
        expect(line).toMatch(
          /^(?:DOCKER_OPT_(?:BIP|MTU|IPMASQ)|DOCKER_OPTS)="(?: ?--(?:bip=[\d.]+\/\d+|mtu=\d+|ip-masq=(?:true|false)))* ?"$/,
        )
    }),
  )
})

describe('a subnet that is shared out', () => {
  const docker = (major: number) => ({ text: `${major}.0.1`, major })
  const shared = { ...all, individual: true, networks: { length: 26, docker: docker(28) } }
  const BIP26 = 'DOCKER_OPT_BIP="--bip=10.1.74.1/26"\n'
  const POOL =
    'DOCKER_OPT_POOL="--default-address-pool=base=10.1.74.64/26,size=26 ' +
    '--default-address-pool=base=10.1.74.128/25,size=26"\n'
  const MTU_DEFAULT = '--default-network-opt=bridge=com.docker.network.driver.mtu=1450'
  const MASQ_DEFAULT = '--default-network-opt=bridge=com.docker.network.bridge.enable_ip_masquerade=false'
  const NETWORK = `DOCKER_OPT_NETWORK="${MTU_DEFAULT} ${MASQ_DEFAULT}"\n`

  test.each([
    ['with Docker 28', env, shared, BIP26 + MASQ + MTU + NETWORK + POOL],
    [
      'with Docker 23',
      env,
      { ...shared, networks: { length: 26, docker: docker(23) } },
      BIP26 + MASQ + MTU + POOL,
    ],
    [
      'with a Docker that is not known',
      env,
      { ...shared, networks: { length: 26, docker: undefined } },
      BIP26 + MASQ + MTU + POOL,
    ],
    [
      'where Docker masquerades',
      { ...env, FLANNEL_IPMASQ: 'false' },
      shared,
      [BIP26, MASQ.replace('false', 'true'), MTU, `DOCKER_OPT_NETWORK="${MTU_DEFAULT}"\n`, POOL].join(''),
    ],
    [
      'without --ip-masq',
      env,
      { ...shared, ipMasq: false },
      `${BIP26}${MTU}DOCKER_OPT_NETWORK="${MTU_DEFAULT}"\n${POOL}`,
    ],
    ['without a file', {}, shared, ''],
  ])('%s', (_, variables, request, text) => {
    expect(dockerOptions(variables, request)).toEqual({ ok: true, value: text })
  })

  test('further subnets are pools too, and nothing is different without them', () => {
    const further = ['10.1.243.0/24', '10.1.244.128/26', '10.1.245.0/27'].map(net)
    const { value = '' } = dockerOptions(env, { ...shared, networks: { ...shared.networks, further } })
    expect(value).toContain(
      `${POOL.slice(0, -2)} --default-address-pool=base=10.1.243.0/24,size=26 ` +
        '--default-address-pool=base=10.1.244.128/26,size=26"\n',
    )
    expect(value).not.toContain('10.1.245.0')
    const none = dockerOptions(env, { ...shared, networks: { ...shared.networks, further: [] } })
    expect(none).toEqual(dockerOptions(env, shared))
    const dual = { ...env, FLANNEL_IPV6_NETWORK: 'fd00:5::/48', FLANNEL_IPV6_SUBNET: 'fd00:5:0:37::1/64' }
    const six = { ...shared, networks: { ...shared.networks, further: [net6('fd00:5:0:8007::/64')] } }
    expect(dockerOptions(dual, six).value).toContain('base=fd00:5:0:8007::/64,size=66')
    expect(dockerOptions(env, six)).toEqual(dockerOptions(env, shared))
  })

  test('IPv6 has as many parts', () => {
    const dual = { ...env, FLANNEL_IPV6_NETWORK: 'fd00:5::/48', FLANNEL_IPV6_SUBNET: 'fd00:5:0:37::1/64' }
    const { value } = dockerOptions(dual, shared)
    expect(value).toContain('DOCKER_OPT_IPV6="--ipv6 --fixed-cidr-v6=fd00:5:0:37::/66"\n')
    expect(value).toContain('--default-address-pool=base=fd00:5:0:37:4000::/66,size=66')
    expect(value).toContain('--default-address-pool=base=fd00:5:0:37:8000::/65,size=66')
  })

  test.each([
    ['too large parts', env, 24, /"SubnetLen": 22 in the network config .* 3 networks of \/24/],
    ['larger parts than the network allows', env, 18, /^(?!.*SubnetLen).*as --networks=27$/],
    ['parts without a container', env, 31, /no room for a container/],
    ['IPv6 only', { FLANNEL_IPV6_SUBNET: 'fd00:5:0:37::1/64' }, 26, /only one of IPv6/],
    ['no room for IPv6', { ...env, FLANNEL_IPV6_SUBNET: 'fd00::1/126' }, 26, /\/24 and \/126/],
    ['text for IPv6', { ...env, FLANNEL_IPV6_SUBNET: 'fd00::1' }, 26, /FLANNEL_IPV6_SUBNET/],
  ])('%s: refused', (_, variables, length, words) => {
    const { ok, problem } = dockerOptions(variables, { ...shared, networks: { length, docker: docker(28) } })
    expect(ok).toBe(false)
    expect(problem?.text).toMatch(words)
  })
})
