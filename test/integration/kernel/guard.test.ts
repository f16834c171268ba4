/**
 * The guard against VXLAN packets in clear, in this kernel: what it lets through, and what not. The tests run
 * in the guarded host; the namespace `other` is the host at the other end of two pairs of veth. One pair is
 * the underlay. The other is named as a WireGuard device, and stands for one.
 */

import { readFileSync } from 'node:fs'
import { readPacketFilter } from '../../../src/firewall/packet-filter'
import { GuardTables } from '../../../src/kernel/nftables/guard'
import { guardTable } from '../../../src/kernel/nftables/guard-table'
import { wantedObjects } from '../../../src/kernel/nftables/netfilter-objects'
import { Tables } from '../../../src/kernel/nftables/tables'
import type { Guard, GuardCounts } from '../../../src/model/guard'
import { execOk } from '../../lab/namespace'
import { patient, patientSeconds } from '../../lab/patience'
import { ping, RunningPing } from '../../lab/ping'
import { Pending, waitFor } from '../../lab/wait'
import { reported, requireSandbox, run, show } from './network'

// A flood through the guard takes a second on an idle machine.
jest.setTimeout(patient(30_000))

const NAME = 'fl-wg.1'
const OTHER = 'other'
const HERE = 'here'
const PORT = 8472
/** Our networks have the VNIs 1 and 2, and another network of the host has 9. */
const GUARD: Guard = { name: NAME, links: [NAME], port: PORT, vnis: [1, 2] }
const ID = { family: 'inet', name: NAME } as const
const never = new AbortController().signal

/** A VXLAN device at both ends: its VNI, the underlay that it uses, and the third byte of its addresses. */
interface Overlay {
  readonly link: string
  readonly vni: number
  readonly underlay: readonly [here: string, there: string]
}
const CLEAR: Overlay = { link: 'vx1', vni: 1, underlay: ['192.0.2.1', '192.0.2.2'] }
const CLEAR6: Overlay = { link: 'vx16', vni: 1, underlay: ['fd00:77::1', 'fd00:77::2'] }
const FOREIGN: Overlay = { link: 'vx9', vni: 9, underlay: ['192.0.2.1', '192.0.2.2'] }
const FOREIGN6: Overlay = { link: 'vx96', vni: 9, underlay: ['fd00:77::1', 'fd00:77::2'] }
const TUNNEL: Overlay = { link: 'vx2', vni: 2, underlay: ['198.51.100.1', '198.51.100.2'] }
const OVERLAYS = [CLEAR, CLEAR6, FOREIGN, FOREIGN6, TUNNEL]

/** The addresses of an overlay at both ends. */
const inside = (overlay: Overlay): readonly [here: string, there: string] => {
  const net = `10.9.${OVERLAYS.indexOf(overlay)}`
  return [`${net}.1`, `${net}.2`]
}
const macs = (overlay: Overlay): readonly [here: string, there: string] => {
  const tail = `0${OVERLAYS.indexOf(overlay)}`
  return [`02:00:00:00:01:${tail}`, `02:00:00:00:02:${tail}`]
}

const there = (command: string): Promise<string> => {
  const [program = '', ...args] = command.split(' ')
  return execOk(OTHER, [program, ...args])
}

let guards: GuardTables
let changes: number

const ensure = (guard: Guard = GUARD) => guards.ensure(guard, never)
async function counts(): Promise<GuardCounts> {
  const counts = await guards.read(NAME)
  if (counts === undefined) throw new Error('there is no guard')
  return counts
}

/** Packets that a VXLAN device has received. */
const received = ({ link }: Overlay): number => packets(show(`ip -j -s link show ${link}`))
const receivedThere = async ({ link }: Overlay): Promise<number> =>
  packets(JSON.parse(await there(`ip -j -s link show ${link}`)))
function packets([link]: readonly Record<string, unknown>[]): number {
  if (link === undefined) throw new Error('there is no such link')
  return (link['stats64'] as { rx: { packets: number } }).rx.packets
}

