import fc from 'fast-check'
import {
  decodeBySchema,
  decodeLease,
  decodeLeaseValue,
  encodeLeaseValue,
  unsignedText,
} from '../../../../src/etcd/codec/lease-codec'
import {
  type Ipv6,
  ipv4,
  type MacAddress,
  mac,
  parseIp,
  parseIpv4,
  parseIpv6,
  parseMac,
} from '../../../../src/model/address'
import { type EtcdLeaseId, LAST_SERIAL, type LeaseValue, type Revision } from '../../../../src/model/lease'
import { runs } from '../../support/runs'
import { binaryText } from '../../support/text'

/** Values that a real flanneld wrote. */
const V4_ONLY =
  '{"PublicIP":"192.168.77.11","PublicIPv6":null,"BackendType":"vxlan","BackendData":{"VNI":1,"VtepMAC":"12:f0:94:ff:1f:ad"}}'
const DUAL_STACK =
  '{"PublicIP":"192.168.77.11","PublicIPv6":"fd77::11","BackendType":"vxlan","BackendData":{"VNI":1,"VtepMAC":"12:f0:94:ff:1f:ad"},"BackendV6Data":{"VNI":1,"VtepMAC":"7e:6d:10:3f:55:0a"}}'

const v4Only: LeaseValue = {
  publicIp: ip('192.168.77.11'),
  publicIpv6: undefined,
  backendType: 'vxlan',
  vtep: { vni: 1, mac: ether('12:f0:94:ff:1f:ad') },
  vtep6: undefined,
}
const dualStack: LeaseValue = {
  ...v4Only,
  publicIpv6: ip6('fd77::11'),
  vtep6: { vni: 1, mac: ether('7e:6d:10:3f:55:0a') },
}

