/**
 * The codec of nftables against the kernel: what it writes is what `nft` shows, and what the kernel tells is
 * what was wanted.
 */
import { createSocket } from 'node:dgram'
import { once } from 'node:events'
import { MulticastDevice } from '../../../src/kernel/bridges/multicast'
import type { Kernel } from '../../../src/kernel/kernel'
import { NetlinkError } from '../../../src/kernel/netlink/errors'
import { type Applied, AppliedTable } from '../../../src/kernel/nftables/apply-table'
import { wantedObjects } from '../../../src/kernel/nftables/netfilter-objects'
import { type IpAddress, ipv4, parseIp } from '../../../src/model/address'
import type { Rule, RuleTable } from '../../../src/model/kernel/tables'
import {
  existing,
  makeUnderlay,
  openKernel,
  PARENT,
  removeUnderlay,
  reported,
  requireSandbox,
  run,
} from './network'

const NAME = 'frames'
const ID = { family: 'netdev', name: NAME } as const

let kernel: Kernel
let frames: MulticastDevice
let table: RuleTable

/** A table of netdev as `nft` shows it, line by line. */
const shown = (name = NAME): string[] =>
  run(`nft -s list table netdev ${name}`)
    .split('\n')
    .map((line) => line.trim())
    .filter((line) => line !== '' && line !== '}')

function accepts(commands: string): boolean {
  try {
    run('nft -f -', commands)
    return true
  } catch {
    return false
  }
}

beforeAll(async () => {
  requireSandbox()
  makeUnderlay()
  kernel = await openKernel()
  frames = await MulticastDevice.open(
    kernel,
    () => NAME,
    () => undefined,
    (error) => reported.push(error),
  )
  const { index } = await existing(kernel, PARENT)
  table = {
    ...ID,
    chains: [
      {
        name: 'in',
        link: PARENT,
        policy: 'drop',
        rules: [
          {
            family: 'IPv4',
            conditions: [
              { header: 'network', at: 12, value: [10, 5] },
              { header: 'network', at: 16, value: [0xe0, 0, 0, 0], mask: [0xf0, 0, 0, 0] },
              { header: 'network', at: 9, value: [2], not: true },
              { header: 'link', at: 0, value: [1], mask: [1] },
            ],
            copyTo: [1],
            moveTo: index,
          },
          {
            family: 'IPv6',
            conditions: [{ header: 'network', at: 24, value: [0xff] }],
            copyTo: [],
            moveTo: 1,
          },
        ],
      },
      { name: 'out', link: `${PARENT}-peer`, policy: 'accept', rules: [] },
    ],
  }
})
afterEach(() => expect(reported).toEqual([]))
afterAll(async () => {
  await frames?.tables.delete(ID)
  frames?.close()
  kernel?.close()
  removeUnderlay()
})

test('what is written is what nft shows, and what the kernel tells is what was wanted', async () => {
  expect(await frames.tables.read(ID)).toEqual([])
  await frames.tables.write(table)
  expect(shown()).toEqual([
    'table netdev frames {',
    'chain in {',
    `type filter hook ingress device "${PARENT}" priority 100; policy drop;`,
    `ip saddr 10.5.0.0/16 ip daddr 224.0.0.0/4 ip protocol != igmp @ll,0,8 & 0x1 == 0x1 dup to "lo" fwd to "${PARENT}"`,
    'ip6 daddr ff00::/8 fwd to "lo"',
    'chain out {',
    `type filter hook ingress device "${PARENT}-peer" priority 100; policy accept;`,
  ])
  expect(await frames.tables.read(ID)).toEqual(wantedObjects(table))
})

test('written again it is the same, and another takes its place', async () => {
  const before = shown()
  await frames.tables.write(table)
  expect(shown()).toEqual(before)
  const [first] = table.chains
  const other: RuleTable = {
    ...ID,
    chains: first === undefined ? [] : [{ ...first, policy: 'accept' }],
  }
  await frames.tables.write(other)
  expect(shown()).toEqual(before.slice(0, 5).map((line) => line.replace('policy drop', 'policy accept')))
  expect(await frames.tables.read(ID)).toEqual(wantedObjects(other))
})

