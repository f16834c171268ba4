/**
 * Input from outside is read, or refused with an OverlayError that has a reason, for any bytes and in bounded
 * time. `scripts/fuzz` runs these tests for long. Inputs that once failed are in `corpus.json` and are tried
 * first.
 */
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import fc from 'fast-check'
import { z } from 'zod'
import { statusSchema } from '../../../src/api/status'
import { parseEndpoints } from '../../../src/etcd/client/endpoints'
import { decodeAudit } from '../../../src/etcd/codec/audit-codec'
import { decodeGroupsValue } from '../../../src/etcd/codec/groups-codec'
import { decodeHostValue } from '../../../src/etcd/codec/host-codec'
import { etcdPrefix, keysUnder, parseSubnetName, placeOf } from '../../../src/etcd/codec/keys'
import {
  decodeLease,
  decodeLeaseValue,
  encodeLeaseValue,
  isReadable,
} from '../../../src/etcd/codec/lease-codec'
import { decodeAnnouncementValue, decodePrefix } from '../../../src/etcd/codec/prefix-codec'
import { parseIptablesSave } from '../../../src/firewall/iptables'
import { readPreviousSubnets } from '../../../src/host/subnet-env'
import { listBridges } from '../../../src/kernel/bridges/bridges'
import { decodeMembers, readMemberChanges } from '../../../src/kernel/bridges/mdb'
import { Echoes } from '../../../src/kernel/events/echoes'
import { readChanges } from '../../../src/kernel/events/events'
import { MessageCursor, MessageWriter, viewOf } from '../../../src/kernel/netlink/bytes'
import * as messages from '../../../src/kernel/netlink/messages'
import { readDone, readError } from '../../../src/kernel/netlink/replies'
import { listAddresses, replaceTable, STEP_FORMAT } from '../../../src/kernel/nftables/netfilter'
import { listTableObjects, TABLE_KINDS } from '../../../src/kernel/nftables/netfilter-objects'
import { deviceMessage, familyMessage } from '../../../src/kernel/wireguard/messages'
import { joinParts } from '../../../src/kernel/wireguard/peers'
import { parseIp, parseIpv4Prefix, parseIpv6Prefix, parseMac } from '../../../src/model/address'
import { findIgnored, parseNetworkConfig } from '../../../src/model/config/network-config'
import { isOverlayError } from '../../../src/model/errors'
import type { EtcdLeaseId, Revision } from '../../../src/model/lease'
import { parseCommandLine } from '../../../src/options/command-line'
import { parseOptions } from '../../../src/options/schema'
import { dockerOptions, SUBNET_VARIABLES } from '../../../src/plan/host/docker-options'
import { PeerTable } from '../../../src/plan/peers/peer-table'
import { hw, ip, ipv4Range, net } from '../plan/support'
import { runs } from '../support/runs'
import { binaryText } from '../support/text'
import corpus from './corpus.json'

const numRuns = runs(200)
jest.setTimeout(Math.max(10_000, numRuns))

/** Runs a function, which may throw nothing but an OverlayError. */
function oursOrNothing(act: () => unknown): void {
  try {
    act()
  } catch (error) {
    if (!isOverlayError(error)) throw error
  }
}

const anyText = binaryText({ maxLength: 200 })
/** JSON, JSON tokens in any order, and any text. */
const nearlyJson = fc.oneof(
  fc.json(),
  anyText,
  fc
    .array(
      fc.constantFrom(
        ...[
          '{',
          '}',
          '[',
          ']',
          ':',
          ',',
          '"',
          'null',
          'true',
          '1',
          '-1',
          '1e999',
          '"Network"',
          '"Backend"',
          '"Type"',
          '"vxlan"',
        ],
        ...[
          '"PublicIP"',
          '"192.168.77.11"',
          '"BackendType"',
          '"BackendData"',
          '"VtepMAC"',
          '"VNI"',
          '"__proto__"',
        ],
        ...['"10.5.0.0/16"', '"fd00::/48"', '"EnableIPv6"', '"SubnetLen"', '"IPv6Network"'],
      ),
      { maxLength: 40 },
    )
    .map((tokens) => tokens.join('')),
)
const field = (names: readonly string[], values: fc.Arbitrary<unknown>) =>
  fc.dictionary(fc.constantFrom(...names), values, { maxKeys: 8 }).map((object) => JSON.stringify(object))