describe('a value', () => {
  test('is written as flannel does, byte for byte', () => {
    expect(encodeLeaseValue(v4Only)).toBe(V4_ONLY)
    expect(encodeLeaseValue(dualStack)).toBe(DUAL_STACK)
    expect(encodeLeaseValue({ ...v4Only, backendType: '', vtep: undefined })).toBe(
      '{"PublicIP":"192.168.77.11","PublicIPv6":null}',
    )
  })

  test('has the multicast VNI after all fields of flannel, and only if multicast is exchanged', () => {
    const text = V4_ONLY.replace('"}}', '","MulticastVNI":8388609}}')
    const value = { ...v4Only, vtep: { vni: 1, mac: ether('12:f0:94:ff:1f:ad'), multicast: 8388609 } }
    expect(encodeLeaseValue(value)).toBe(text)
    expect(decodeLeaseValue(text)).toEqual({ value })
    expect(decodeBySchema(text)).toEqual({ value })
  })

  test.each(['0', '16777216', '-1', '1.5', 'true', 'null', '"7"'])(
    'with MulticastVNI %s is read without multicast',
    (vni) => {
      const text = V4_ONLY.replace('"}}', `","MulticastVNI":${vni}}}`)
      expect(decodeLeaseValue(text)).toEqual({ value: v4Only })
    },
  )

  describe('with WireGuard', () => {
    const [first, second] = [`${'A'.repeat(42)}E=`, `${'b'.repeat(42)}8=`]
    const wireguard = { turn: 3, port: 51820, keys: [first, second], source: parseIp('10.0.0.7') }
    const json = `{"Turn":3,"Port":51820,"Keys":["${first}","${second}"],"Source":"10.0.0.7"}`
    const withJson = (text: string): string => V4_ONLY.replace('"}}', `","WireGuard":${text}}}`)

    test('is written last, and read the same fast and by the schema', () => {
      const value = { ...v4Only, vtep: { ...v4Only.vtep, wireguard } } as unknown as LeaseValue
      expect(encodeLeaseValue(value)).toBe(withJson(json))
      expect(decodeLeaseValue(withJson(json))).toEqual({ value })
      expect(decodeBySchema(withJson(json))).toEqual({ value })
      const loose = withJson(json.replace('"Turn":3', '"New":1,"Turn":3.0'))
      expect(decodeLeaseValue(loose)).toEqual({ value })
    })

    test('with a signature has it last; what is signed is all that stands before it, known or not', () => {
      const signature = `${'ab+/'.repeat(21)}Zg==`
      const value = { ...v4Only, vtep: { ...v4Only.vtep, wireguard }, signature } as unknown as LeaseValue
      const end = `,"Signature":"${signature}"}`
      const sign = (text: string) => text.replace(/\}$/, end)
      expect(unsignedText(value)).toBe(withJson(json))
      expect(encodeLeaseValue(value)).toBe(sign(withJson(json)))
      expect(decodeLeaseValue(sign(withJson(json)))).toEqual({ value })
      const read = (text: string) =>
        decodeLease(
          { kind: 'lease', key: '/x/subnets/10.5.1.0-24', name: '10.5.1.0-24' },
          {
            key: Buffer.from('/x/subnets/10.5.1.0-24'),
            value: Buffer.from(text),
            modRevision: 7n as Revision,
            etcdLease: '1' as EtcdLeaseId,
            createRevision: 1n as Revision,
            isNew: false,
          },
        )
      const newer = withJson(json).replace('"PublicIP"', '"Newer":[1],"PublicIP"')
      expect(read(sign(newer))).toMatchObject({ value, signed: { text: newer, signature } })
      // Only there, and only whole: anything else is no signature, and stays a field that is ignored.
      for (const text of [
        sign(withJson(json)).replace('ab+/ab', 'ab+-ab'),
        sign(withJson(json)).replace('Zg==', 'Zg='),
        `{"Signature":"${signature}",${withJson(json).slice(1)}`,
        `${sign(withJson(json))} `,
      ]) {
        expect(read(text)).not.toHaveProperty('signed')
        expect(decodeLeaseValue(text).value).toEqual({ ...value, signature: undefined })
      }
    })

    test('with a serial has it before the signature, which covers it', () => {
      const signature = `${'ab+/'.repeat(21)}Zg==`
      const serial = 1_767_312_000_000
      const value = { ...v4Only, serial, signature } as unknown as LeaseValue
      const text = V4_ONLY.replace(/\}$/, `,"Serial":${serial},"Signature":"${signature}"}`)
      expect(encodeLeaseValue(value)).toBe(text)
      expect(decodeLeaseValue(text)).toEqual({ value })
      expect(unsignedText(value)).toBe(V4_ONLY.replace(/\}$/, `,"Serial":${serial}}`))
      const lease = decodeLease(
        { kind: 'lease', key: '/x/subnets/10.5.1.0-24', name: '10.5.1.0-24' },
        {
          key: Buffer.from('/x/subnets/10.5.1.0-24'),
          value: Buffer.from(text),
          modRevision: 7n as Revision,
          etcdLease: '1' as EtcdLeaseId,
          createRevision: 1n as Revision,
          isNew: false,
        },
      )
      expect(lease).toMatchObject({ signed: { text: unsignedText(value), signature, serial } })
    })

    test.each(['0', '-1', '1.5', '8640000000000001', '99999999999999999', '"7"', 'null', 'true'])(
      'with Serial %s is read as without one',
      (serial) => {
        const text = V4_ONLY.replace(/\}$/, `,"Serial":${serial}}`)
        expect(decodeLeaseValue(text)).toEqual({ value: v4Only })
        expect(decodeBySchema(text)).toEqual({ value: v4Only })
      },
    )

    test.each([
      ['null'],
      ['{}'],
      [json.replace('"Turn":3', '"Turn":-1')],
      [json.replace('"Turn":3', '"Turn":2147483648')],
      [json.replace('51820', '65535')],
      [json.replace(second, first)],
      [json.replace(second, `${'A'.repeat(43)}=`)],
      [json.replace(second, `${'b'.repeat(42)}9=`)],
      [json.replace(`,"${second}"`, '')],
      [json.replace('10.0.0.7', '10.0.0.256')],
    ])('that is %s is read as without WireGuard', (text) => {
      expect(decodeLeaseValue(withJson(text))).toEqual({ value: v4Only })
      expect(decodeBySchema(withJson(text))).toEqual({ value: v4Only })
    })
  })

  test('of flannel is read', () => {
    expect(decodeLeaseValue(V4_ONLY)).toEqual({ value: v4Only })
    expect(decodeLeaseValue(DUAL_STACK)).toEqual({ value: dualStack })
  })

  test("is read by the rules of Go's encoding/json", () => {
    const loose =
      ' {"publicip":"1.1.1.1","PUBLICIP":"192.168.77.11","New":{"a":[1]},"backendTYPE":"vxlan","backenddata":{"vni":1,"VTEPMAC":"12F0.94FF.1FAD"}}\n'
    expect(decodeLeaseValue(loose)).toEqual({ value: v4Only })
  })

  test.each([
    ['no type', '{"PublicIP":"192.168.77.11"}', ''],
    ['a null type', '{"PublicIP":"192.168.77.11","BackendType":null}', ''],
    ['the type in another case', V4_ONLY.replace('vxlan', 'VXLAN'), 'VXLAN'],
    [
      'another backend',
      '{"PublicIP":"192.168.77.11","BackendType":"host-gw","BackendData":"any"}',
      'host-gw',
    ],
  ])('with %s is read without a VTEP', (_, text, backendType) => {
    expect(decodeLeaseValue(text)).toEqual({ value: { ...v4Only, backendType, vtep: undefined } })
  })

  test.each([
    'null',
    '[]',
    '{}',
    '{"VNI":1}',
    '{"VNI":1,"VtepMAC":""}',
    '{"VNI":1,"VtepMAC":"12:f0:94:ff:1f"}',
    '{"VNI":1,"VtepMAC":"12:f0:94:ff:1f:ad:00:01"}',
    '{"VNI":-1,"VtepMAC":"12:f0:94:ff:1f:ad"}',
    '{"VNI":1.5,"VtepMAC":"12:f0:94:ff:1f:ad"}',
    '{"VNI":4294967296,"VtepMAC":"12:f0:94:ff:1f:ad"}',
    '{"VNI":"1","VtepMAC":"12:f0:94:ff:1f:ad"}',
  ])('with BackendData %s still holds its subnet, without a VTEP', (data) => {
    const text = `{"PublicIP":"192.168.77.11","BackendType":"vxlan","BackendData":${data}}`
    expect(decodeLeaseValue(text)).toEqual({ value: { ...v4Only, vtep: undefined } })
  })

  test('without a VNI has VNI 0, as in Go', () => {
    const text =
      '{"PublicIP":"192.168.77.11","BackendType":"vxlan","BackendData":{"VtepMAC":"12:f0:94:ff:1f:ad"}}'
    expect(decodeLeaseValue(text).value?.vtep?.vni).toBe(0)
  })

  test('with IPv4 text for IPv6 is taken as the mapped address', () => {
    const text = '{"PublicIP":"192.168.77.11","PublicIPv6":"1.2.3.4"}'
    expect(decodeLeaseValue(text).value?.publicIpv6).toBe(ip6('::ffff:1.2.3.4'))
  })

  test.each([
    ['{"BackendType":"vxlan"}', 'the value has no PublicIP'],
    ['{"PublicIP":null}', 'the value is not valid: PublicIP: Invalid input: expected string, received null'],
    ['{"PublicIP":7}', 'the value is not valid: PublicIP: Invalid input: expected string, received number'],
    ['{"PublicIP":""}', 'the value is not valid: PublicIP: "" is not an IPv4 address'],
    ['{"PublicIP":"fd77::11"}', 'the value is not valid: PublicIP: "fd77::11" is not an IPv4 address'],
    [
      '{"PublicIP":"1.2.3.4","PublicIPv6":"x"}',
      'the value is not valid: PublicIPv6: "x" is not an IP address',
    ],
    [
      '{"PublicIP":"1.2.3.4","BackendType":1}',
      'the value is not valid: BackendType: Invalid input: expected string, received number',
    ],
    ['null', 'the value is not a JSON object: expected a JSON object, found null'],
    ['[1]', 'the value is not a JSON object: expected a JSON object, found [1]'],
    ['', 'the value is not a JSON object: line 1, column 1: the text is empty'],
    [`${V4_ONLY}x`, expect.stringContaining('the value is not a JSON object: ')],
  ])('%s is refused', (text, reason) => expect(decodeLeaseValue(text)).toEqual({ reason }))

  test('is refused with a reason that is short and safe on a terminal, whatever it contains', () => {
    for (const text of [
      '\u001b[2J',
      '{"PublicIP":"\u009b2J"}',
      'x'.repeat(1e6),
      `{"PublicIP":"${'\\u001b'.repeat(1000)}"}`,
    ]) {
      const { reason } = decodeLeaseValue(text)
      expect(reason).toMatch(/^[^\p{Cc}]{1,350}$/u)
    }
  })

  test('that is nested too deeply for the stack is refused', () => {
    const text = `{"PublicIP":"1.2.3.4","BackendData":${'['.repeat(200_000)}`
    expect(decodeLeaseValue(text).reason).toContain('the value is not a JSON object')
  })

  test('is the same after writing and reading', () => {
    const vtep = fc.record({
      vni: fc.nat({ max: 0xffffffff }),
      mac: fc.nat({ max: 2 ** 48 - 1 }).map((bits): MacAddress => mac(bits)),
    })
    const plain: fc.Arbitrary<LeaseValue> = fc.record({
      publicIp: fc.nat({ max: 0xffffffff }).map(ipv4),
      publicIpv6: fc.option(
        fc.bigInt({ min: 0n, max: 2n ** 128n - 1n }).map((bits) => bits as Ipv6),
        { nil: undefined },
      ),
      backendType: fc.constant('vxlan'),
      vtep: fc.option(vtep, { nil: undefined }),
      vtep6: fc.option(vtep, { nil: undefined }),
    })
    const serial = fc.option(fc.integer({ min: 1, max: LAST_SERIAL }), { nil: undefined })
    const value = fc
      .tuple(plain, serial)
      .map(([lease, number]): LeaseValue => (number === undefined ? lease : { ...lease, serial: number }))
    fc.assert(
      fc.property(value, (lease) =>
        expect(decodeLeaseValue(encodeLeaseValue(lease))).toEqual({ value: lease }),
      ),
    )
  })

  test('of any text or JSON is read, or refused with a reason', () => {
    const anything = fc.oneof(
      binaryText(),
      fc.json(),
      fc
        .record(
          {
            PublicIP: fc.anything(),
            PublicIPv6: fc.anything(),
            BackendType: fc.anything(),
            BackendData: fc.anything(),
            Serial: fc.anything(),
          },
          { requiredKeys: [] },
        )
        .map(
          (fields) =>
            JSON.stringify(fields, (_, field: unknown) =>
              typeof field === 'bigint' ? String(field) : field,
            ) ?? '',
        ),
    )
    fc.assert(
      fc.property(anything, (text) => {
        const { value, reason } = decodeLeaseValue(text)
        expect((value === undefined) !== (reason === undefined)).toBe(true)
      }),
    )
  })
})

