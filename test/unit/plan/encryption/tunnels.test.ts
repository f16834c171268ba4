/**
 * Tunnels: who is tried, who is proven, and that no step of a change loses a packet or sends one in clear.
 */
import fc from 'fast-check'
import { SLOTS, type Slot, slotOf, type WireguardAnnouncement } from '../../../../src/model/lease'
import { FOLLOW_TIME, planRotation } from '../../../../src/plan/encryption/rotation'
import { type TunnelHost, tunnelHosts } from '../../../../src/plan/encryption/tunnel-hosts'
import {
  KEEPALIVE,
  LINGER,
  NO_MEMORIES,
  planTunnels,
  type TunnelInputs,
  type TunnelStep,
} from '../../../../src/plan/encryption/tunnels'
import { ip } from '../support'
import { announcement, Device, key, only, peer } from './support'

const hostsOf = (...numbers: number[]): readonly TunnelHost[] =>
  tunnelHosts([numbers.map((number) => peer(number, announcement(number)))], []).hosts

/** One host's device of slot 0, with the passes over it. */
class Site {
  readonly device = new Device(7)
  now = 1_000_000
  last: TunnelStep | undefined

  pass(hosts: readonly TunnelHost[], fields: Partial<TunnelInputs> = {}): TunnelStep {
    this.last = planTunnels({
      hosts,
      turn: 0,
      isBehindNat: false,
      takesClear: true,
      devices: [this.device.observed(), undefined],
      memories: this.last?.memories ?? NO_MEMORIES,
      now: this.now,
      ...fields,
    })
    this.device.apply(this.last.operations[0])
    return this.last
  }
}

const wayTo = ({ ways }: TunnelStep, number: number) => ways.get(peer(number).key)?.get('IPv4')

test('a host is tried with keepalive, and gets packets only when a handshake has proven it', () => {
  const site = new Site()
  const hosts = hostsOf(2)
  const first = site.pass(hosts)
  expect(first.operations).toEqual([
    [
      {
        kind: 'set-peer',
        publicKey: key(4),
        endpoint: { address: ip('192.168.77.2'), port: 51_820 },
        allowedIps: only(ip('192.168.77.2')),
        keepalive: KEEPALIVE,
      },
    ],
    [],
  ])
  expect(first).toMatchObject({ isTrying: true, repairs: 0 })
  expect(wayTo(first, 2)).toBeUndefined()
  site.device.change(key(4), { lastHandshake: site.now })
  const second = site.pass(hosts)
  expect(second.operations[0]).toEqual([
    { kind: 'set-peer', publicKey: key(4), updateOnly: true, keepalive: 0 },
  ])
  expect(wayTo(second, 2)).toEqual({ kind: 'tunnel', link: 7, destination: ip('192.168.77.2') })
  expect(second.isTrying).toBe(false)
  expect(site.pass(hosts).operations).toEqual([[], []])
})

test('a host behind NAT keeps the keepalive', () => {
  const site = new Site()
  const hosts = tunnelHosts([[peer(2, announcement(2, { source: ip('10.0.0.2') }))]], []).hosts
  site.pass(hosts)
  expect(site.device.peers.get(key(4))?.allowedIps).toEqual(only(ip('10.0.0.2')))
  site.device.change(key(4), { lastHandshake: site.now })
  expect(wayTo(site.pass(hosts), 2)).toMatchObject({ destination: ip('10.0.0.2') })
  expect(site.device.peers.get(key(4))?.keepalive).toBe(KEEPALIVE)
})

test('at most 500 handshakes are under way, and those that nobody answers make room', () => {
  const site = new Site()
  const many = Array.from({ length: 600 }, (_, i) => ({
    ...announcement(i + 10),
    number: i + 10,
  }))
  const peers = many.map(({ number, ...announced }) =>
    peer(1, announced, { key: `/p/${number}`, publicIp: ip(`10.9.${number >> 8}.${number & 255}`) }),
  )
  const { hosts } = tunnelHosts([peers], [])
  site.pass(hosts)
  expect(site.device.peers.size).toBe(500)
  site.now += 15_001
  site.pass(hosts)
  expect(site.device.peers.size).toBe(600)
  const trying = [...site.device.peers.values()].filter(({ keepalive }) => keepalive > 0)
  expect(trying).toHaveLength(100)
})