/** IPv4 packets that this host has put together from fragments. */
function reassembled(): number {
  const [names = '', values = ''] = readFileSync('/proc/net/snmp', 'latin1').split('\n')
  return Number(values.split(' ')[names.split(' ').indexOf('ReasmOKs')])
}

/**
 * Answered pings of both ends; neighbours are permanent, so each end sends without an answer of the other.
 */
async function answered(overlay: Overlay, bytes = 56): Promise<readonly number[]> {
  const [addressHere, addressThere] = inside(overlay)
  const count = async (namespace: string, address: string): Promise<number> => {
    const command = `ping -n -c 2 -i 0.01 -W ${patientSeconds(1)} -s ${bytes} ${address}`
    const output = await execOk(namespace, ['sh', '-c', `${command} || true`])
    return Number(/(\d+) received/.exec(output)?.[1])
  }
  return Promise.all([count(HERE, addressThere), count(OTHER, addressHere)])
}

beforeAll(async () => {
  requireSandbox()
  run(`ip netns attach ${HERE} ${process.pid}`)
  run(`ip netns add ${OTHER}`)
  const pairs = [
    ['under0', 'under1', ['192.0.2', 'fd00:77::']],
    [NAME, 'tunnel1', ['198.51.100']],
  ] as const
  for (const [here, peer, nets] of pairs) {
    run(`ip link add ${here} type veth peer name ${peer} netns ${OTHER}`)
    for (const net of nets) {
      const [dot, length] = net.endsWith('::') ? ['', '64 nodad'] : ['.', '24']
      run(`ip address add ${net}${dot}1/${length} dev ${here}`)
      await there(`ip address add ${net}${dot}2/${length} dev ${peer}`)
    }
    run(`ip link set ${here} up`)
    await there(`ip link set ${peer} up`)
  }
  for (const overlay of OVERLAYS) {
    const { link, vni, underlay } = overlay
    for (const [own, peer] of [
      [0, 1],
      [1, 0],
    ] as const) {
      const make = (command: string) => (own === 0 ? run(command) : there(command))
      await make(
        `ip link add ${link} address ${macs(overlay)[own]} mtu 3000 type vxlan id ${vni} dstport ${PORT} ` +
          `local ${underlay[own]} remote ${underlay[peer]} nolearning udp6zerocsumtx udp6zerocsumrx`,
      )
      await make(`ip address add ${inside(overlay)[own]}/24 dev ${link}`)
      // Without neighbour discovery and MLD, there is no traffic but that of the tests.
      await make(`sysctl -qw net.ipv6.conf.${link}.disable_ipv6=1`)
      await make(`ip link set ${link} up`)
      // Locked, so that the underlay's MTU is not learned: what exceeds it has to be put into fragments
      // there.
      const [network] = inside(overlay)[0].match(/^\d+\.\d+\.\d+/) ?? []
      await make(`ip route replace ${network}.0/24 dev ${link} src ${inside(overlay)[own]} mtu lock 3000`)
      await make(
        `ip neighbour replace ${inside(overlay)[peer]} lladdr ${macs(overlay)[peer]} dev ${link} nud permanent`,
      )
    }
  }
  for (const overlay of OVERLAYS)
    await waitFor(`an answer by ${overlay.link}`, async () => {
      const [out = 0, back = 0] = await answered(overlay)
      return out > 0 && back > 0 ? true : new Pending('none')
    })
})

beforeEach(async () => {
  changes = 0
  guards = await GuardTables.open(
    () => {
      changes += 1
    },
    (error) => reported.push(error),
  )
})

afterEach(async () => {
  await guards.remove(NAME, never)
  guards.close()
  expect(reported).toEqual([])
})

afterAll(() => {
  for (const link of [...OVERLAYS.map((each) => each.link), 'under0', NAME]) run(`ip link delete ${link}`)
  run(`ip netns delete ${OTHER}`)
  run(`ip netns delete ${HERE}`)
})

