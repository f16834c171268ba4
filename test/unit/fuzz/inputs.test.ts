/**
 * Every byte that comes from outside is read, or refused with an error of ours that says what is wrong: for any input, never anything else, and
 * in bounded time. `scripts/fuzz` runs it long; what once failed is in `corpus.json` and tried first.
 */
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import fc from 'fast-check'
import { z } from 'zod'
import { parseCommandLine, parseOptions } from '../../../src/daemon/options'
import { statusSchema } from '../../../src/daemon/status'
import { parseEndpoints } from '../../../src/etcd/endpoints'
import { decodeGroupsValue } from '../../../src/etcd/groups-codec'
import { etcdPrefix, keysUnder, parseSubnetName } from '../../../src/etcd/keys'
import { decodeLease, decodeLeaseValue, isReadable } from '../../../src/etcd/lease-codec'
import { parseIptablesSave } from '../../../src/firewall/iptables'
import { readPreviousSubnets } from '../../../src/host/subnet-env'
import { listBridges } from '../../../src/kernel/bridges'
import { Echoes } from '../../../src/kernel/echoes'
import { readChanges } from '../../../src/kernel/events'
import { decodeMembers, readMemberChanges } from '../../../src/kernel/mdb'
import { listAddresses, replaceTable, STEP_FORMAT } from '../../../src/kernel/netfilter'
import { listTableObjects, TABLE_KINDS } from '../../../src/kernel/netfilter-objects'
import { MessageCursor, MessageWriter, viewOf } from '../../../src/kernel/netlink/bytes'
import * as messages from '../../../src/kernel/netlink/messages'
import { readDone, readError } from '../../../src/kernel/netlink/replies'
import { parseIp, parseIpv4Prefix, parseIpv6Prefix, parseMac } from '../../../src/model/address'
import { OverlayError } from '../../../src/model/errors'
import type { EtcdLeaseId, Revision } from '../../../src/model/lease'
import { parseNetworkConfig } from '../../../src/model/network-config'
import { PeerTable } from '../../../src/plan/peer-table'
import { hw, ip, ipv4Range, net } from '../plan/support'
import corpus from './corpus.json'

const numRuns = Number(process.env['OVERLAYD_FUZZ_RUNS'] ?? 200)
jest.setTimeout(Math.max(10_000, numRuns))

/** Only an error of ours may come out. */
function oursOrNothing(act: () => unknown): void {
  try {
    act()
  } catch (error) {
    if (!(error instanceof OverlayError)) throw error
  }
}

const anyText = fc.string({ unit: 'binary', maxLength: 200 })
/** JSON, its tokens in disorder, and anything: most of it gets past the first look. */
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
  fc.record({ VNI: fc.integer(), VtepMAC: fc.constantFrom('02:00:00:00:00:01', 'x') }),
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
const keyName = fc.oneof(
  anyText,
  fc.tuple(fc.ipV4(), fc.nat(40)).map(([address, length]) => `${address}-${length}`),
  fc.tuple(fc.ipV4(), fc.nat(40), fc.ipV6(), fc.nat(140)).map(([a, n, b, m]) => `${a}-${n}&${b}-${m}`),
)
/** Bytes whose lengths are often about right: as netlink messages one after another. */
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
  const codecs = Object.values(messages)
  const cursor = new MessageCursor(bytes)
  while (cursor.next()) {
    for (const codec of codecs) oursOrNothing(() => codec.decode(cursor.view, cursor.start, cursor.end))
    for (const read of [decodeMembers, listBridges.decode, listAddresses('a', 'b').decode])
      oursOrNothing(() => read(cursor.view, cursor.start, cursor.end))
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

/** What text comes in where, and what reads it. */
const TEXTS: Readonly<Record<string, readonly [fc.Arbitrary<string>, (text: string) => unknown]>> = {
  'network config': [configText, parseNetworkConfig],
  'lease value': [leaseText, decodeLeaseValue],
  'word of groups': [groupsText, decodeGroupsValue],
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

test('any key with any value is a lease or unreadable with a reason, and any lease a peer or rejected with a reason', () => {
  fc.assert(
    fc.property(keyName, leaseText, (name, value) => {
      const key = keys.subnets + name
      const found = decodeLease(keys, {
        key,
        value,
        modRevision: 7n as Revision,
        etcdLease: '8' as EtcdLeaseId,
      })
      const peers = new PeerTable({ range: ipv4Range(), vni: 1 }, own)
      if (isReadable(found)) peers.put(found)
      else peers.putUnreadable(found)
      expect(peers.size + [...peers.rejected()].length).toBe(1)
      for (const { reason } of peers.rejected()) expect(reason).not.toBe('')
    }),
    { numRuns },
  )
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
  const table = { name: 't', chains: [{ name: 'c', link: 'l', otherwise: 'drop', rules: [] }] } as const
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
    // One that is right but for a byte, or ends early.
    fc
      .record({ step: fc.constantFrom(...steps), at: fc.nat(200), byte: fc.nat(255), end: fc.nat(200) })
      .map(({ step, at, byte, end }) => {
        const bytes = Buffer.from(step)
        bytes[at % bytes.length] = byte
        return bytes.subarray(0, end)
      }),
  )
  const property = fc.property(answer, fc.constantFrom(...TABLE_KINDS), (bytes, kind) => {
    oursOrNothing(() => listTableObjects('t', kind).decode(viewOf(bytes), 0, bytes.length))
  })
  fc.assert(property, { numRuns })
})

test('any subnet.env is read, and a subnet in it is one', async () => {
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

test('any flags and variables are options, or a usage error', async () => {
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
      if (!(error instanceof OverlayError)) throw error
    })
  })
  await fc.assert(property, { numRuns: Math.min(numRuns, 10_000) })
})
