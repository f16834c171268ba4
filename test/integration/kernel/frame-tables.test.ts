/** The codec of nftables against the kernel: what it writes is what `nft` shows, and what the kernel tells is what was wanted. */
import { createSocket } from 'node:dgram'
import { once } from 'node:events'
import type { Kernel } from '../../../src/kernel/kernel'
import { MulticastKernel } from '../../../src/kernel/multicast'
import { wantedObjects } from '../../../src/kernel/netfilter-objects'
import { NetlinkError } from '../../../src/kernel/netlink/errors'
import type { FrameRule, FrameTable } from '../../../src/model/multicast'
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

let kernel: Kernel
let frames: MulticastKernel
let table: FrameTable

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
  frames = await MulticastKernel.open(
    kernel,
    () => NAME,
    () => undefined,
    (error) => reported.push(error),
  )
  const { index } = await existing(kernel, PARENT)
  table = {
    name: NAME,
    chains: [
      {
        name: 'in',
        link: PARENT,
        otherwise: 'drop',
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
      { name: 'out', link: `${PARENT}-peer`, otherwise: 'accept', rules: [] },
    ],
  }
})
afterEach(() => expect(reported).toEqual([]))
afterAll(() => {
  frames?.close()
  kernel?.close()
  removeUnderlay()
})

test('what is written is what nft shows, and what the kernel tells is what was wanted', async () => {
  expect(await frames.readTable(NAME)).toEqual([])
  await frames.writeTable(table)
  expect(shown()).toEqual([
    'table netdev frames {',
    'chain in {',
    `type filter hook ingress device "${PARENT}" priority 100; policy drop;`,
    `ip saddr 10.5.0.0/16 ip daddr 224.0.0.0/4 ip protocol != igmp @ll,0,8 & 0x1 == 0x1 dup to "lo" fwd to "${PARENT}"`,
    'ip6 daddr ff00::/8 fwd to "lo"',
    'chain out {',
    `type filter hook ingress device "${PARENT}-peer" priority 100; policy accept;`,
  ])
  expect(await frames.readTable(NAME)).toEqual(wantedObjects(table))
})

test('written again it is the same, and another takes its place', async () => {
  const before = shown()
  await frames.writeTable(table)
  expect(shown()).toEqual(before)
  const [first] = table.chains
  const other: FrameTable = {
    name: NAME,
    chains: first === undefined ? [] : [{ ...first, otherwise: 'accept' }],
  }
  await frames.writeTable(other)
  expect(shown()).toEqual(before.slice(0, 5).map((line) => line.replace('policy drop', 'policy accept')))
  expect(await frames.readTable(NAME)).toEqual(wantedObjects(other))
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
  await frames.writeTable(table)
  run('nft -f -', change)
  const words = async () => (await frames.readTable(NAME)).map((object) => object.words)
  expect(await words()).not.toEqual(wantedObjects(table).map((object) => object.words))
})

test('a limit, a counter and a jump are told as they were meant, and what is counted makes no other of them', async () => {
  const limited: FrameTable = {
    name: NAME,
    chains: [
      {
        name: 'limit',
        otherwise: 'return',
        rules: [
          { conditions: [], limit: 1, copyTo: [1], goTo: 'back' },
          { conditions: [], counted: true, copyTo: [] },
        ],
      },
      {
        name: 'out',
        link: PARENT,
        otherwise: 'accept',
        rules: [{ conditions: [], copyTo: [], goTo: { chain: 'limit' } }],
      },
    ],
  }
  await frames.writeTable(limited)
  expect(shown()).toEqual([
    'table netdev frames {',
    'chain limit {',
    'limit rate 1/second burst 1 packets dup to "lo" return',
    'counter',
    'chain out {',
    `type filter hook ingress device "${PARENT}" priority 100; policy accept;`,
    'jump limit',
  ])
  expect(await frames.counted(NAME, 'limit')).toBe(0)
  expect(await frames.counted(NAME, 'out')).toBeUndefined()
  expect(await frames.counted('nowhere', 'out')).toBeUndefined()
  // What the other end of the pair sends comes in here.
  run(`ip address add 192.0.2.7/24 dev ${PARENT}-peer`)
  const socket = createSocket('udp4')
  socket.bind(0, '192.0.2.7')
  await once(socket, 'listening')
  socket.setMulticastInterface('192.0.2.7')
  for (let sent = 0; sent < 1000; sent += 1)
    await new Promise((resolve) => socket.send('x', 9, '239.9.9.9', resolve))
  socket.close()
  expect(await frames.counted(NAME, 'limit')).toBeGreaterThan(0)
  expect((await frames.readTable(NAME)).map(({ words }) => words)).toEqual(
    wantedObjects(limited).map(({ words }) => words),
  )
})

test('tables of others are neither told nor touched', async () => {
  const tables = ['netdev frames2', 'netdev frame', 'inet frames', 'ip frames']
  run(
    'nft -f -',
    ...tables.map((name) => `add table ${name}; add chain ${name} in; add rule ${name} in counter`),
  )
  await frames.writeTable(table)
  expect(await frames.readTable(NAME)).toEqual(wantedObjects(table))
  await frames.deleteTable(NAME)
  expect(await frames.readTable(NAME)).toEqual([])
  // That there is none is no failure.
  await frames.deleteTable(NAME)
  const left = run('nft list tables').trim().split('\n')
  expect(left).toEqual(expect.arrayContaining(tables.map((name) => `table ${name}`)))
  for (const name of tables) {
    expect(run(`nft list table ${name}`)).toContain('counter packets 0')
    run(`nft delete table ${name}`)
  }
})

test('an interface that is not there is refused with what to do, or waited for, as the kernel does with nft', async () => {
  const nowhere: FrameTable = {
    name: NAME,
    chains: [{ name: 'in', link: 'nowhere', otherwise: 'drop', rules: [] }],
  }
  const hook = '{ type filter hook ingress device "nowhere" priority 100; policy drop; }'
  const isWaitedFor = accepts(
    `add table netdev other; add chain netdev other in ${hook}; delete table netdev other`,
  )
  const written = frames.writeTable(nowhere)
  if (isWaitedFor) {
    await written
    expect(await frames.readTable(NAME)).toEqual(wantedObjects(nowhere))
  } else {
    await expect(written).rejects.toMatchObject({
      code: 'no-frame-rules',
      message: expect.stringContaining('cannot add a chain on nowhere to the nftables table netdev frames: '),
    })
  }
})

test('what cannot be written is refused, and leaves what is there', async () => {
  await frames.writeTable(table)
  const before = shown()
  const on = (link: string, ...rules: FrameRule[]): FrameTable => ({
    name: NAME,
    chains: [{ name: 'in', link, otherwise: 'accept', rules }],
  })
  const lost: FrameRule = { conditions: [], copyTo: [], goTo: { chain: 'nowhere' } }
  await expect(frames.writeTable(on(PARENT, lost))).rejects.toMatchObject({
    code: 'no-frame-rules',
    message: expect.stringContaining(
      'cannot add a rule to the chain in of the nftables table netdev frames: ',
    ),
    fix: expect.stringContaining('modprobe'),
  })
  // NFT_NAME_MAXLEN is 256.
  const long = { ...on(PARENT), name: 'f'.repeat(300) }
  await expect(frames.writeTable(long)).rejects.toBeInstanceOf(NetlinkError)
  expect(shown()).toEqual(before)
  await frames.deleteTable(NAME)
})
