/**
 * The fields of the network config, in one table: schema, Go's way to read the field, and the text of the
 * reference page. A new field needs a row here, and its effect in the plan.
 */
import { z } from 'zod'
import {
  type IpAddress,
  isNetwork,
  networkOf,
  type Prefix,
  parseIpPrefix,
  parseIpv4,
  parseIpv4Prefix,
  parseIpv6,
  parseIpv6Prefix,
} from '../address'
import { goField } from '../go-json'

/** How Go (encoding/json) reads a value, if it does not accept every JSON form of it. */
export type GoType = 'whole' | 'address' | 'other'

/**
 * How running hosts apply a change. `live`: at once, without losing a packet. `lossy`: at once, but packets
 * are lost while some hosts have the change and others do not. `restart`: when overlayd restarts on a host,
 * because the host needs another subnet. `fits`: `live` if the host's subnet is among those of the new
 * config, otherwise `restart`. `never`: the field has only one valid value.
 */
export type ConfigChange = 'live' | 'lossy' | 'restart' | 'fits' | 'never'

interface Field<Schema extends z.ZodType> {
  readonly schema: Schema
  readonly go?: GoType
  /** The default in Markdown; empty if the field is required. */
  readonly fallback: string
  /** Markdown. */
  readonly meaning: string
  readonly change: ConfigChange
}

/** Keeps the type of the schema. */
const field = <Schema extends z.ZodType>(row: Field<Schema>): Field<Schema> => row

/** A text field that the parser must accept. */
const parsed = <T>(parse: (text: string) => T | undefined, wanted: string) =>
  z.string().transform((text, context) => {
    const value = parse(text)
    if (value !== undefined) return value
    context.addIssue({ code: 'custom', message: `"${text}" is not ${wanted}` })
    return z.NEVER
  })

/** Clears the host bits, as flannel does. */
const maskedNetwork =
  <Address extends IpAddress>(parse: (text: string) => Prefix<Address> | undefined) =>
  (text: string): Prefix<Address> | undefined => {
    const prefix = parse(text)
    return prefix && networkOf(prefix.address, prefix.length)
  }

/** Host bits are refused: they would hide what was meant. */
function parseAllowed(text: string): Prefix | undefined {
  const prefix = parseIpPrefix(text)
  return prefix !== undefined && isNetwork(prefix) ? prefix : undefined
}

/** Ranges of announced prefixes. */
const MOST_ALLOWED = 64

/** Packets per second. One per microsecond is more than a processor can copy. */
const HIGHEST_MULTICAST_LIMIT = 1_000_000

/** Smallest outer packet: 68 bytes of IPv4 (RFC 791) and 50 bytes of encapsulation. */
const SMALLEST_OUTER_MTU = 118

/** Values of `Backend.Encryption`. */
const ENCRYPTION_WORDS = ['off', 'prefer', 'required'] as const

/** One below the highest UDP port, because the port after it is used too. */
const HIGHEST_ENCRYPTION_PORT = 0xfffe

export const CONFIG_FIELDS = {
  EnableIPv4: field({
    schema: goField(z.boolean()),
    fallback: '`true`',
    meaning: 'Hosts lease an IPv4 subnet.',
    change: 'restart',
  }),
  EnableIPv6: field({
    schema: goField(z.boolean()),
    fallback: '`false`',
    meaning: 'Hosts lease an IPv6 subnet. At least one of the two families has to be on.',
    change: 'restart',
  }),
  EnableNFTables: field({
    schema: goField(z.boolean()),
    fallback: '`false`',
    meaning: 'Firewall rules are made with `nft` instead of `iptables`.',
    change: 'live',
  }),
  Network: field({
    schema: goField(parsed(maskedNetwork(parseIpv4Prefix), 'an IPv4 network such as 10.5.0.0/16')),
    go: 'address',
    fallback: '',
    meaning: 'IPv4 network that all subnets are taken from, such as `10.5.0.0/16`. Host bits are ignored.',
    change: 'fits',
  }),
  SubnetLen: field({
    schema: goField(z.int().min(0)),
    go: 'whole',
    fallback: '24, or two bits more than those of `Network` if that is longer',
    meaning:
      "Prefix length of each host's IPv4 subnet: at most 30, and at least two bits more than `Network` has.",
    change: 'restart',
  }),
  SubnetMin: field({
    schema: goField(parsed(parseIpv4, 'an IPv4 address')),
    go: 'address',
    fallback: 'the second subnet of `Network`',
    meaning: 'First subnet that may be leased: the first address of a subnet.',
    change: 'fits',
  }),
  SubnetMax: field({
    schema: goField(parsed(parseIpv4, 'an IPv4 address')),
    go: 'address',
    fallback: 'the last subnet of `Network`',
    meaning: 'Last subnet that may be leased: the first address of a subnet.',
    change: 'fits',
  }),
  IPv6Network: field({
    schema: goField(parsed(maskedNetwork(parseIpv6Prefix), 'an IPv6 network such as fd00:5::/48')),
    go: 'address',
    fallback: '',
    meaning: 'IPv6 network that all subnets are taken from, such as `fd00:5::/48`.',
    change: 'fits',
  }),
  IPv6SubnetLen: field({
    schema: goField(z.int().min(0)),
    go: 'whole',
    fallback: '64, or two bits more than those of `IPv6Network` if that is longer',
    meaning:
      "Prefix length of each host's IPv6 subnet: at most 126, and at least two bits more than " +
      '`IPv6Network` has.',
    change: 'restart',
  }),
  IPv6SubnetMin: field({
    schema: goField(parsed(parseIpv6, 'an IPv6 address')),
    fallback: 'the second subnet of `IPv6Network`',
    meaning: 'First IPv6 subnet that may be leased.',
    change: 'fits',
  }),
  IPv6SubnetMax: field({
    schema: goField(parsed(parseIpv6, 'an IPv6 address')),
    fallback: 'the last subnet of `IPv6Network`',
    meaning: 'Last IPv6 subnet that may be leased.',
    change: 'fits',
  }),
  Prefixes: field({
    schema: goField(
      z.strictObject({
        Allowed: z
          .array(parsed(parseAllowed, 'a prefix without host bits such as 10.5.240.0/20'))
          .max(MOST_ALLOWED),
      }),
    ),
    fallback: 'none',
    meaning:
      '`{"Allowed": ["10.5.240.0/20", "192.0.2.0/24"]}`: the ranges in which hosts may announce prefixes ' +
      'besides their subnets. Inside of the network a range has to lie outside of `SubnetMin` to ' +
      '`SubnetMax`. flannel ignores this field, and its hosts do not reach announced prefixes.',
    change: 'live',
  }),
  Backend: field({
    schema: z.unknown().optional(),
    fallback: '',
    meaning: 'Settings of the backend: the object below.',
    change: 'never',
  }),
} as const

