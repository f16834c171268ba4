import { formatIp, formatPrefix } from '../../../../src/model/address'
import {
  ConfigError,
  findIgnored,
  parseNetworkConfig,
  type SubnetRange,
  subnetRanges,
} from '../../../../src/model/config/network-config'
import { describeError } from '../../../../src/model/errors'

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
    { Network: '10.5.0.0/16', SubnetLen: null, IPv6SubnetMin: null, Unknown: 1 },
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
    'no VNI for multicast',
  ],
  [
    { Network: '10.5.0.0/16', Backend: { Type: 'vxlan', Encryption: 'on' } },
    'Backend is not valid: Encryption: expected off, prefer, required',
  ],
  [{ Network: '10.5.0.0/16', Backend: { Type: 'vxlan', Encryption: true } }, 'Encryption'],
  [{ Network: '10.5.0.0/16', Backend: { Type: 'vxlan', Encryption: 'Prefer' } }, 'Encryption'],
  // The second port would be 65536.
  ...[0, -1, 1.5, 65_535, '51820'].map((EncryptionPort): [object, string] => [
    { Network: '10.5.0.0/16', Backend: { Type: 'vxlan', EncryptionPort } },
    'Backend is not valid: EncryptionPort: ',
  ]),
  [
    { Network: '10.5.0.0/16', Backend: { Type: 'vxlan', Encryption: 'prefer', EncryptionPort: 8472 } },
    'Backend.EncryptionPort 8472 needs the ports 8472 and 8473, and VXLAN uses 8472',
  ],
  [
    {
      Network: '10.5.0.0/16',
      Backend: { Type: 'vxlan', Encryption: 'prefer', EncryptionPort: 8471, Port: 0 },
    },
    'Backend.EncryptionPort 8471 needs the ports 8471 and 8472, and VXLAN uses 8472',
  ],
  [
    { Network: '10.5.0.0/16', Backend: { Type: 'vxlan', Encryption: 'required', Port: 51_821 } },
    'Backend.EncryptionPort 51820 needs the ports 51820 and 51821, and VXLAN uses 51821',
  ],
  [
    { Network: '10.5.0.0/16', Backend: { Type: 'vxlan', Encryption: 'prefer', DirectRouting: true } },
    'Backend.DirectRouting sends packets in clear',
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

test('multicast has the limit of the config, or none; without multicast there is no limit', () => {
  const limit = (fields: object) =>
    parse({ Network: '10.5.0.0/16', Backend: { Type: 'vxlan', ...fields } }).backend.multicastLimit
  expect(limit({ Multicast: true })).toBeUndefined()
  expect(limit({ Multicast: true, MulticastLimit: 50 })).toBe(50)
  expect(limit({ Multicast: true, multicastlimit: 1_000_000 })).toBe(1_000_000)
  expect(limit({ MulticastLimit: 50 })).toBeUndefined()
})

test('multicast is off, or has a derived or given VNI; it changes nothing that flannel reads', () => {
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

test('encryption is off, or has a mode and two ports; it changes nothing that flannel reads', () => {
  const backend = (fields: object) =>
    parse({ Network: '10.5.0.0/16', Backend: { Type: 'vxlan', ...fields } }).backend
  const encryption = (fields: object) => backend(fields).encryption
  expect(encryption({})).toBeUndefined()
  expect(encryption({ Encryption: 'off', EncryptionPort: 7 })).toBeUndefined()
  expect(encryption({ Encryption: null })).toBeUndefined()
  expect(encryption({ Encryption: 'prefer' })).toEqual({ mode: 'prefer', port: 51820 })
  expect(encryption({ encryption: 'required', ENCRYPTIONPORT: 1 })).toEqual({ mode: 'required', port: 1 })
  expect(encryption({ Encryption: 'prefer', EncryptionPort: 65_534 })).toEqual({
    mode: 'prefer',
    port: 65534,
  })
  // One port away from a clash on both sides.
  expect(encryption({ Encryption: 'prefer', EncryptionPort: 8473 })).toBeDefined()
  expect(encryption({ Encryption: 'prefer', EncryptionPort: 8470 })).toBeDefined()
  // Where nothing is encrypted, neither a port nor direct routing is in the way.
  expect(encryption({ Encryption: 'off', EncryptionPort: 8472, DirectRouting: true })).toBeUndefined()
  expect({ ...backend({ Encryption: 'prefer' }), encryption: undefined }).toEqual(backend({}))
})

test.each(['', '{', 'null', '[]', '"x"', '7'])('%j is not a config', (text) => {
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

describe('a config that flanneld refuses is refused', () => {
  const backend = '"Backend":{"Type":"vxlan"}'
  const config = (more: string) => `{"Network":"10.5.0.0/16",${more},${backend}}`

  test.each([
    ['"SubnetLen":24.0', /SubnetLen is 24\.0 \(line 1, column 38\).*; write 24 in digits/],
    ['"SubnetLen":2.4e1', /2\.4e1/],
    ['"SubnetLen":1e3', /1e3/],
    ['"SubnetLen":"24"', /SubnetLen/],
    ['"SubnetLen":-1', /SubnetLen/],
    ['"SubnetLen":24.5,"SubnetLen":24', /24\.5/],
    ['"subnetlen":24.0', /subnetlen is 24\.0/],
    ['"SubnetMin":null', /SubnetMin is null.*leave SubnetMin out/],
    ['"SubnetMax":null', /SubnetMax is null/],
    ['"SubnetMin":""', /SubnetMin/],
    ['"SubnetMin":"10.5.1\\u002e0"', /without backslashes/],
    ['"EnableIPv4":"true"', /EnableIPv4/],
    ['"EnableIPv6":1', /EnableIPv6/],
    ['"IPv6Network":null', /IPv6Network is null/],
    ['"SubnetLen":24 // ok', /line 1, column 41: '\/' .*JSON has no comments/],
  ])('%s', (more, message) => expect(() => describeOf(config(more))).toThrow(message))

  test.each([
    ['{"Network":null,"Backend":{"Type":"vxlan"}}', /Network is null/],
    ['\ufeff{"Network":"10.5.0.0/16","Backend":{"Type":"vxlan"}}', /line 1, column 1.*BOM/],
    [
      '{"Network":"10.5.0.0/16","Backend":{"Type":"vxlan","VNI":1.0}}',
      /Backend\.VNI is 1\.0 \(line 1, column 58\)/,
    ],
    [
      '{"Network":"10.5.0.0/16","Backend":{"Type":"vxlan","MTU":1.5e3}}',
      /Backend\.MTU is 1\.5e3.*write 1500/,
    ],
    [
      '{"Network":"10.5.0.0/16","Backend":{"Type":"vxlan"},}',
      /line 1, column 53: '}' where the name .*near .*,}/,
    ],
    ['{ \u201cNetwork\u201d: \u201c10.5.0.0/16\u201d}', /column 3: '\u201c' .*typographic quote/],
    ["{'Network':'10.5.0.0/16'}", /double quotes/],
    ['{"Network": "10.0.0.0/8",   \\\n "SubnetLen": 20}', /column 29: '\\'/],
    ['{"Network":"10.5.0.0/16"', /the text ends where , or } is expected/],
    ['{"Network":"10.5.0.0/16"} {}', /'{' where the end of the text/],
    ['{"Network":"0.0.0.0/0","Backend":{"Type":"vxlan"}}', /0\.0\.0\.0/],
    ['{"Network":"127.0.0.0/8","Backend":{"Type":"vxlan"}}', /loopback/],
    ['{"Network":"127.16.0.0/16","Backend":{"Type":"vxlan"}}', /loopback/],
    ['{"Network":"64.0.0.0/2","Backend":{"Type":"vxlan"}}', /loopback/],
    ['{"Network":"224.0.0.0/8","Backend":{"Type":"vxlan"}}', /multicast/],
    [
      '{"EnableIPv4":false,"EnableIPv6":true,"IPv6Network":"ff00::/48","Backend":{"Type":"vxlan"}}',
      /multicast/,
    ],
    [
      '{"EnableIPv4":false,"EnableIPv6":true,"IPv6Network":"fe80::/48","Backend":{"Type":"vxlan"}}',
      /link-local/,
    ],
    ['{"EnableIPv4":false,"EnableIPv6":true,"IPv6Network":"::/0","Backend":{"Type":"vxlan"}}', /::/],
    [`{"Network":"10.5.0.0/16","x":"${'x'.repeat(70_000)}","Backend":{"Type":"vxlan"}}`, /65536/],
  ])('%.70s', (text, message) => expect(() => describeOf(text)).toThrow(message))

  test.each([
    '"SubnetLen":null',
    '"SubnetLen":24,"SubnetLen":null',
    '"EnableIPv6":null',
    '"IPv6SubnetMin":null',
    '"x":24.0',
    '"subnet\u017fen":1',
    '"\u017fubnetLen":24',
  ])('a config that flanneld accepts is accepted: %s', (more) => {
    expect(describeOf(config(more))).toMatchObject({ ipv4: { subnetLength: 24 } })
  })

  /** Parses a config; the message of an error includes the fix. */
  function describeOf(text: string) {
    try {
      return parseNetworkConfig(text)
    } catch (error) {
      throw new Error(describeError(error))
    }
  }
})

test.each([
  [
    '{"Network":"10.5.0.0/16","VNI":5,"Backend":{"Type":"vxlan"}}',
    [/^VNI does nothing there: .*\(Backend\.VNI\)/],
  ],
  [
    '{"Network":"10.5.0.0/16","Backend":{"Type":"vxlan","SubnetLen":25}}',
    [/^Backend\.SubnetLen does nothing there.*beside Backend \(SubnetLen\)/],
  ],
  [
    '{"Network":"10.5.0.0/16","SubnetLne":25,"Backend":{"Type":"vxlan"}}',
    [/SubnetLne is not a field.*: did you mean SubnetLen\?/],
  ],
  [
    '{"Network":"10.5.0.0/16","Backend":{"Type":"vxlan","DirectRoute":true}}',
    [/Backend\.DirectRoute .*: did you mean Backend\.DirectRouting\?/],
  ],
  [
    '{"Network":"10.5.0.0/16","qwertyuiop":1,"Backend":{"Type":"vxlan"}}',
    [/qwertyuiop .* and has no effect$/],
  ],
  [
    '{"Network":"10.4.0.0/16","network":"10.5.0.0/16","Backend":{"Type":"vxlan"}}',
    [/Network appears more than once/],
  ],
  ['{"network":"10.5.0.0/16","subnetLen":24,"backend":{"type":"vxlan","vni":3}}', []],
])('fields without effect are named: %s', (text, warnings) => {
  parseNetworkConfig(text)
  expect(findIgnored(text)).toEqual(warnings.map((each) => expect.stringMatching(each)))
})
