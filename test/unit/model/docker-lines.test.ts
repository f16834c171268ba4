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
