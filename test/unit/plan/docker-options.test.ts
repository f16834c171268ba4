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