/**
 * A public key of WireGuard, or what nearly is one: one character is another, one is missing, or one is too
 * many.
 */
const keyText = fc.oneof(
  fc.uint8Array({ minLength: 31, maxLength: 33 }).map((bytes) => Buffer.from(bytes).toString('base64')),
  fc
    .tuple(fc.uint8Array({ minLength: 32, maxLength: 32 }), fc.nat(43), fc.string({ maxLength: 2 }))
    .map(([bytes, at, more]) => {
      const text = Buffer.from(bytes).toString('base64')
      return text.slice(0, at) + more + text.slice(at + 1)
    }),
  fc.constant('AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA='),
)
const someValue = fc.oneof(
  fc.jsonValue(),
  fc.constantFrom(
    '10.5.0.0/16',
    'fd00:5::/48',
    '10.5.1.0',
    '192.168.77.11',
    'fd77::11',
    '02:00:00:00:00:01',
    'vxlan',
    24,
    64,
    true,
  ),
  fc.record({
    Type: fc.constantFrom('vxlan', 'udp', 1),
    VNI: fc.integer(),
    Port: fc.integer(),
    MTU: fc.integer(),
  }),
  fc.record({
    Type: fc.constant('vxlan'),
    Encryption: fc.constantFrom('off', 'prefer', 'required', 'on', true),
    EncryptionPort: fc.oneof(fc.integer(), fc.nat(65_536), fc.constantFrom(8471, 8472)),
  }),
  fc.record({ VNI: fc.integer(), VtepMAC: fc.constantFrom('02:00:00:00:00:01', 'x') }),
  fc.record(
    {
      VNI: fc.constant(1),
      VtepMAC: fc.constant('02:00:00:00:00:01'),
      WireGuard: fc.oneof(
        fc.jsonValue(),
        fc.record(
          {
            Turn: fc.oneof(fc.integer(), fc.constantFrom(0, 2 ** 31 - 1, 2 ** 31, '1')),
            Port: fc.oneof(fc.nat(70_000), fc.constantFrom('51820')),
            Keys: fc.array(fc.oneof(keyText, fc.jsonValue()), { maxLength: 3 }),
            Source: fc.constantFrom('10.0.0.1', 'fd77::1', '', 'x', 7, null),
          },
          { requiredKeys: [] },
        ),
      ),
    },
    { requiredKeys: ['VNI', 'VtepMAC'] },
  ),
)
const configText = fc.oneof(
  nearlyJson,
  field(
    [
      'Network',
      'SubnetLen',
      'SubnetMin',
      'SubnetMax',
      'EnableIPv6',
      'IPv6Network',
      'IPv6SubnetLen',
      'Backend',
      'EnableIPv4',
    ],
    someValue,
  ),
)
const leaseText = fc.oneof(
  nearlyJson,
  field(['PublicIP', 'PublicIPv6', 'BackendType', 'BackendData', 'BackendV6Data', 'publicip'], someValue),
)
const groupsText = fc.oneof(
  nearlyJson,
  field(
    ['vni', 'families', 'groups'],
    fc.oneof(someValue, fc.array(fc.constantFrom('IPv4', 'IPv6', '239.1.2.3', 'ff05::77', 7))),
  ),
)
const announcementText = fc.oneof(
  nearlyJson,
  field(
    ['priority', 'until', 'via', 'share', 'further'],
    fc.oneof(
      someValue,
      fc.integer(),
      fc.constantFrom(
        '2026-01-31T12:00:00.000Z',
        'br-moving',
        'sixteen-letters-',
        '10.5.1.9',
        'fe80::1%eth0',
      ),
    ),
  ),
)
const auditText = fc.oneof(
  nearlyJson,
  field(
    ['time', 'verb', 'what', 'etcdUser', 'user', 'host', 'id'],
    fc.oneof(fc.string(), fc.constantFrom('2026-01-31T12:00:00.000Z', '0123456789abcdef'), someValue),
  ),
)
const hostText = fc.oneof(nearlyJson, field(['identity', 'user'], fc.oneof(keyText, fc.string(), someValue)))
const keyName = fc.oneof(
  anyText,
  fc.tuple(fc.ipV4(), fc.nat(40)).map(([address, length]) => `${address}-${length}`),
  fc.tuple(fc.ipV4(), fc.nat(40), fc.ipV6(), fc.nat(140)).map(([a, n, b, m]) => `${a}-${n}&${b}-${m}`),
)
const anyBytes = fc.uint8Array({ maxLength: 200 }).map((bytes) => Buffer.from(bytes))
/** The last part of a key, as bytes. */
const keyBytes = fc.oneof(
  keyName.map((name) => Buffer.from(name)),
  anyBytes,
  fc
    .tuple(keyName, fc.uint8Array({ maxLength: 3 }))
    .map(([name, more]) => Buffer.concat([Buffer.from(name), more])),
)
/** Any bytes, and sequences of netlink messages whose lengths are often right or nearly so. */
const datagram = fc.oneof(
  fc.uint8Array({ maxLength: 300 }),
  fc
    .array(
      fc.record({
        type: fc.integer({ min: 1, max: 110 }),
        flags: fc.nat(0xffff),
        body: fc.uint8Array({ maxLength: 80 }),
      }),
      { maxLength: 4 },
    )
    .map((all) =>
      Buffer.concat(
        all.map(({ type, flags, body }) => {
          const message = Buffer.alloc((16 + body.length + 3) & ~3)
          message.writeUInt32LE(16 + body.length)
          message.writeUInt16LE(type, 4)
          message.writeUInt16LE(flags, 6)
          message.set(body, 16)
          return message
        }),
      ),
    ),
)