test('a host that does not answer is tried again later, as a new peer', () => {
  const site = new Site()
  const hosts = hostsOf(2)
  site.pass(hosts)
  site.now += 15_001
  expect(site.pass(hosts).operations[0]).toEqual([
    { kind: 'set-peer', publicKey: key(4), updateOnly: true, keepalive: 0 },
  ])
  site.now += 14_000
  expect(site.pass(hosts).operations[0]).toEqual([])
  site.now += 2000
  const [remove, set] = site.pass(hosts).operations[0]
  expect(remove).toEqual({ kind: 'remove-peer', publicKey: key(4) })
  expect(set).toMatchObject({ kind: 'set-peer', keepalive: KEEPALIVE })
  // The rest after the second trial is longer.
  site.now += 15_001
  site.pass(hosts)
  site.now += 16_000
  expect(site.pass(hosts).operations[0]).toEqual([])
})

test('what another program changes is repaired and counted; an endpoint that the kernel follows is not', () => {
  const site = new Site()
  const hosts = hostsOf(2, 3)
  site.pass(hosts)
  for (const each of [key(4), key(6)]) site.device.change(each, { lastHandshake: site.now })
  site.pass(hosts)
  site.device.change(key(4), { allowedIps: [] })
  site.device.peers.delete(key(6))
  const step = site.pass(hosts)
  expect(step.repairs).toBe(2)
  expect(site.device.peers.get(key(4))?.allowedIps).toEqual(only(ip('192.168.77.2')))
  expect(site.device.peers.get(key(6))).toMatchObject({ keepalive: KEEPALIVE })
  // Nothing goes in clear meanwhile.
  for (const number of [2, 3]) expect(wayTo(step, number)).toMatchObject({ kind: 'tunnel' })
  site.device.change(key(4), { endpoint: { address: ip('203.0.113.1'), port: 4000 } })
  expect(site.pass(hosts).operations[0]).toEqual([])
})

// The host sends encrypted until it has heard that its own announcement is gone: flannel may have replaced
// it.
test('a key that nobody announces any more: its packets are taken for a while, unless clear ones are not', () => {
  const site = new Site()
  site.pass(hostsOf(2, 3))
  for (const each of [key(4), key(6)]) site.device.change(each, { lastHandshake: site.now })
  site.pass(hostsOf(2, 3))
  const removal = { kind: 'remove-peer', publicKey: key(6) }
  expect(site.pass(hostsOf(2))).toMatchObject({ operations: [[], []], removals: [[], []] })
  expect(wayTo(site.pass(hostsOf(2)), 3)).toBeUndefined()
  site.now += LINGER - 1
  expect(site.pass(hostsOf(2)).removals).toEqual([[], []])
  site.now += 1
  expect(site.pass(hostsOf(2)).removals).toEqual([[removal], []])
  expect(wayTo(site.pass(hostsOf(2, 3)), 3)).toMatchObject({ kind: 'tunnel' })
  expect(site.pass(hostsOf(2), { takesClear: false }).removals).toEqual([[removal], []])
})

test('a host that comes back while its key is still taken goes on without a handshake', () => {
  const site = new Site()
  site.pass(hostsOf(2))
  site.device.change(key(4), { lastHandshake: site.now })
  site.pass(hostsOf(2))
  site.pass([])
  site.now += LINGER - 1
  const step = site.pass(hostsOf(2))
  expect(step).toMatchObject({ operations: [[], []], removals: [[], []], isTrying: false, repairs: 0 })
  expect(wayTo(step, 2)).toMatchObject({ kind: 'tunnel' })
  // The time begins anew.
  site.now += 1
  expect(site.pass([]).removals).toEqual([[], []])
})

test('a stranger among the peers is removed, and a host that is gone, but not before its packets are', () => {
  const site = new Site()
  site.pass(hostsOf(2, 3))
  const step = site.pass(hostsOf(2))
  expect(step.operations).toEqual([[], []])
  expect(step.removals).toEqual([[{ kind: 'remove-peer', publicKey: key(6) }], []])
})

test('a device that was made again gets its peers at once, and no packet goes in clear', () => {
  const site = new Site()
  const hosts = hostsOf(2)
  site.pass(hosts)
  site.device.change(key(4), { lastHandshake: site.now })
  site.pass(hosts)
  const step = site.pass(hosts, { devices: [new Device(9).observed(), undefined] })
  expect(step.operations[0]).toMatchObject([{ kind: 'set-peer', keepalive: KEEPALIVE }])
  expect(wayTo(step, 2)).toMatchObject({ kind: 'tunnel', link: 9 })
})

