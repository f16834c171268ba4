/** Keys under subnets/ written, changed or deleted by another host or by a person. */
import { ETCD_PREFIX } from '../../lab/lab'
import { leaseKey, leaseValue } from '../../lab/leases'
import { anyHost, fault, itsHost, of, twoHosts } from '../fault'
import type { Site } from '../site'

const PREFIX = leaseKey(ETCD_PREFIX, '')
/** Operations per transaction; etcd accepts 128 (--max-txn-ops). */
const AT_ONCE = 120

const deleteKey = (site: Site, key: string): Promise<unknown> =>
  site.write((client) => client.delete().key(key).exec())

/** Writes keys under subnets/, in transactions. */
async function putAll(site: Site, keys: readonly (readonly [Buffer, Buffer])[]): Promise<void> {
  for (let from = 0; from < keys.length; from += AT_ONCE) {
    const success = keys.slice(from, from + AT_ONCE).map(([name, value]) => ({
      request_put: { key: Buffer.concat([Buffer.from(PREFIX), name]), value },
    }))
    await site.write((client) => client.kv.txn({ success }))
  }
}

/** Key of a host of the lab: subnets from 10.5.1.0 to 10.5.99.0. */
const HOSTS_KEY = /^10\.5\.\d{1,2}\.0-24$/

/** Deletes all keys under subnets/ that are not keys of hosts. Keys are compared and deleted as bytes. */
const sweep = (site: Site): Promise<unknown> =>
  site.write(async (client) => {
    const { kvs } = await client.getAll().prefix(PREFIX).exec()
    const garbage = kvs.filter(({ key }) => !HOSTS_KEY.test(key.toString('latin1').slice(PREFIX.length)))
    for (let from = 0; from < garbage.length; from += AT_ONCE) {
      const success = garbage
        .slice(from, from + AT_ONCE)
        .map(({ key }) => ({ request_delete_range: { key } }))
      await client.kv.txn({ success })
    }
  })

type Garbage = readonly (readonly [Buffer, Buffer])[]
const text = (name: string, value: string): readonly [Buffer, Buffer] => [
  Buffer.from(name),
  Buffer.from(value),
]
const many = (count: number, make: (number: number) => readonly [Buffer, Buffer]): Garbage =>
  Array.from({ length: count }, (_, number) => make(number))

/** Name of a key in the range that hosts do not use. */
const free = (number: number): string => `10.5.${100 + number}.0-24`
/** Value of a lease of a host that does not exist. */
const strange = (number: number): string =>
  leaseValue({
    subnet: '',
    publicIp: `172.16.7.${number + 1}`,
    mac: `02:00:00:00:77:${(number % 256).toString(16).padStart(2, '0')}`,
  })

const KINDS: Readonly<Record<string, () => Garbage>> = {
  'not UTF-8': () =>
    many(1500, (n) => [Buffer.from([0x7e, 0xff, 0xfe, 0x80, n >> 8, n & 255]), Buffer.from([0xff, n & 255])]),
  'control characters': () => many(50, (n) => text(`~\x1b]0;${n}\x07\x9b2J\r\n`, `\x1b[2J${n}`)),
  'format characters': () =>
    many(50, (n) => text(`~\u202e\u2066\u200b${n}`, `{"PublicIP":"\u202e10.0.0.${n}"}`)),
  long: () => many(20, (n) => text(`~${'x'.repeat(5000)}${n}`, 'y'.repeat(5000))),
  'subnets with garbage': () => many(100, (n) => text(free(n), n % 2 === 0 ? 'garbage' : '{"PublicIP":7}')),
  'not of this network': () => many(100, (n) => text(`192.0.${n}.0-24`, strange(n))),
  'not subnets': () => many(100, (n) => text(`~10.5.${n}.7-33`, strange(n))),
  'thousands with one MAC and PublicIP': () =>
    many(3000, (n) =>
      text(
        `10.${64 + (n >> 8)}.${n & 255}.0-24`,
        leaseValue({ subnet: '', publicIp: '172.16.7.1', mac: '02:00:00:00:77:01' }),
      ),
    ),
  'PublicIP is the broadcast address of the underlay': () =>
    many(1, (n) =>
      text(free(n), leaseValue({ subnet: '', publicIp: '192.168.77.255', mac: '02:00:00:00:77:02' })),
    ),
  'hosts that come and go': () => many(250, (n) => text(`10.64.${n}.0-24`, strange(n))),
}