function readAll(bytes: Uint8Array): void {
  const codecs = [...Object.values(messages), familyMessage, deviceMessage]
  const cursor = new MessageCursor(bytes)
  while (cursor.next()) {
    for (const codec of codecs) oursOrNothing(() => codec.decode(cursor.view, cursor.start, cursor.end))
    for (const read of [
      decodeMembers,
      listBridges.decode,
      listAddresses({ family: 'netdev', name: 'a' }, 'b').decode,
    ])
      oursOrNothing(() => read(cursor.view, cursor.start, cursor.end))
    oursOrNothing(() => joinParts([deviceMessage.decode(cursor.view, cursor.start, cursor.end)]))
    oursOrNothing(() => readError(cursor))
    oursOrNothing(() => readDone(cursor))
  }
}

const keys = keysUnder('/coreos.com/network')
const own = {
  key: 'own',
  subnet: net('10.5.1.0/24'),
  publicIp: ip('192.168.77.11'),
  mac: hw('02:00:00:00:00:01'),
}
const readDatagram = (bytes: Uint8Array): void => {
  oursOrNothing(() => readAll(bytes))
  oursOrNothing(() => readMemberChanges(bytes))
  const filter = {
    ownPortId: 1,
    watched: new Set([2]),
    allRoutes: true,
    networks: [net('10.5.0.0/16')],
    echoes: new Echoes(),
  }
  oursOrNothing(() => readChanges(bytes, filter, () => undefined))
}

const readPrefixKey = (name: string) =>
  decodePrefix(name, {
    value: Buffer.from('{"priority":1}'),
    modRevision: 7n as Revision,
    createRevision: 7n as Revision,
    etcdLease: '8' as EtcdLeaseId,
  })

/** Kind of text -> arbitrary text of that kind, and the function that reads it. */
const TEXTS: Readonly<Record<string, readonly [fc.Arbitrary<string>, (text: string) => unknown]>> = {
  'network config': [configText, parseNetworkConfig],
  'lease value': [leaseText, decodeLeaseValue],
  'value of groups': [groupsText, decodeGroupsValue],
  'value of an announcement': [announcementText, decodeAnnouncementValue],
  'key of an announcement': [
    fc.oneof(
      anyText,
      fc.tuple(keyName, keyName).map(([host, prefix]) => `${host}/${prefix}`),
    ),
    readPrefixKey,
  ],
  'record of the audit': [auditText, (text) => decodeAudit(Buffer.from(text))],
  'record of a host': [hostText, (text) => decodeHostValue(Buffer.from(text))],
  'lease key': [keyName, parseSubnetName],
  'etcd endpoints': [anyText, parseEndpoints],
  'etcd prefix': [anyText, etcdPrefix],
  'interface pattern': [anyText, (text) => parseOptions({ 'iface-regex': [text] }, {})],
  address: [anyText, (text) => [parseIp(text), parseMac(text), parseIpv4Prefix(text), parseIpv6Prefix(text)]],
  'listing of iptables': [anyText, parseIptablesSave],
  'status document': [fc.json(), (text) => statusSchema.safeParse(JSON.parse(text))],
}
const known = z.record(z.string(), z.array(z.string())).parse(corpus)