test('a session that carries nothing any more is begun anew, but not for one packet', () => {
  const site = new Site()
  const hosts = hostsOf(2)
  site.pass(hosts)
  site.device.change(key(4), { lastHandshake: site.now, sent: 100n, received: 100n })
  site.pass(hosts)
  site.now += 200_000
  site.device.change(key(4), { sent: 200n })
  expect(site.pass(hosts).operations[0]).toEqual([])
  site.now += 10_000
  expect(site.pass(hosts).operations[0]).toEqual([])
  site.now += 5001
  expect(site.pass(hosts).operations[0]).toMatchObject([{ kind: 'remove-peer' }, { kind: 'set-peer' }])
  expect(wayTo(site.pass(hosts), 2)).toMatchObject({ kind: 'tunnel' })
})

test('the pair of a host that changes its keys moves to the other device, and back to none in clear', () => {
  const site = new Site()
  const before = hostsOf(2)
  site.pass(before)
  site.device.change(key(4), { lastHandshake: site.now })
  site.pass(before)
  const second = new Device(8)
  const moved = tunnelHosts([[peer(2, announcement(2, { turn: 1 }))]], []).hosts
  const pass = () => {
    const step = site.pass(moved, { devices: [site.device.observed(), second.observed()] })
    second.apply(step.operations[1])
    return step
  }
  expect(wayTo(pass(), 2)).toMatchObject({ link: 7 })
  second.change(key(5), { lastHandshake: site.now })
  const step = pass()
  expect(wayTo(step, 2)).toMatchObject({ link: 8 })
  expect(step.removals[0]).toEqual([])
  site.now += 30_001
  expect(pass().removals[0]).toEqual([{ kind: 'remove-peer', publicKey: key(4) }])
})

/** A host of the model, with its own view of the others. */
class ModelHost {
  keys: [number, number]
  turn = 0
  since = 0
  isLeaving = false
  changingSince: number | undefined
  readonly devices = [new Device(1), new Device(2)] as const
  readonly heard = new Map<number, WireguardAnnouncement>()
  readonly ways = new Map<number, Slot>()
  #memories = NO_MEMORIES

  constructor(readonly number: number) {
    this.keys = [number * 1000, number * 1000 + 1]
  }

  get announced(): WireguardAnnouncement {
    return { turn: this.turn, port: 51_820, keys: [key(this.keys[0]), key(this.keys[1])] }
  }

  pass(now: number): void {
    const peers = [...this.heard].map(([number, announced]) => peer(number, announced))
    const { hosts } = tunnelHosts([peers], this.announced.keys)
    const step = planTunnels({
      hosts,
      turn: this.turn,
      isBehindNat: false,
      takesClear: true,
      devices: [this.devices[0].observed(), this.devices[1].observed()],
      memories: this.#memories,
      now,
    })
    for (const slot of SLOTS) this.devices[slot].apply([...step.operations[slot], ...step.removals[slot]])
    this.#memories = step.memories
    this.changingSince = step.isChanging ? (this.changingSince ?? now) : undefined
    for (const number of this.heard.keys()) {
      const way = wayTo(step, number)
      if (way?.kind === 'tunnel') this.ways.set(number, way.link === 1 ? 0 : 1)
      else if (this.ways.has(number)) throw new Error(`${this.number} sends to ${number} in clear again`)
    }
  }
}

type Action = readonly ['hear' | 'pass' | 'shake' | 'move' | 'rest' | 'wait', number, number]

class Model {
  readonly hosts: readonly ModelHost[]
  now = 10_000_000
  #nextKey = 100_000

  constructor(size: number) {
    this.hosts = Array.from({ length: size }, (_, i) => new ModelHost(i + 2))
  }

  run([kind, i, j]: Action): void {
    const [a, b] = [this.hosts[i % this.hosts.length], this.hosts[j % this.hosts.length]]
    if (a === undefined || b === undefined) throw new Error('no such host')
    this.now += 200
    if (kind === 'hear' && a !== b) a.heard.set(b.number, b.announced)
    if (kind === 'pass') a.pass(this.now)
    if (kind === 'shake' && a !== b) for (const slot of SLOTS) this.#shake(a, b, slot)
    if (kind === 'move') this.#rotate(a, true)
    if (kind === 'rest') this.#rest()
    if (kind === 'wait') this.#wait()
    this.#check()
  }