/** Those from `Multicast` on are overlayd's own: flannel ignores unknown fields. */
export const BACKEND_FIELDS = {
  Type: field({
    schema: goField(z.string()),
    fallback: '',
    meaning: 'Always `vxlan`, in any case of the letters.',
    change: 'never',
  }),
  VNI: field({
    schema: goField(z.int().min(0).max(0xffffff)),
    go: 'whole',
    fallback: '1',
    meaning:
      'VXLAN network identifier (RFC 7348). The devices are called `flannel.VNI` and `flannel-v6.VNI`.',
    change: 'lossy',
  }),
  Port: field({
    schema: goField(z.int().min(0).max(0xffff)),
    go: 'whole',
    fallback: "the kernel's default, 8472",
    meaning: 'UDP port of VXLAN packets. 0 means the default.',
    change: 'lossy',
  }),
  MTU: field({
    schema: goField(z.int().min(SMALLEST_OUTER_MTU).max(0xffff)),
    go: 'whole',
    fallback: "the underlay interface's MTU",
    meaning:
      'Size of the outer packet. Containers have 50 bytes less, 70 with IPv6. ' +
      'A host whose underlay carries less has less.',
    change: 'live',
  }),
  GBP: field({
    schema: goField(z.boolean()),
    fallback: '`false`',
    meaning: 'The VXLAN device has the group policy extension.',
    change: 'lossy',
  }),
  Learning: field({
    schema: goField(z.boolean()),
    fallback: '`false`',
    meaning: 'The VXLAN device learns forwarding entries from packets.',
    change: 'live',
  }),
  DirectRouting: field({
    schema: goField(z.boolean()),
    fallback: '`false`',
    meaning: 'Packets to peers on the same link are routed there directly, without VXLAN.',
    change: 'live',
  }),
  Multicast: field({
    schema: goField(z.boolean()),
    fallback: '`false`',
    meaning: "Containers' multicast is exchanged between hosts. flannel ignores this field.",
    change: 'live',
  }),
  MulticastVNI: field({
    schema: goField(z.int().min(1).max(0xffffff)),
    fallback: '`VNI` with its highest bit inverted: 8388609 for VNI 1',
    meaning: 'VNI of the device for multicast. It has to differ from `VNI`. flannel ignores this field.',
    change: 'lossy',
  }),
  MulticastLimit: field({
    schema: goField(z.int().min(1).max(HIGHEST_MULTICAST_LIMIT)),
    fallback: 'no limit',
    meaning:
      'Most packets that the containers of one host may send to other hosts in a second. ' +
      'flannel ignores this field.',
    change: 'live',
  }),
  Encryption: field({
    schema: goField(z.enum(ENCRYPTION_WORDS, { error: `expected ${ENCRYPTION_WORDS.join(', ')}` })),
    fallback: '`off`',
    meaning:
      'Packets between hosts are encrypted by WireGuard. `prefer`: between hosts that both can. ' +
      '`required`: no packet leaves or enters a host in clear. flannel ignores this field, ' +
      'and its hosts are cut off by `required`. `DirectRouting` has to be off.',
    change: 'live',
  }),
  EncryptionPort: field({
    schema: goField(z.int().min(1).max(HIGHEST_ENCRYPTION_PORT)),
    fallback: '51820',
    meaning:
      'The first of two UDP ports in a row for encrypted packets: a host changes its keys by a move from ' +
      'one to the other. flannel ignores this field.',
    change: 'lossy',
  }),
} as const

type Table = Readonly<Record<string, Field<z.ZodType>>>
type Shape<T extends Table> = { -readonly [F in keyof T]: T[F]['schema'] }

/** The schema of an object with the fields of a table. */
export const schemaOf = <T extends Table>(table: T): z.ZodObject<Shape<T>> =>
  z.object(Object.fromEntries(Object.entries(table).map(([name, { schema }]) => [name, schema])) as Shape<T>)

/** The names of a table's fields. */
export const namesOf = <T extends Table>(table: T): readonly (keyof T & string)[] => Object.keys(table)