test.each(Object.keys(TEXTS))('any %s is read or refused', (name) => {
  const [arbitrary, read] = TEXTS[name] ?? [anyText, () => undefined]
  const examples = (known[name] ?? []).map((text): [string] => [text])
  fc.assert(
    fc.property(arbitrary, (text) => oursOrNothing(() => read(text))),
    { numRuns, examples },
  )
})

test('any key with any value becomes a peer, or is unreadable or rejected with a reason', () => {
  fc.assert(
    fc.property(
      keyBytes,
      fc.oneof(
        leaseText.map((text) => Buffer.from(text)),
        anyBytes,
      ),
      (name, value) => {
        const key = Buffer.concat([keys.bytes.subnets, name])
        const place = placeOf(keys, key)
        if (place?.kind !== 'lease') throw new Error('it is under subnets/')
        const found = decodeLease(place, {
          key,
          value,
          modRevision: 7n as Revision,
          etcdLease: '8' as EtcdLeaseId,
          createRevision: 1n as Revision,
          isNew: true,
        })
        expect(found.key).not.toMatch(/[\p{C}\p{Zl}\p{Zp}]/u)
        const peers = new PeerTable({ range: ipv4Range(), vni: 1 }, own)
        if (isReadable(found)) peers.put(found)
        else peers.putUnreadable(found)
        expect(peers.size + [...peers.rejected()].length).toBe(1)
        for (const { reason } of peers.rejected()) expect(reason).not.toBe('')
      },
    ),
    { numRuns },
  )
})

test('any WireGuard of a lease is one of whole numbers, ports, and two keys, or none', () => {
  const property = fc.property(leaseText, (text) => {
    const { value } = decodeLeaseValue(text)
    for (const vtep of [value?.vtep, value?.vtep6]) {
      if (vtep?.wireguard === undefined) continue
      const { turn, port, keys, source } = vtep.wireguard
      expect(Number.isInteger(turn) && turn >= 0 && turn < 2 ** 31).toBe(true)
      expect(Number.isInteger(port) && port >= 1 && port <= 65_534).toBe(true)
      expect(new Set(keys).size).toBe(2)
      for (const key of keys) expect(Buffer.from(key, 'base64')).toHaveLength(32)
      expect(['number', 'bigint', 'undefined']).toContain(typeof source)
    }
    if (value !== undefined) expect(decodeLeaseValue(encodeLeaseValue(value))).toEqual({ value })
  })
  fc.assert(property, { numRuns })
})

test('any datagram of the kernel is read or refused', () => {
  fc.assert(fc.property(datagram, readDatagram), { numRuns })
})

test('any answer of nftables is an object, of another table, or refused', () => {
  const attribute = fc
    .record({
      type: fc.nat(14),
      nested: fc.boolean(),
      lie: fc.constantFrom(0, 0, 0, 1, 9),
      bytes: fc.uint8Array({ maxLength: 24 }),
    })
    .map(({ type, nested, lie, bytes }) => {
      const words = Buffer.alloc((4 + bytes.length + 3) & ~3)
      words.writeUInt16LE(4 + bytes.length + lie)
      words.writeUInt16LE(type | (nested ? 0x8000 : 0), 2)
      words.set(bytes, 4)
      return words
    })
  const table = {
    family: 'netdev',
    name: 't',
    chains: [{ name: 'c', link: 'l', policy: 'drop', rules: [] }],
  } as const
  const steps = replaceTable(table).map((step) => {
    const writer = new MessageWriter()
    STEP_FORMAT.encode(writer, step)
    return Buffer.from(writer.take().subarray(16))
  })
  const answer = fc.oneof(
    fc.uint8Array({ maxLength: 80 }),
    fc
      .array(attribute, { maxLength: 6 })
      .map((all) =>
        Buffer.concat([Buffer.alloc(4), Buffer.from('06000100740000', 'hex'), Buffer.alloc(1), ...all]),
      ),
    // A valid message with one byte changed, or truncated.
    fc
      .record({ step: fc.constantFrom(...steps), at: fc.nat(200), byte: fc.nat(255), end: fc.nat(200) })
      .map(({ step, at, byte, end }) => {
        const bytes = Buffer.from(step)
        bytes[at % bytes.length] = byte
        return bytes.subarray(0, end)
      }),
  )
  const property = fc.property(answer, fc.constantFrom(...TABLE_KINDS), (bytes, kind) => {
    oursOrNothing(() => listTableObjects(table, kind).decode(viewOf(bytes), 0, bytes.length))
  })
  fc.assert(property, { numRuns })
})