test('nft shows the rules as people write them, and makes the same of them', async () => {
  await ensure({ ...GUARD, links: [NAME, 'fl-wgb.16777215'], vnis: [1, 0x7fffff] })
  const listed = run(`nft -s list table inet ${NAME}`)
  expect(listed.split('\n').map((line) => line.trim())).toEqual([
    `table inet ${NAME} {`,
    'chain cut {',
    'meta l4proto != udp return',
    'udp dport != 8472 return',
    '@th,96,24 >= 0x0 return',
    'counter drop',
    '}',
    '',
    'chain in {',
    'type filter hook input priority raw; policy accept;',
    'iifname "fl-wg.1" accept',
    'iifname "fl-wgb.16777215" accept',
    'udp dport 8472 @th,96,24 0x1 counter drop',
    'udp dport 8472 @th,96,24 0x7fffff counter drop',
    'frag frag-off 0 jump cut',
    '}',
    '',
    'chain out {',
    'type filter hook output priority raw; policy accept;',
    'oifname "fl-wg.1" accept',
    'oifname "fl-wgb.16777215" accept',
    'udp dport 8472 @th,96,24 0x1 counter drop',
    'udp dport 8472 @th,96,24 0x7fffff counter drop',
    '}',
    '',
    'chain post {',
    'type filter hook postrouting priority raw; policy accept;',
    'oifname "fl-wg.1" accept',
    'oifname "fl-wgb.16777215" accept',
    'udp dport 8472 @th,96,24 0x1 fib saddr type local counter drop',
    'udp dport 8472 @th,96,24 0x7fffff fib saddr type local counter drop',
    '}',
    '}',
    '',
  ])
  await guards.remove(NAME, never)
  run('nft -f -', listed)
  const wanted = guardTable({ ...GUARD, links: [NAME, 'fl-wgb.16777215'], vnis: [1, 0x7fffff] })
  const tables = await Tables.open({
    names: () => [],
    changed: () => undefined,
    report: (error) => reported.push(error),
    refused: (error) => error,
  })
  const words = (await tables.read(ID)).map((object) => object.words)
  tables.close()
  expect(words).toEqual(wantedObjects(wanted).map((object) => object.words))
})

test('the doctor can decide each of its rules', async () => {
  await ensure()
  const { chains, unread } = await readPacketFilter(never)
  expect(unread).toEqual([])
  const steps = chains
    .filter(({ table }) => table === NAME)
    .flatMap(({ rules }) => rules.map((rule) => rule.steps))
  expect(steps.length).toBeGreaterThan(8)
  expect(JSON.stringify(steps)).not.toContain('unknown')
})

describe.each([
  ['IPv4', CLEAR, FOREIGN],
  ['IPv6', CLEAR6, FOREIGN6],
])('over %s', (_family, clear, foreign) => {
  test('our VNI is cut both ways and counted, another passes, and so does what uses our link', async () => {
    expect(await answered(clear)).toEqual([2, 2])
    expect(await ensure()).toBe('rewritten')
    expect(await counts()).toEqual({ droppedIn: 0n, droppedOut: 0n })
    const [before, beforeThere] = [received(clear), await receivedThere(clear)]
    expect(await answered(clear)).toEqual([0, 0])
    expect([received(clear), await receivedThere(clear)]).toEqual([before, beforeThere])
    const { droppedIn, droppedOut } = await counts()
    expect(droppedIn).toBeGreaterThanOrEqual(2n)
    expect(droppedOut).toBeGreaterThanOrEqual(2n)
    expect(await answered(foreign)).toEqual([2, 2])
    expect(await answered(TUNNEL)).toEqual([2, 2])
    await guards.remove(NAME, never)
    expect(await answered(clear)).toEqual([2, 2])
  })
})