  /** A handshake succeeds where both have each other. */
  #shake(a: ModelHost, b: ModelHost, slot: Slot): void {
    const [toB, toA] = [b.announced.keys[slot], a.announced.keys[slot]]
    if (!a.devices[slot].peers.has(toB) || !b.devices[slot].peers.has(toA)) return
    a.devices[slot].change(toB, { lastHandshake: this.now })
    b.devices[slot].change(toA, { lastHandshake: this.now })
  }

  /** A long time in which everybody hears, handshakes and passes. */
  #rest(): void {
    for (let round = 0; round < 4; round += 1) {
      for (const a of this.hosts)
        for (const b of this.hosts) {
          if (a === b) continue
          a.heard.set(b.number, b.announced)
          for (const slot of SLOTS) this.#shake(a, b, slot)
        }
      for (const host of this.hosts) {
        host.pass(this.now)
        this.#check()
      }
      this.now += 200
    }
    this.#wait()
  }

  /** A long time without news and handshakes: etcd is away. */
  #wait(): void {
    for (const time of [0, FOLLOW_TIME]) {
      this.now += time
      for (const host of this.hosts) {
        host.pass(this.now)
        this.#check()
      }
    }
    for (const host of this.hosts) this.#rotate(host, false)
  }

  #rotate(host: ModelHost, isAsked: boolean): void {
    const others = [...host.heard.values()].map(({ turn }) => turn)
    const { turn, since, isLeaving } = host
    const { changingSince } = host
    const inputs = {
      turn,
      since,
      isLeaving,
      changingSince,
      others,
      maxAge: undefined,
      isAsked,
      now: this.now,
    }
    const step = planRotation(inputs)
    if (step === undefined) return
    if (step.kind === 'move') Object.assign(host, { turn: step.turn, since: this.now, isLeaving: true })
    else {
      host.isLeaving = false
      host.keys[slotOf(host.turn) === 0 ? 1 : 0] = this.#nextKey
      this.#nextKey += 1
    }
  }

  /** Each packet that is sent through a tunnel arrives, and its source is allowed. */
  #check(): void {
    for (const a of this.hosts)
      for (const b of this.hosts) {
        const slot = a.ways.get(b.number)
        if (slot === undefined) continue
        const sent = a.devices[slot].peers.get(b.announced.keys[slot])
        const received = b.devices[slot].peers.get(a.announced.keys[slot])
        const isAllowed = (of: typeof sent, number: number): boolean =>
          of?.allowedIps.some(({ address }) => address === ip(`192.168.77.${number}`)) === true
        if (!isAllowed(sent, b.number) || !isAllowed(received, a.number))
          throw new Error(`a packet from ${a.number} to ${b.number} through slot ${slot} is lost`)
      }
  }
}

/**
 * The second host knows the first one by turn 0 and tries it by turn 1. The first host would move to turn 2,
 * and both handshakes would succeed at once: the one by turn 0 would look like one by turn 2.
 */
const MOVE_WHILE_A_HANDSHAKE_IS_AWAITED: readonly Action[] = [
  ['hear', 1, 0],
  ['pass', 1, 0],
  ['move', 1, 0],
  ['hear', 0, 1],
  ['wait', 0, 0],
  ['move', 0, 0],
  ['pass', 0, 0],
  ['shake', 0, 1],
  ['wait', 0, 0],
]

test('whatever the order of news, handshakes, passes and changes of keys: nothing is lost or in clear', () => {
  const action = fc.tuple(
    fc.oneof(
      { weight: 3, arbitrary: fc.constant('hear') },
      { weight: 6, arbitrary: fc.constant('pass') },
      { weight: 4, arbitrary: fc.constant('shake') },
      { weight: 1, arbitrary: fc.constant('move') },
      { weight: 1, arbitrary: fc.constant('rest') },
      { weight: 1, arbitrary: fc.constant('wait') },
    ),
    fc.nat(5),
    fc.nat(5),
  ) as fc.Arbitrary<Action>
  fc.assert(
    fc.property(
      fc.integer({ min: 2, max: 3 }),
      fc.boolean(),
      fc.array(action, { minLength: 60, maxLength: 60 }),
      (size, isNew, actions) => {
        const model = new Model(size)
        if (!isNew) model.run(['rest', 0, 0])
        for (const each of actions) model.run(each)
        // In the end all are encrypted.
        model.run(['rest', 0, 0])
        model.run(['rest', 0, 0])
        for (const host of model.hosts) expect(host.ways.size).toBe(size - 1)
      },
    ),
    { numRuns: 60, examples: [[2, true, [...MOVE_WHILE_A_HANDSHAKE_IS_AWAITED]]] },
  )
})
