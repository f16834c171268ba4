import { dockerOptions } from '../../../src/plan/docker-options'

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
])('%s, it is flannel’s text', (_, variables, request, text) => {
  expect(dockerOptions(variables, request)).toEqual({ text })
})

test('who masquerades is turned round, and only true and false can be', () => {
  expect(dockerOptions({ FLANNEL_IPMASQ: 'false' }, { ...all, combined: true }).text).toContain(
    '--ip-masq=true',
  )
  expect(dockerOptions({ FLANNEL_IPMASQ: 'yes' }, all).problem).toContain('"yes"')
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
  ])('%s', (_, request, text) => expect(dockerOptions(input, request)).toEqual({ text }))
})

test('only the IPv4 half of subnet.env counts', () => {
  const dual = { ...env, FLANNEL_IPV6_NETWORK: 'fd00:5::/48', FLANNEL_IPV6_SUBNET: 'fd00:5:0:37::1/64' }
  expect(dockerOptions(dual, all)).toEqual(dockerOptions(env, all))
  const { FLANNEL_SUBNET: _, ...without } = env
  expect(dockerOptions(without, { ...all, combined: true }).text).toBe(
    'DOCKER_OPTS=" --ip-masq=false --mtu=1450"\n',
  )
})

test('what the file says counts more than an option of the same name that was there', () => {
  expect(dockerOptions({ DOCKER_OPT_BIP: '--bip=none', ...env }, all)).toEqual(dockerOptions(env, all))
})
