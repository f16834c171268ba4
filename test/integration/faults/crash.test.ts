/**
 * The daemon is killed at any moment of its life, again and again, while peers come, change and go.
 * Containers of this host and of others stay reachable, and in the end the kernel has what etcd says.
 * `scripts/soak` does a thousand kills.
 */
import { setTimeout as pause } from 'node:timers/promises'
import { holdsPeer, tracesOf } from '../../lab/kernel-view'
import { Lab } from '../../lab/lab'
import { fakePeer } from '../../lab/leases'
import { patient } from '../../lab/patience'
import { Random } from '../../lab/random'

/** Number of kills. The same seed kills at the same moments. */
const ROUNDS = Number(process.env['OVERLAYD_CRASHES'] ?? 30)
const SEED = Number(process.env['OVERLAYD_SEED'] ?? Date.now() % 1e9)
/** Milliseconds; a start takes about 300. */
const LONGEST_LIFE = 600
jest.setTimeout(patient(60_000 + ROUNDS * 3000))

/** Where most peers leave soon after one another, hosts would keep them for a minute. */
const options = { flags: { 'peer-removal-grace': '0' } }

let lab: Lab

beforeAll(async () => {
  lab = await Lab.create({ hosts: 3 })
  for (const host of lab.hosts) host.start(options)
  await lab.waitConverged()
})
afterAll(() => lab?.close())

test(`${ROUNDS} kills at random moments (seed ${SEED}) cost no packet and leave nothing`, async () => {
  const random = new Random(SEED)
  const victim = lab.host(1)
  const containers = await Promise.all(lab.hosts.map((host) => host.addContainer()))
  const [first, second, third] = containers
  if (first === undefined || second === undefined || third === undefined)
    throw new Error('a container is missing')
  const pings = [await lab.startPing(second, first), await lab.startPing(third, second)]
  const present = new Set<number>()
  for (let round = 0; round < ROUNDS; round++) {
    if (victim.running) await victim.stop('SIGKILL')
    victim.start(options)
    const end = pause(random.fraction() * LONGEST_LIFE)
    for (let change = 0; change < 3; change++) {
      const number = random.integer(0, 19)
      if (present.has(number) && random.chance(0.5)) {
        await lab.deletePeer(fakePeer(number))
        present.delete(number)
      } else {
        const peer = fakePeer(number)
        const other = { ...peer, mac: peer.mac.replace('4e:00', '4e:01') }
        await lab.putPeers(random.chance(0.3) ? other : peer)
        present.add(number)
      }
    }
    await end
    if (random.chance(0.3)) victim.daemon.signal('SIGTERM')
  }
  if (victim.running) await victim.stop('SIGKILL')
  for (const number of present) await lab.putPeers(fakePeer(number))
  victim.start(options)
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