test.each([
  'add rule netdev frames in counter',
  'add rule netdev frames in limit rate 5/second',
  'add rule netdev frames in vlan id 5 accept',
  'add chain netdev frames more',
  'add chain netdev frames in { policy accept; }',
  'add table netdev frames { flags dormant; }',
  'flush table netdev frames',
])('%s makes it another', async (change) => {
  await frames.tables.write(table)
  run('nft -f -', change)
  const words = async () => (await frames.tables.read(ID)).map((object) => object.words)
  expect(await words()).not.toEqual(wantedObjects(table).map((object) => object.words))
})

test('a limit, a counter and a jump are read back as written, whatever the counts are', async () => {
  const limited: RuleTable = {
    ...ID,
    chains: [
      {
        name: 'limit',
        policy: 'return',
        rules: [
          { conditions: [], limit: 1, copyTo: [1], verdict: 'return' },
          { conditions: [], counted: true, copyTo: [] },
        ],
      },
      {
        name: 'out',
        link: PARENT,
        policy: 'accept',
        rules: [{ conditions: [], copyTo: [], verdict: { jump: 'limit' } }],
      },
    ],
  }
  await frames.tables.write(limited)
  expect(shown()).toEqual([
    'table netdev frames {',
    'chain limit {',
    'limit rate 1/second burst 1 packets dup to "lo" return',
    'counter',
    'chain out {',
    `type filter hook ingress device "${PARENT}" priority 100; policy accept;`,
    'jump limit',
  ])
  expect(await frames.tables.counted(ID, 'limit')).toBe(0n)
  expect(await frames.tables.counted(ID, 'out')).toBeUndefined()
  expect(await frames.tables.counted({ ...ID, name: 'nowhere' }, 'out')).toBeUndefined()
  // Packets from the other end of the pair come in here.
  run(`ip address add 192.0.2.7/24 dev ${PARENT}-peer`)
  const socket = createSocket('udp4')
  socket.bind(0, '192.0.2.7')
  await once(socket, 'listening')
  socket.setMulticastInterface('192.0.2.7')
  for (let sent = 0; sent < 1000; sent += 1)
    await new Promise((resolve) => socket.send('x', 9, '239.9.9.9', resolve))
  socket.close()
  expect(await frames.tables.counted(ID, 'limit')).toBeGreaterThan(0n)
  expect((await frames.tables.read(ID)).map(({ words }) => words)).toEqual(
    wantedObjects(limited).map(({ words }) => words),
  )
})

test('tables of others are neither told nor touched', async () => {
  const tables = ['netdev frames2', 'netdev frame', 'inet frames', 'ip frames']
  run(
    'nft -f -',
    ...tables.map((name) => `add table ${name}; add chain ${name} in; add rule ${name} in counter`),
  )
  await frames.tables.write(table)
  expect(await frames.tables.read(ID)).toEqual(wantedObjects(table))
  await frames.tables.delete(ID)
  expect(await frames.tables.read(ID)).toEqual([])
  // An absent table is no failure.
  await frames.tables.delete(ID)
  const left = run('nft list tables').trim().split('\n')
  expect(left).toEqual(expect.arrayContaining(tables.map((name) => `table ${name}`)))
  for (const name of tables) {
    expect(run(`nft list table ${name}`)).toContain('counter packets 0')
    run(`nft delete table ${name}`)
  }
})

test('a missing interface is refused with a fix, or awaited, as the kernel does for nft', async () => {
  const nowhere: RuleTable = {
    ...ID,
    chains: [{ name: 'in', link: 'nowhere', policy: 'drop', rules: [] }],
  }
  const hook = '{ type filter hook ingress device "nowhere" priority 100; policy drop; }'
  const isWaitedFor = accepts(
    `add table netdev other; add chain netdev other in ${hook}; delete table netdev other`,
  )
  const written = frames.tables.write(nowhere)
  if (isWaitedFor) {
    await written
    expect(await frames.tables.read(ID)).toEqual(wantedObjects(nowhere))
  } else {
    await expect(written).rejects.toMatchObject({
      code: 'no-frame-rules',
      message: expect.stringContaining('cannot add a chain on nowhere to the nftables table netdev frames: '),
    })
  }
})