const removeForgedKey = (site: Site, { host }: { readonly host: number }): Promise<unknown> =>
  site.takeBack(site.keyOf(host))
const undoForgedKey = { undo: removeForgedKey, after: removeForgedKey }

export const KEY_FAULTS = [
  fault({
    name: 'garbage under subnets/',
    draw: (random) => ({ kind: random.pick(Object.keys(KINDS)) }),
    longest: 8000,
    claims: () => ['garbage'],
    do: (site, { kind }) => putAll(site, KINDS[kind]?.() ?? []),
    undo: sweep,
    after: sweep,
  }),
  fault({
    name: 'own key deleted',
    draw: (random, world) => ({ ...anyHost(random, world), ...(random.chance(0.3) && { every: 300 }) }),
    touches: itsHost,
    claims: of('key'),
    every: ({ every }) => every,
    do: (site, { host }) => deleteKey(site, site.keyOf(host)),
  }),
  fault({
    name: 'own lease revoked',
    draw: anyHost,
    touches: itsHost,
    claims: of('key'),
    do: (site, { host }) =>
      site.write(async (client) => {
        const [kv] = (await client.get(site.keyOf(host)).exec()).kvs
        if (kv !== undefined && kv.lease !== '0') await client.leaseClient.leaseRevoke({ ID: kv.lease })
      }),
  }),
  fault({
    name: 'own key overwritten',
    draw: (random, world) => ({
      ...twoHosts(random, world),
      how: random.pick([
        'garbage',
        'another MAC',
        'another PublicIP',
        'the PublicIP and MAC of another host',
      ]),
    }),
    // The other hosts apply the value of the key.
    touches: ({ host, other, how }) => (how.startsWith('the PublicIP') ? [host, other] : [host]),
    claims: (parameters) => of('key')({ hosts: [parameters.host, parameters.other] }),
    do: async (site, { host, other, how }) => {
      const own = site.ownerOf(host)
      const values: Readonly<Record<string, string>> = {
        garbage: 'garbage',
        'another MAC': leaseValue({ subnet: '', ...own, mac: '02:00:00:00:77:03' }),
        'another PublicIP': leaseValue({ subnet: '', ...own, publicIp: '172.16.7.9' }),
      }
      const value = values[how] ?? leaseValue({ subnet: '', ...site.ownerOf(other) })
      await site.forge(site.keyOf(host), value)
    },
    // overlayd never overwrites a value of a foreign writer: removing it is the operator's task.
    ...undoForgedKey,
  }),
  fault({
    name: 'own key unbound from its lease',
    draw: anyHost,
    claims: of('key'),
    do: async (site, { host }) => {
      const value = await site.write((client) => client.get(site.keyOf(host)).string())
      if (value !== null) await site.forge(site.keyOf(host), value)
    },
    ...undoForgedKey,
    touches: itsHost,
  }),
  fault({
    name: 'impostor with the PublicIP and MAC of a host',
    draw: (random, world) => ({
      ...anyHost(random, world),
      subnet: `10.5.${random.integer(100, 240)}.0-24`,
      restart: random.pick(['none', 'SIGTERM', 'SIGKILL'] as const),
    }),
    claims: (parameters) => ['garbage', ...of('key', 'daemon')(parameters)],
    do: async (site, { host, subnet, restart }) => {
      const value = leaseValue({ subnet: '', ...site.ownerOf(host) })
      await site.forge(leaseKey(ETCD_PREFIX, subnet), value)
      if (restart !== 'none') await site.daemon(host).end(restart)
    },
    undo: (site, { subnet }) => site.takeBack(leaseKey(ETCD_PREFIX, subnet)),
    after: (site, { subnet }) => site.takeBack(leaseKey(ETCD_PREFIX, subnet)),
  }),
  fault({
    name: 'own key overwritten with another host and that host restarted',
    draw: twoHosts,
    touches: ({ host, other }) => [host, other],
    claims: ({ host, other }) => [...of('key', 'daemon')({ host: other }), ...of('key')({ host })],
    do: async (site, { host, other }) => {
      const value = leaseValue({ subnet: '', ...site.ownerOf(other) })
      await site.forge(site.keyOf(host), value)
      await site.daemon(other).end('SIGTERM')
    },
    ...undoForgedKey,
  }),
]