test('any subnet.env is read, or has problems that name the file', async () => {
  const directory = mkdtempSync(join(tmpdir(), 'overlayd-fuzz-'))
  const path = join(directory, 'subnet.env')
  const line = fc.tuple(
    fc.constantFrom('FLANNEL_SUBNET', 'FLANNEL_IPV6_SUBNET', 'export FLANNEL_SUBNET', 'A'),
    fc.oneof(anyText, keyName),
  )
  const text = fc.oneof(
    anyText,
    fc.array(line).map((lines) => lines.map(([name, value]) => `${name}=${value}\n`).join('')),
  )
  try {
    const property = fc.asyncProperty(text, async (content) => {
      writeFileSync(path, content)
      const { problems } = await readPreviousSubnets(path)
      expect(problems.every((problem) => problem.startsWith(path))).toBe(true)
    })
    await fc.assert(property, { numRuns: Math.min(numRuns, 10_000) })
  } finally {
    rmSync(directory, { recursive: true })
  }
})

test('from any subnet.env only addresses, a number, true and false reach Docker', () => {
  const value = fc.oneof(
    anyText,
    keyName,
    fc.constantFrom('10.5.1.1/24', '1450', 'true', 'false', '--x', '"\nLD_PRELOAD=/x'),
  )
  const variables = fc.record(
    Object.fromEntries(SUBNET_VARIABLES.map((name) => [name, fc.option(value, { nil: undefined })])),
  )
  const safe =
    /^(?:DOCKER_OPT_BIP="--bip=[\d.]+\/\d+"|DOCKER_OPT_MTU="--mtu=\d+"|DOCKER_OPT_IPMASQ="--ip-masq=(?:true|false)"|DOCKER_OPTS="(?: --(?:bip=[\d.]+\/\d+|mtu=\d+|ip-masq=(?:true|false)))*")$/
  fc.assert(
    fc.property(
      variables,
      fc.boolean(),
      fc.boolean(),
      fc.boolean(),
      (given, individual, combined, ipMasq) => {
        const { value: text, problem } = dockerOptions(given, {
          individual,
          combined,
          key: 'DOCKER_OPTS',
          ipMasq,
        })
        if (text === undefined) expect(problem?.text).toMatch(/^FLANNEL_\w+ is /)
        else for (const line of text.split('\n').slice(0, -1)) expect(line).toMatch(safe)
      },
    ),
    { numRuns: 5 * numRuns },
  )
})

test('a config is read the same with blanks around it, and ignored fields have a text', () => {
  fc.assert(
    fc.property(configText, (text) => {
      oursOrNothing(() => {
        parseNetworkConfig(text)
        for (const ignored of findIgnored(text)) expect(ignored).not.toBe('')
        // Go ignores blanks around JSON.
        expect(parseNetworkConfig(` \n${text}\t`)).toEqual(parseNetworkConfig(text))
      })
    }),
    { numRuns },
  )
})

test('any flags and variables become options, or a usage error', async () => {
  const names = Object.keys(parseOptions({}, {}))
  const word = fc.oneof(
    anyText,
    fc
      .tuple(
        fc.constantFrom('-', '--', '---'),
        fc.constantFrom(...names),
        fc.constantFrom('', '=', '=true', '=0x10', '=1_0', '=a'),
      )
      .map((parts) => parts.join('')),
  )
  const variables = fc.dictionary(
    fc.constantFrom(...names).map((name) => `FLANNELD_${name.toUpperCase().replaceAll('-', '_')}`),
    anyText,
    { maxKeys: 3 },
  )
  const property = fc.asyncProperty(fc.array(word, { maxLength: 5 }), variables, async (argv, env) => {
    await parseCommandLine(argv, env).catch((error: unknown) => {
      if (!isOverlayError(error)) throw error
    })
  })
  await fc.assert(property, { numRuns: Math.min(numRuns, 10_000) })
})
