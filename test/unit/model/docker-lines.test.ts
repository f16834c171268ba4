import fc from 'fast-check'
import { withDockerLines } from '../../../src/model/docker-lines'
import { anyUnicode } from '../support/text'

const TEXT =
  'FLANNEL_NETWORK=10.5.0.0/16\nFLANNEL_SUBNET=10.5.7.1/24\nFLANNEL_MTU=1350\nFLANNEL_IPMASQ=false\n'

test('options of Docker stay in the file, with the new subnet and MTU', () => {
  const old =
    'FLANNEL_SUBNET=10.5.9.1/24\nDOCKER_OPT_BIP="--bip=10.5.9.1/24"\nNETWORK_OPTIONS="--debug  --bip=10.5.9.1/24 --ip-masq=false --mtu=1450"\n'
  const kept =
    'DOCKER_OPT_BIP="--bip=10.5.7.1/24"\nNETWORK_OPTIONS="--debug  --bip=10.5.7.1/24 --ip-masq=true --mtu=1350"\n'
  expect(withDockerLines(TEXT, old)).toBe(TEXT + kept)
  expect(withDockerLines(TEXT, TEXT + kept)).toBe(TEXT + kept)
})

const SHARED = [
  'DOCKER_OPT_BIP="--bip=10.5.9.1/26"',
  'DOCKER_OPT_NETWORK="--default-network-opt=bridge=com.docker.network.driver.mtu=1450 ' +
    '--default-network-opt=bridge=com.docker.network.bridge.enable_ip_masquerade=false"',
  'DOCKER_OPT_POOL="--default-address-pool=base=10.5.9.64/26,size=26 ' +
    '--default-address-pool=base=10.5.9.128/25,size=26"\n',
].join('\n')

test('a subnet that was shared out is shared out again, with all that changed', () => {
  const kept = SHARED.replaceAll('10.5.9.', '10.5.7.').replace('1450', '1350').replace('=false', '=true')
  expect(withDockerLines(TEXT, SHARED)).toBe(TEXT + kept)
})

test('the parts of a subnet of another length are of the same length', () => {
  const wider = TEXT.replace('10.5.7.1/24', '10.5.6.1/23')
  const text = withDockerLines(wider, SHARED)
  expect(text).toContain('DOCKER_OPT_BIP="--bip=10.5.6.1/26"\n')
  expect(text).toContain(
    'DOCKER_OPT_POOL="--default-address-pool=base=10.5.6.64/26,size=26 ' +
      '--default-address-pool=base=10.5.6.128/25,size=26 --default-address-pool=base=10.5.7.0/24,size=26"\n',
  )
  const smaller = withDockerLines(TEXT.replace('10.5.7.1/24', '10.5.7.65/26'), SHARED)
  expect(smaller).toContain('DOCKER_OPT_BIP="--bip=10.5.7.65/26"\n')
  expect(smaller).toContain('DOCKER_OPT_POOL=""\n')
})

test('pools of further subnets stay when the subnet is another one', () => {
  const further =
    '--default-address-pool=base=10.5.243.0/24,size=26 --default-address-pool=base=10.5.9.0/26,size=26'
  const old = SHARED.replace('128/25,size=26"', `128/25,size=26 ${further}"`)
  const text = withDockerLines(TEXT, old)
  expect(text).toContain(`base=10.5.7.128/25,size=26 ${further}"\n`)
  expect(text).not.toContain('base=10.5.9.64/26')
  expect(withDockerLines(TEXT, text)).toBe(text)
})

test('IPv6 is shared out again too', () => {
  const old =
    'DOCKER_OPTS=" --ipv6 --fixed-cidr-v6=fd00:5:0:9::/66 --default-address-pool=base=10.5.9.64/26,size=26 ' +
    '--default-address-pool=base=fd00:5:0:9:4000::/66,size=66 --debug"\n'
  const dual = `${TEXT}FLANNEL_IPV6_SUBNET=fd00:5:0:7::1/64\n`
  expect(withDockerLines(dual, old)).toBe(
    `${dual}DOCKER_OPTS=" --ipv6 --fixed-cidr-v6=fd00:5:0:7::/66 ` +
      '--default-address-pool=base=10.5.7.64/26,size=26 --default-address-pool=base=10.5.7.128/25,size=26 ' +
      '--default-address-pool=base=fd00:5:0:7:4000::/66,size=66 ' +
      '--default-address-pool=base=fd00:5:0:7:8000::/65,size=66 --debug"\n',
  )
  expect(withDockerLines(TEXT, old)).not.toContain('fd00')
})

test.each([
  'LD_PRELOAD="/tmp/x.so"\n',
  'FLANNEL_MTU="--mtu=1"\n',
  'DOCKER_OPTS="$(id)"\n',
  'DOCKER_OPTS=x\n',
  'nonsense\0\n',
  '',
])('the line %j is not kept', (content) => expect(withDockerLines(TEXT, content)).toBe(TEXT))

test('for any former content the result is bounded, and does not change when it is processed again', () => {
  fc.assert(
    fc.property(
      fc.array(
        fc.oneof(
          anyUnicode,
          anyUnicode.map((text) => `DOCKER_OPT_X="${text}"\n`),
          fc.constantFrom(...SHARED.split('\n').map((line) => `${line}\n`)),
        ),
      ),
      (parts) => {
        const once = withDockerLines(TEXT, parts.join(''))
        expect(withDockerLines(TEXT, once)).toBe(once)
        expect(once.startsWith(TEXT)).toBe(true)
        expect(once.length).toBeLessThan(20_000)
      },
    ),
  )
})