test('a packet that an IPv4 underlay carries in fragments is cut too, one of another VNI is not', async () => {
  const large = 2500
  const before = reassembled()
  expect(await answered(CLEAR, large)).toEqual([2, 2])
  expect(reassembled()).toBeGreaterThanOrEqual(before + 2)
  await ensure()
  const had = received(CLEAR)
  expect(await answered(CLEAR, large)).toEqual([0, 0])
  expect(received(CLEAR)).toBe(had)
  expect((await counts()).droppedIn).toBeGreaterThanOrEqual(2n)
  expect(await answered(FOREIGN, large)).toEqual([2, 2])
})

/** Linux cuts none of VXLAN over IPv6, but receives them from anyone. */
describe('IPv6 fragments, which a rule sees one by one', () => {
  const bytes = (...parts: readonly (readonly number[])[]): number[] => parts.flat()
  const half = (value: number): number[] => [value >> 8, value & 0xff]
  const frame = bytes([255, 255, 255, 255, 255, 255], [2, 0, 0, 0, 0, 9], [0x88, 0xb5], Array(46).fill(7))
  const udp = (vni: number): number[] => {
    const payload = bytes([8, 0, 0, 0, 0, 0, vni, 0], frame)
    return bytes(half(5555), half(PORT), half(8 + payload.length), [0, 0], payload)
  }
  /** Destination options (60) with one option, of 16 bytes. */
  const options = bytes([17, 1, 0x1e, 12], Array(12).fill(0))
  let id = 0
  /** A packet in two fragments; the first has so many bytes. */
  function fragments(protocol: number, packet: readonly number[], cut: number): string[] {
    id += 1
    const head = (offset: number, more: number) => bytes([protocol, 0], half(offset | more), [0, 0, 0, id])
    const [first, last] = [bytes(head(0, 1), packet.slice(0, cut)), bytes(head(cut, 0), packet.slice(cut))]
    return [first, last].map((fragment) => Buffer.from(fragment).toString('hex'))
  }
  const send = (hex: readonly string[]) =>
    there(`${process.execPath} test/support/send-ipv6.js ${CLEAR6.underlay[0]} 44 ${hex.join(' ')}`)

  test.each([
    ['the VNI in the first one', 17, udp(1), 24],
    ['the UDP header alone in the first one', 17, udp(1), 8],
    ['a header before it, and the UDP header, in the first one', 60, bytes(options, udp(1)), 24],
  ])('%s', async (_what, protocol, packet, cut) => {
    const reaches = async (): Promise<void> => {
      const before = received(CLEAR6)
      await send(fragments(protocol, packet, cut))
      await waitFor('the packet', () => received(CLEAR6) > before || new Pending('nothing'))
    }
    await reaches()
    await ensure()
    const before = received(CLEAR6)
    await send(fragments(protocol, packet, cut))
    await waitFor('a drop', async () => (await counts()).droppedIn === 1n || new Pending('none'))
    expect(received(CLEAR6)).toBe(before)
    await guards.remove(NAME, never)
    await reaches()
  })

  test('half a header before it, which no host may send', async () => {
    await ensure()
    await send(fragments(60, bytes(options, udp(1)), 8))
    await waitFor('a drop', async () => (await counts()).droppedIn === 1n || new Pending('none'))
  })

  test('of other ports and protocols pass, whatever is in the first one', async () => {
    await ensure()
    const others = [
      fragments(17, bytes(half(5555), half(PORT + 1), udp(1).slice(4)), 8),
      fragments(6, udp(1), 8),
      fragments(17, udp(9), 16),
    ]
    for (const each of others) await send(each)
    // The last one reaches its device after the others were met.
    const before = received(FOREIGN6)
    await send(fragments(17, udp(9), 16))
    await waitFor('the packet', () => received(FOREIGN6) > before || new Pending('nothing'))
    expect((await counts()).droppedIn).toBe(0n)
  })
})