describe('a key with its value', () => {
  const read = (name: string, value: string | Buffer) => {
    const key = `/coreos.com/network/subnets/${name}`
    return decodeLease(
      { kind: 'lease', key, name },
      {
        key: Buffer.from(key),
        value: Buffer.from(value),
        modRevision: 9223372036854775807n as Revision,
        etcdLease: '7587883212297104637' as EtcdLeaseId,
        createRevision: 1n as Revision,
        isNew: false,
      },
    )
  }

  test('is a lease', () => {
    expect(read('10.5.12.0-24', V4_ONLY)).toEqual({
      key: '/coreos.com/network/subnets/10.5.12.0-24',
      subnet: { ipv4: { address: ip('10.5.12.0'), length: 24 }, ipv6: undefined },
      value: v4Only,
      etcdLease: '7587883212297104637',
      modRevision: 9223372036854775807n,
    })
  })

  test.each([
    ['10.5.12.0-24', 'garbage', expect.stringContaining('not a JSON object')],
    ['10.5.12.0-24', Buffer.from([0xff, 0xfe, 0x00]), expect.stringContaining('not a JSON object')],
    ['10.5.12.7-24', V4_ONLY, expect.stringContaining('not the first address')],
    ['10.5.12.0-24', 'x'.repeat(16_385), expect.stringContaining('16385 bytes')],
  ])('%s with %p is unreadable, with a reason', (name, value, reason) => {
    expect(read(name, value)).toEqual({
      key: `/coreos.com/network/subnets/${name}`,
      reason,
      modRevision: 9223372036854775807n,
      ...(name === '10.5.12.7-24' && { misnamed: { isNew: false } }),
    })
  })
})

