/** Changes of the network config by operators. Hosts keep the last valid config, and lose no packet. */
import { ETCD_PREFIX } from '../../lab/lab'
import { fault } from '../fault'
import { CONFIG, NETWORK, type Site } from '../site'

const KEY = `${ETCD_PREFIX}/config`

const config = (backend: object = {}, fields: object = {}): string =>
  JSON.stringify({ ...NETWORK, ...fields, Backend: { Type: 'vxlan', ...backend } })

const BAD: Readonly<Record<string, string>> = {
  empty: '',
  'cut off': CONFIG.slice(0, 30),
  'with a byte order mark': `\ufeff${CONFIG}`,
  null: 'null',
  'not JSON': '<html>503</html>',
  'without a network': '{"Backend":{"Type":"vxlan"}}',
  'of another backend': '{"Network":"10.0.0.0/8","Backend":{"Type":"udp"}}',
  'with a fraction for a length': '{"Network":"10.0.0.0/8","SubnetLen":24.5,"Backend":{"Type":"vxlan"}}',
  'a loopback network': '{"Network":"127.0.0.0/8","Backend":{"Type":"vxlan"}}',
}

const GOOD: Readonly<Record<string, string>> = {
  'MTU 1400': config({ MTU: 1400 }),
  'MTU above the link': config({ MTU: 1501 }),
  'MTU far above the link': config({ MTU: 9000 }),
  DirectRouting: config({ DirectRouting: true }),
  learning: config({ Learning: true }),
  'a smaller network': config({}, { Network: '10.0.0.0/9' }),
  'the smallest network': config({}, { Network: '10.5.0.0/16' }),
  nftables: config({}, { EnableNFTables: true }),
  'an unknown field': config({}, { Netwrok: '10.6.0.0/16' }),
}

const put = (site: Site, text: string): Promise<unknown> =>
  site.write((client) => client.put(KEY).value(text).exec())
const back = (site: Site): Promise<unknown> => put(site, CONFIG)

const theConfig = (): string[] => ['config']

export const CONFIG_FAULTS = [
  fault({
    name: 'config is garbage',
    draw: (random) => ({ kind: random.pick(Object.keys(BAD)) }),
    claims: theConfig,
    do: (site, { kind }) => put(site, BAD[kind] ?? ''),
    undo: back,
    after: back,
  }),
  fault({
    name: 'config deleted',
    draw: () => ({}),
    claims: theConfig,
    do: (site) => site.write((client) => client.delete().key(KEY).exec()),
    undo: back,
    after: back,
  }),
  fault({
    name: 'config changed',
    draw: (random) => ({ kind: random.pick(Object.keys(GOOD)) }),
    claims: theConfig,
    do: (site, { kind }) => put(site, GOOD[kind] ?? CONFIG),
    undo: back,
    after: back,
  }),
  fault({
    name: 'config flaps',
    draw: (random) => ({ kind: random.pick(Object.keys(GOOD)) }),
    claims: theConfig,
    every: () => 100,
    do: async (site, { kind }) => {
      await put(site, GOOD[kind] ?? CONFIG)
      await put(site, CONFIG)
    },
    undo: back,
    after: back,
  }),
]