test('a packet whose route changes on its way out is cut before it leaves by another link', async () => {
  // Its forwarding entry names the link. The underlay is where a route leads to.
  const [, address] = inside(TUNNEL)
  const { underlay } = CLEAR
  const entry = `00:00:00:00:00:00 dev ${TUNNEL.link} dst`
  run(`bridge fdb delete ${entry} ${TUNNEL.underlay[1]}`)
  run(`bridge fdb append ${entry} ${underlay[1]} via ${NAME}`)
  run(
    'nft -f -',
    'table ip marks { chain out { type route hook output priority mangle; udp dport 8472 meta mark set 7; }; }',
  )
  const sent = async (): Promise<number> => {
    const before = await receivedThere(TUNNEL)
    await ping(HERE, address, { count: 3 })
    return (await receivedThere(TUNNEL)) - before
  }
  try {
    expect(await sent()).toBe(3)
    await ensure()
    expect(await sent()).toBe(0)
    expect((await counts()).droppedOut).toBe(3n)
  } finally {
    run('nft delete table ip marks')
    run(`bridge fdb delete ${entry} ${underlay[1]} via ${NAME}`)
    run(`bridge fdb append ${entry} ${TUNNEL.underlay[1]}`)
  }
})

test('what this host only forwards is left alone', async () => {
  run('ip netns add third')
  run('ip link add third0 type veth peer name third1 netns third')
  run('ip address add 203.0.113.1/24 dev third0')
  run('ip link set third0 up')
  const third = (command: string): Promise<string> => execOk('third', ['sh', '-c', command])
  await third('ip address add 203.0.113.2/24 dev third1; ip link set third1 up')
  await third(
    `nft 'table ip t { chain in { type filter hook prerouting priority 0; udp dport ${PORT} counter; }; }'`,
  )
  run('sysctl -qw net.ipv4.ip_forward=1')
  await there('ip route add 203.0.113.0/24 via 192.0.2.1')
  try {
    await ensure()
    const vxlan = Buffer.from([8, 0, 0, 0, 0, 0, 1, 0, ...Array(60).fill(0)]).toString('hex')
    await execOk(OTHER, [
      process.execPath,
      '-e',
      `const s = require('node:dgram').createSocket('udp4'); s.send(Buffer.from('${vxlan}', 'hex'), ${PORT}, ` +
        `'203.0.113.2', () => s.close())`,
    ])
    await waitFor('the packet', async () => {
      const listed = await third('nft list table ip t')
      return listed.includes('counter packets 1') || new Pending(listed)
    })
    expect(await counts()).toEqual({ droppedIn: 0n, droppedOut: 0n })
  } finally {
    await there('ip route delete 203.0.113.0/24')
    run('sysctl -qw net.ipv4.ip_forward=0')
    run('ip link delete third0')
    run('ip netns delete third')
  }
})

test('a link that is not there, gone or renamed lets nothing through, and one of that name does', async () => {
  await ensure({ ...GUARD, links: ['fl-wgb.1'] })
  expect(await answered(TUNNEL)).toEqual([0, 0])
  const rename = (from: string, to: string): void => {
    run(`ip link set ${from} down`)
    run(`ip link set ${from} name ${to}`)
    run(`ip link set ${to} up`)
  }
  rename(NAME, 'fl-wgb.1')
  try {
    await waitFor(
      'an answer',
      async () => (await answered(TUNNEL)).every((n) => n > 0) || new Pending('none'),
    )
    // A name that begins so is another one.
    await ensure({ ...GUARD, links: ['fl-wgb'] })
    expect(await answered(TUNNEL)).toEqual([0, 0])
    await ensure({ ...GUARD, links: [] })
    expect(await answered(TUNNEL)).toEqual([0, 0])
  } finally {
    rename('fl-wgb.1', NAME)
  }
})

