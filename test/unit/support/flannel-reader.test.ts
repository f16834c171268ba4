import { assertReadable, assertReadableKey } from '../../support/flannel-reader'

const KEY = '/coreos.com/network/subnets/10.5.12.0-24'
const value = (changes: object = {}): string =>
  JSON.stringify({
    PublicIP: '192.168.77.11',
    PublicIPv6: null,
    BackendType: 'vxlan',
    BackendData: { VNI: 1, VtepMAC: '12:f0:94:ff:1f:ad' },
    ...changes,
  })

test.each([
  KEY,
  '/coreos.com/network/subnets/10.5.62.0-24&fd00:5:0:3e::-64',
  '/coreos.com/network/subnets/0.0.0.0-0&fd00:5:0:3e::-64',
  // The pattern is anchored at its end only.
  '/coreos.com/network/subnets-old/x10.1.2.0-24',
])('flannel reads the key %s', (key) => expect(() => assertReadableKey(key)).not.toThrow())

test.each([
  '/coreos.com/network/subnets/10.5.12.0',
  '/coreos.com/network/subnets/10.5.12.0-32',
  '/coreos.com/network/subnets/10.5.12.0-24/',
  '/coreos.com/network/subnets/10.5.012.0-24',
  '/coreos.com/network/subnets/10.5.256.0-24',
  '/coreos.com/network/subnets/10.5.12.0-24&FD00::-64',
  '/coreos.com/network/subnets/10.5.12.0-24&fd00::-128',
  '/coreos.com/network/subnets/garbage',
])('flannel does not read the key %s', (key) => expect(() => assertReadableKey(key)).toThrow('cannot read'))

test.each([
  value(),
  value({ Extra: 1 }),
  value({ PublicIPv6: 'fd77::11', BackendV6Data: { VNI: 1, VtepMAC: '7e:6d:10:3f:55:0a' } }),
  value().replace('PublicIP"', 'publicip"'),
])('flannel reads the value %s', (text) => expect(() => assertReadable(KEY, text)).not.toThrow())

test.each([
  '',
  'x',
  'null',
  '[]',
  `${value()}x`,
  value({ PublicIP: '' }),
  value({ PublicIP: null }),
  value({ PublicIP: 'fd77::11' }),
  value({ PublicIPv6: '' }),
  value({ BackendType: 'VXLAN' }),
  value({ BackendType: undefined }),
  value({ BackendData: undefined }),
  value({ BackendData: [] }),
  value({ BackendData: { VNI: -1, VtepMAC: '12:f0:94:ff:1f:ad' } }),
  value({ BackendData: { VNI: 1, VtepMAC: '' } }),
  value({ BackendV6Data: {} }),
])('flannel does not read the value %s', (text) =>
  expect(() => assertReadable(KEY, text)).toThrow('cannot read'),
)
