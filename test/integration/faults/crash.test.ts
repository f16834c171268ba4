/**
 * A daemon that is killed at any moment of its life, again and again, while peers come, change and go: its containers and those of others are
 * reached all the time, and in the end its kernel is what etcd says. `scripts/soak` does it a thousand times.
 */
import { setTimeout as pause } from 'node:timers/promises'
import { holdsPeer, tracesOf } from '../../support/kernel-view'
import { Lab } from '../../support/lab'
import { fakePeer } from '../../support/leases'

/** How often, and which moments: the same seed kills at the same ones. */
const ROUNDS = Number(process.env['OVERLAYD_CRASHES'] ?? 30)
const SEED = Number(process.env['OVERLAYD_SEED'] ?? Date.now() % 1e9)
/** Milliseconds; a start takes about 300. */
const LONGEST_LIFE = 600
jest.setTimeout(60_000 + ROUNDS * 3000)

let lab: Lab

beforeAll(async () => {
  lab = await Lab.create({ hosts: 3 })
  await lab.startAll()
})
afterAll(() => lab?.close())

/** Uniform numbers in [0, 1): mulberry32. */
function randomFrom(seed: number): () => number {
  let state = seed
  return () => {
    state = (state + 0x6d2b79f5) | 0
    let mixed = Math.imul(state ^ (state >>> 15), state | 1)
    mixed = (mixed + Math.imul(mixed ^ (mixed >>> 7), mixed | 61)) ^ mixed
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32
  }
}

test(`killed ${ROUNDS} times at moments by chance (seed ${SEED}), it costs no packet, and nothing is left over`, async () => {
  const random = randomFrom(SEED)
  const victim = lab.host(1)
  const containers = await Promise.all(lab.hosts.map((host) => host.addContainer()))
  const [first, second, third] = containers
  if (first === undefined || second === undefined || third === undefined)
    throw new Error('a container is missing')
  const pings = [await lab.startPing(second, first), await lab.startPing(third, second)]
  const present = new Set<number>()
  for (let round = 0; round < ROUNDS; round++) {
    if (victim.running) await victim.stop('SIGKILL')
    victim.start()
    const end = pause(random() * LONGEST_LIFE)
    for (let change = 0; change < 3; change++) {
      const number = Math.floor(random() * 20)
      if (present.has(number) && random() < 0.5) {
        await lab.deletePeer(fakePeer(number))
        present.delete(number)
      } else {
        const peer = fakePeer(number)
        const other = { ...peer, mac: peer.mac.replace('4e:00', '4e:01') }
        await lab.putPeers(random() < 0.3 ? other : peer)
        present.add(number)
      }
    }
    await end
    if (random() < 0.3) victim.daemon.signal('SIGTERM')
  }
  if (victim.running) await victim.stop('SIGKILL')
  for (const number of present) await lab.putPeers(fakePeer(number))
  victim.start()
  await lab.waitConverged(present.size)
  const view = await victim.kernel()
  for (let number = 0; number < 20; number++) {
    if (present.has(number)) expect([number, holdsPeer(view, fakePeer(number))]).toEqual([number, true])
    else expect(tracesOf(view, fakePeer(number))).toEqual([])
  }
  expect([view.routes.length, view.neighbours.length, view.fdb.length]).toEqual(
    Array.from({ length: 3 }, () => present.size + 2),
  )
  for (const ping of pings) expect((await ping.stop()).lost).toBe(0)
})