test('what cannot be written is refused, and leaves what is there', async () => {
  await frames.tables.write(table)
  const before = shown()
  const on = (link: string, ...rules: Rule[]): RuleTable => ({
    ...ID,
    chains: [{ name: 'in', link, policy: 'accept', rules }],
  })
  const lost: Rule = { conditions: [], copyTo: [], verdict: { jump: 'nowhere' } }
  await expect(frames.tables.write(on(PARENT, lost))).rejects.toMatchObject({
    code: 'no-frame-rules',
    message: expect.stringContaining(
      'cannot add a rule to the chain in of the nftables table netdev frames: ',
    ),
    fix: expect.stringContaining('modprobe'),
  })
  // NFT_NAME_MAXLEN is 256.
  const long = { ...on(PARENT), name: 'f'.repeat(300) }
  await expect(frames.tables.write(long)).rejects.toBeInstanceOf(NetlinkError)
  expect(shown()).toEqual(before)
  await frames.tables.delete(ID)
})

describe('a table that is kept as wanted', () => {
  const never = new AbortController().signal
  const ip = (text: string): IpAddress => parseIp(text) ?? ipv4(0)
  /** Groups that may pass, and a rule that matches these groups. */
  const wanting = (...groups: readonly string[]): RuleTable => ({
    ...ID,
    sets: [{ name: 'wanted4', family: 'IPv4', addresses: groups.map(ip) }],
    chains: [
      {
        name: 'in',
        link: PARENT,
        policy: 'drop',
        rules: [{ family: 'IPv4', conditions: [], to: 'wanted4', copyTo: [1] }],
      },
    ],
  })
  let kept: AppliedTable
  const apply = async (wanted: RuleTable): Promise<Applied> =>
    kept.apply(wanted, await frames.tables.read(ID), never)
  /** Distinguishes a replaced table from a changed table: the kernel gives each new table a higher handle. */
  const handle = (): string | undefined =>
    /chain in \{ # handle (\d+)/.exec(run(`nft -a list table netdev ${NAME}`))?.[1]

  beforeEach(async () => {
    await frames.tables.delete(ID)
    kept = new AppliedTable(frames.tables)
    expect(await apply(wanting('239.1.1.1'))).toBe('rewritten')
  })

  test('is not written while it is in order, also by another run', async () => {
    const before = handle()
    expect(await apply(wanting('239.1.1.1'))).toBe('unchanged')
    kept = new AppliedTable(frames.tables)
    expect(await apply(wanting('239.1.1.1'))).toBe('unchanged')
    expect(handle()).toBe(before)
  })

  test('gets other groups and rules in place', async () => {
    const before = handle()
    expect(await apply(wanting('239.1.1.2', '239.1.1.3'))).toBe('rewritten')
    const all = wanting('239.1.1.2')
    const open = { ...all, chains: all.chains.map((chain) => ({ ...chain, rules: [] })) }
    expect(await apply(open)).toBe('rewritten')
    expect(shown()).not.toContainEqual(expect.stringContaining('@wanted4'))
    expect(handle()).toBe(before)
    expect(await apply(open)).toBe('unchanged')
  })

  test.each([
    ['element', `delete element netdev ${NAME} wanted4 { 239.1.1.1 }`],
    ['element too many', `add element netdev ${NAME} wanted4 { 239.9.9.9 }`],
    ['rule', `add rule netdev ${NAME} in counter`],
    ['table', `delete table netdev ${NAME}`],
  ])('is repaired when another program changes it: %s', async (_what, change) => {
    const before = shown()
    run('nft -f -', change)
    expect(await apply(wanting('239.1.1.1'))).toBe('repaired')
    expect(shown()).toEqual(before)
  })

  test.each([
    ['of an earlier run', () => (kept = new AppliedTable(frames.tables))],
    ['with a rule of another program', () => run('nft -f -', `add rule netdev ${NAME} in counter`)],
  ])('gets rules in the chains that it has: a table %s', async (_what, change) => {
    const before = handle()
    change()
    const { chains, ...rest } = wanting('239.1.1.1')
    const open = { ...rest, chains: chains.map((chain) => ({ ...chain, rules: [] })) }
    expect(await apply(open)).toBe('rewritten')
    expect(handle()).toBe(before)
    expect(await frames.tables.read(ID)).toEqual(wantedObjects(open))
  })

  test('is new when it was deleted', async () => {
    await frames.tables.delete(ID)
    kept.forget()
    expect(await apply(wanting('239.1.1.1'))).toBe('rewritten')
  })
})
