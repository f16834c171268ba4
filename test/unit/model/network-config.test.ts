import { formatIp, formatPrefix } from '../../../src/model/address'
import {
  ConfigError,
  parseNetworkConfig,
  type SubnetRange,
  subnetRanges,
} from '../../../src/model/network-config'

const parse = (fields: object) =>
  parseNetworkConfig(JSON.stringify({ Backend: { Type: 'vxlan' }, ...fields }))

const range = (fields: object): string => {
  const describe = ({ network, subnetLength, subnetMin, subnetMax }: SubnetRange): string =>
    `${formatPrefix(network)} /${subnetLength} ${formatIp(subnetMin)} ${formatIp(subnetMax)}`
  return subnetRanges(parse(fields)).map(describe).join(', ')
}

test.each([
  [{ Network: '10.5.0.0/16' }, '10.5.0.0/16 /24 10.5.1.0 10.5.255.0'],
  [{ Network: '10.3.0.0/24' }, '10.3.0.0/24 /26 10.3.0.64 10.3.0.192'],
  [{ Network: '10.3.0.0/22' }, '10.3.0.0/22 /24 10.3.1.0 10.3.3.0'],
  [{ Network: '10.3.0.0/28' }, '10.3.0.0/28 /30 10.3.0.4 10.3.0.12'],
  [{ Network: '10.5.77.3/16' }, '10.5.0.0/16 /24 10.5.1.0 10.5.255.0'],
  [{ Network: '10.0.0.0/8', SubnetLen: 28 }, '10.0.0.0/8 /28 10.0.0.16 10.255.255.240'],
  [{ Network: '10.5.0.0/16', SubnetLen: 0 }, '10.5.0.0/16 /24 10.5.1.0 10.5.255.0'],
  [
    { Network: '10.5.0.0/16', SubnetMin: '10.5.0.0', SubnetMax: '10.5.9.0' },
    '10.5.0.0/16 /24 10.5.0.0 10.5.9.0',
  ],
  [{ network: '10.5.0.0/16', SUBNETLEN: 25 }, '10.5.0.0/16 /25 10.5.0.128 10.5.255.128'],
  [
    { Network: '10.5.0.0/16', SubnetLen: null, SubnetMin: null, Unknown: 1 },
    '10.5.0.0/16 /24 10.5.1.0 10.5.255.0',
  ],
  [
    { Network: '10.5.0.0/16', enableIPv6: true, ipv6network: 'FD00:5:0::7/48' },
    '10.5.0.0/16 /24 10.5.1.0 10.5.255.0, fd00:5::/48 /64 fd00:5:0:1:: fd00:5:0:ffff::',
  ],
  [
    { EnableIPv4: false, EnableIPv6: true, IPv6Network: 'fd00:10:244::/56' },
    'fd00:10:244::/56 /64 fd00:10:244:1:: fd00:10:244:ff::',
  ],
  [
    { EnableIPv4: false, EnableIPv6: true, IPv6Network: 'fd00::/120', IPv6SubnetLen: 124 },
    'fd00::/120 /124 fd00::10 fd00::f0',
  ],
  [
    { EnableIPv4: false, EnableIPv6: true, IPv6Network: 'fd00::/63' },
    'fd00::/63 /65 fd00::8000:0:0:0 fd00:0:0:1:8000::',
  ],
  [
    {
      EnableIPv4: false,
      EnableIPv6: true,
      IPv6Network: 'fd00:5::/48',
      IPv6SubnetMin: 'fd00:5::',
      IPv6SubnetMax: 'fd00:5:0:9::',
    },
    'fd00:5::/48 /64 fd00:5:: fd00:5:0:9::',
  ],
])('%j leases %s', (fields, expected) => expect(range(fields)).toBe(expected))

test('the backend has flannel’s defaults', () => {
  expect(parse({ Network: '10.5.0.0/16' }).backend).toEqual({
    vni: 1,
    port: undefined,
    mtu: undefined,
    gbp: false,
    learning: false,
    directRouting: false,
  })
})

test('the backend’s fields are read in any case; port 0 is the kernel’s default', () => {
  const Backend = {
    type: 'VXLAN',
    vni: 7,
    PORT: 0,
    mtu: 9000,
    GBP: true,
    learning: true,
    directrouting: true,
  }
  expect(parse({ Network: '10.5.0.0/16', Backend }).backend).toEqual({
    vni: 7,
    port: undefined,
    mtu: 9000,
    gbp: true,
    learning: true,
    directRouting: true,
  })
})