function ip(text: string) {
  return parsed(parseIpv4(text))
}
function ip6(text: string) {
  return parsed(parseIpv6(text))
}
function ether(text: string) {
  return parsed(parseMac(text))
}
function parsed<T>(value: T | undefined): T {
  if (value === undefined) throw new Error('the test has a typing error in an address')
  return value
}

test('the fast reader and the schema read the same from any value that resembles flannel’s', () => {
  const nearly = fc
    .tuple(fc.constantFrom(V4_ONLY, DUAL_STACK), fc.nat(240), fc.nat(3), fc.string({ maxLength: 3 }))
    .map(([text, at, gone, more]) => text.slice(0, at) + more + text.slice(at + gone))
  const number = fc.oneof(fc.nat(300), fc.constantFrom('00', '01', '1e3', '-0', 4294967295, 4294967296))
  const key = fc
    .uint8Array({ minLength: 32, maxLength: 32 })
    .map((bytes) => Buffer.from(bytes).toString('base64'))
  const spoilt = fc.oneof(
    key,
    key.map((text) => text.replace('=', '')),
    key.map((text) => `${text.slice(0, 42)}9=`),
    fc.constant(`${'A'.repeat(43)}=`),
  )
  const encrypted = fc
    .record({
      text: fc.constantFrom(V4_ONLY, DUAL_STACK),
      turn: fc.oneof(number, fc.constantFrom(2_147_483_647, 2_147_483_648)),
      port: fc.oneof(number, fc.constantFrom(65_534, 65_535)),
      keys: fc.array(spoilt, { minLength: 1, maxLength: 3 }),
      source: fc.constantFrom(
        '',
        ',"Source":"10.0.0.1"',
        ',"Source":"10.0.0.256"',
        ',"Source":"fd77::1"',
        ',"X":1',
      ),
    })
    .map(({ text, turn, port, keys, source }) => {
      const wireguard = `{"Turn":${turn},"Port":${port},"Keys":${JSON.stringify(keys)}${source}}`
      return text.replaceAll('"}', `","WireGuard":${wireguard}}`)
    })
  const made = fc
    .tuple(
      fc.array(number, { minLength: 3, maxLength: 5 }),
      fc.oneof(
        fc.constant('null'),
        fc.ipV6().map((ip) => JSON.stringify(ip)),
      ),
      number,
      fc.array(fc.constantFrom('00', '0a', 'FF', 'g0', '1'), { minLength: 5, maxLength: 7 }),
    )
    .map(
      ([ip, ip6, vni, mac]) =>
        `{"PublicIP":"${ip.join('.')}","PublicIPv6":${ip6},"BackendType":"vxlan","BackendData":{"VNI":${vni},"VtepMAC":"${mac.join(':')}"}}`,
    )
  const serial = fc.oneof(number, fc.constantFrom(LAST_SERIAL, LAST_SERIAL + 1, '1.0', '"7"', 'null'))
  const numbered = fc
    .tuple(fc.oneof(made, encrypted), serial)
    .map(([text, serial]) => text.replace(/\}$/, `,"Serial":${serial}}`))
  fc.assert(
    fc.property(fc.oneof(nearly, made, encrypted, numbered), (text) => {
      expect(decodeLeaseValue(text)).toEqual(decodeBySchema(text))
    }),
    { numRuns: runs(1000), examples: [[V4_ONLY], [DUAL_STACK]] },
  )
})