describe('the table', () => {
  test('is not written while it is in order, also by another run', async () => {
    expect(await ensure()).toBe('rewritten')
    const handles = run(`nft -a list table inet ${NAME}`)
    expect(await ensure()).toBe('unchanged')
    guards.close()
    guards = await GuardTables.open(
      () => undefined,
      (error) => reported.push(error),
    )
    expect(await ensure()).toBe('unchanged')
    expect(run(`nft -a list table inet ${NAME}`)).toBe(handles)
    expect(await guards.remove(NAME, never)).toBe(true)
    expect(await guards.remove(NAME, never)).toBe(false)
    expect(await guards.read(NAME)).toBeUndefined()
  })

  test.each([
    'flush ruleset',
    `delete table inet ${NAME}`,
    `flush chain inet ${NAME} in`,
    `insert rule inet ${NAME} out accept`,
    `add chain inet ${NAME} more`,
    `add table inet ${NAME} { flags dormant; }`,
    `add chain inet ${NAME} in { policy drop; }`,
  ])('that another program changes is told, and repaired: %s', async (change) => {
    await ensure()
    const before = run(`nft -s list table inet ${NAME}`)
    expect(changes).toBe(0)
    run('nft -f -', change)
    await waitFor('a notification', () => changes > 0 || new Pending('none'))
    expect(await ensure()).toBe('repaired')
    expect(run(`nft -s list table inet ${NAME}`)).toBe(before)
    expect(await answered(CLEAR)).toEqual([0, 0])
  })

  test('of another program with the same name, in another family, is neither told nor touched', async () => {
    await ensure()
    run(
      'nft -f -',
      `table ip other { chain in { counter; }; }`,
      `table netdev ${NAME} { chain in { counter; }; }`,
    )
    try {
      expect(await ensure({ ...GUARD, vnis: [3] })).toBe('rewritten')
      await guards.remove(NAME, never)
      expect(run('nft list tables').split('\n')).toEqual(['table ip other', `table netdev ${NAME}`, ''])
    } finally {
      run(`nft delete table ip other`)
      run(`nft delete table netdev ${NAME}`)
    }
  })

  test('is rewritten under traffic: nothing is lost by our link, and nothing passes in clear', async () => {
    await ensure()
    const handle = (): string | undefined =>
      /chain in \{ # handle (\d+)/.exec(run(`nft -a list table inet ${NAME}`))?.[1]
    const chain = handle()
    const [before, beforeThere] = [received(CLEAR), await receivedThere(CLEAR)]
    const pings = [
      await RunningPing.start(OTHER, inside(TUNNEL)[0]),
      await RunningPing.start(HERE, inside(TUNNEL)[1]),
    ]
    const flood = (namespace: string, address: string) =>
      execOk(namespace, ['sh', '-c', `ping -n -q -c 500 -i 0.002 -W 1 ${address} || true`])
    const floods = Promise.all([flood(OTHER, inside(CLEAR)[0]), flood(HERE, inside(CLEAR)[1])])
    let isOver = false
    const ended = floods.finally(() => {
      isOver = true
    })
    const results: string[] = []
    while (!isOver)
      results.push(await ensure({ ...GUARD, links: results.length % 2 === 0 ? ['fl-wgb.1', NAME] : [NAME] }))
    await ended
    expect(results.length).toBeGreaterThan(20)
    expect(new Set(results)).toEqual(new Set(['rewritten']))
    for (const each of pings) expect(await each.stop()).toMatchObject({ lost: 0 })
    for (const output of await floods) expect(output).toContain(' 0 received')
    expect([received(CLEAR), await receivedThere(CLEAR)]).toEqual([before, beforeThere])
    expect(handle()).toBe(chain)
  })

  test('that cannot be is refused before anything is written', async () => {
    await ensure()
    const before = run(`nft -s list table inet ${NAME}`)
    for (const wrong of [{ links: ['fl-wg.16777215-1'] }, { vnis: [] }, { vnis: [1 << 24] }, { port: 0 }])
      await expect(ensure({ ...GUARD, ...wrong })).rejects.toBeInstanceOf(RangeError)
    expect(run(`nft -s list table inet ${NAME}`)).toBe(before)
  })
})