test.each([
  [{}, 'Network is missing'],
  [{ Network: '' }, 'Network: "" is not an IPv4 network'],
  [{ Network: 5 }, 'Network'],
  [{ Network: 'fd00::/48' }, 'is not an IPv4 network'],
  [{ Network: '10.5.0.0/16', SubnetLen: 31 }, 'SubnetLen 31 is too long'],
  [{ Network: '10.5.0.0/16', SubnetLen: 17 }, 'SubnetLen 17 is too short'],
  [{ Network: '10.5.0.0/16', SubnetLen: -1 }, 'SubnetLen'],
  [{ Network: '10.5.0.0/16', SubnetLen: '24' }, 'SubnetLen'],
  [{ Network: '10.5.0.0/29' }, 'too small'],
  [{ Network: '10.5.0.0/16', SubnetMin: '10.6.0.0' }, 'SubnetMin 10.6.0.0 is outside'],
  [{ Network: '10.5.0.0/16', SubnetMax: '10.6.0.0' }, 'SubnetMax 10.6.0.0 is outside'],
  [{ Network: '10.5.0.0/16', SubnetMin: '10.5.1.7' }, 'not the first address of a /24'],
  [{ Network: '10.5.0.0/16', SubnetMin: '' }, 'SubnetMin: "" is not an IPv4 address'],
  [{ Network: '10.5.0.0/16', SubnetMin: '10.5.9.0', SubnetMax: '10.5.8.0' }, 'is above SubnetMax'],
  [{ Network: '10.5.0.0/16', EnableIPv6: true }, 'IPv6Network is missing'],
  [{ EnableIPv4: false, EnableIPv6: true, IPv6Network: '10.5.0.0/16' }, 'is not an IPv6 network'],
  [{ EnableIPv4: false, EnableIPv6: true, IPv6Network: 'fd00::/125' }, 'too small'],
  [{ EnableIPv4: false, EnableIPv6: true, IPv6Network: 'fd00::/48', IPv6SubnetLen: 127 }, 'too long'],
  [{ EnableIPv4: false, EnableIPv6: true, IPv6Network: 'fd00::/48', IPv6SubnetLen: 49 }, 'too short'],
  [
    { EnableIPv4: false, EnableIPv6: true, IPv6Network: 'fd00::/48', IPv6SubnetMin: 'fd01::' },
    'IPv6SubnetMin fd01:: is outside IPv6Network',
  ],
  [{ Network: '10.5.0.0/16', EnableIPv4: false }, 'EnableIPv4 is false'],
  [{ Network: '10.5.0.0/16', Backend: undefined }, 'Backend is missing'],
  [{ Network: '10.5.0.0/16', Backend: {} }, 'Backend.Type is ""'],
  [{ Network: '10.5.0.0/16', Backend: { Type: 'udp' } }, 'Backend.Type is "udp"'],
  [{ Network: '10.5.0.0/16', Backend: 'vxlan' }, 'Backend cannot be read'],
  [{ Network: '10.5.0.0/16', Backend: { Type: 'vxlan', VNI: '1' } }, 'VNI'],
  [{ Network: '10.5.0.0/16', Backend: { Type: 'vxlan', VNI: 16777216 } }, 'VNI'],
  [{ Network: '10.5.0.0/16', Backend: { Type: 'vxlan', Port: 65536 } }, 'Port'],
  [{ Network: '10.5.0.0/16', Backend: { Type: 'vxlan', MTU: 0 } }, 'MTU'],
  [{ Network: '10.5.0.0/16', Backend: { Type: 'vxlan', Multicast: 'yes' } }, 'Multicast'],
  [
    { Network: '10.5.0.0/16', Backend: { Type: 'vxlan', Multicast: true, MulticastVNI: 1 } },
    'so is Backend.VNI',
  ],
  [{ Network: '10.5.0.0/16', Backend: { Type: 'vxlan', Multicast: true, MulticastVNI: 0 } }, 'MulticastVNI'],
  [
    { Network: '10.5.0.0/16', Backend: { Type: 'vxlan', Multicast: true, VNI: 8388608 } },
    'leaves no VNI for multicast',
  ],
  ...[0, -1, 1.5, 1_000_001, '50'].map((MulticastLimit): [object, string] => [
    { Network: '10.5.0.0/16', Backend: { Type: 'vxlan', Multicast: true, MulticastLimit } },
    'Backend is not valid: MulticastLimit: ',
  ]),
])('%j is refused: %s', (fields, message) => {
  const error = thrownBy(() => parse(fields))
  expect(error.message).toContain(message)
  expect(error.fix).not.toBe('')
})

test('multicast has no limit, or one of choice, where there is multicast', () => {
  const limit = (fields: object) =>
    parse({ Network: '10.5.0.0/16', Backend: { Type: 'vxlan', ...fields } }).backend.multicastLimit
  expect(limit({ Multicast: true })).toBeUndefined()
  expect(limit({ Multicast: true, MulticastLimit: 50 })).toBe(50)
  expect(limit({ Multicast: true, multicastlimit: 1_000_000 })).toBe(1_000_000)
  expect(limit({ MulticastLimit: 50 })).toBeUndefined()
})

test('multicast is off, has a VNI that follows from the other, or one of choice; to flannel none of it says anything', () => {
  const multicast = (fields: object) =>
    parse({ Network: '10.5.0.0/16', Backend: { Type: 'vxlan', ...fields } }).backend.multicast
  expect(multicast({})).toBeUndefined()
  expect(multicast({ Multicast: false, MulticastVNI: 7 })).toBeUndefined()
  expect(multicast({ Multicast: true })).toBe(8388609)
  expect(multicast({ multicast: true, VNI: 8388700 })).toBe(92)
  expect(multicast({ Multicast: true, MulticastVNI: 7 })).toBe(7)
  const plain = parse({ Network: '10.5.0.0/16', Backend: { Type: 'vxlan' } })
  const asked = parse({ Network: '10.5.0.0/16', Backend: { Type: 'vxlan', Multicast: true } })
  expect({ ...asked, backend: { ...asked.backend, multicast: undefined } }).toEqual(plain)
})

test.each(['', '{', 'null', '[]', '"x"', '7'])('%j is no config', (text) => {
  expect(thrownBy(() => parseNetworkConfig(text)).message).toContain('the network config cannot be read')
})

function thrownBy(act: () => unknown): ConfigError {
  try {
    act()
  } catch (error) {
    if (error instanceof ConfigError) return error
    throw error
  }
  throw new Error('nothing was thrown')
}
