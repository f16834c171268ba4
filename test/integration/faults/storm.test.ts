/** Tens of thousands of notifications that do not concern the daemon neither kill nor starve the daemon. */
import { readFileSync } from 'node:fs'
import { holdsPeer } from '../../lab/kernel-view'
import { type Host, Lab } from '../../lab/lab'
import { fakePeer, manyPeers } from '../../lab/leases'
import { ipBatch } from '../../lab/namespace'
import { patient } from '../../lab/patience'
import type { LongProcess } from '../../lab/process'

jest.setTimeout(patient(180_000))

const EVENTS = 50_000
let lab: Lab
let host: Host

beforeAll(async () => {
  lab = await Lab.create({ hosts: 1 })
  host = lab.host(1)
  await ipBatch(host.namespace, ['link add noise type veth peer name noise-peer', 'link set noise up'])
  await lab.putPeers(...manyPeers(50, 0x0a05_c800))
  host.start()
  await lab.waitConverged(50)
})
afterAll(() => lab?.close())

/**
 * Makes about the given number of notifications: addresses, routes and neighbours of another link come and
 * go.
 */
function storm(events = EVENTS): Promise<void> {
  const lines = Array.from({ length: events / 8 }, (_, i) => {
    const tail = `${(i >> 8) & 255}.${i & 255}`
    const route = `route add 198.18.${tail}/32 dev noise`
    const neighbour = `neigh replace 198.19.${tail} lladdr 02:00:00:00:00:09 dev noise nud permanent`
    const address = `address add 198.51.${tail}/32 dev noise`
    // An address brings a local route with it: eight notifications in all.
    const delAddress = `address delete 198.51.${tail}/32 dev noise`
    return [
      route,
      `route delete 198.18.${tail}/32 dev noise`,
      neighbour,
      `neigh delete 198.19.${tail} dev noise`,
      address,
      delAddress,
    ]
  }).flat()
  return ipBatch(host.namespace, lines)
}

/** CPU time of a process, in milliseconds. /proc counts in hundredths of a second. */
function cpu(process: LongProcess): number {
  const fields = readFileSync(`/proc/${process.pid}/stat`, 'utf8').split(') ')[1]?.split(' ') ?? []
  return 10 * (Number(fields[11]) + Number(fields[12]))
}

test('a storm on another link: a peer that joins meanwhile is programmed, and status answers', async () => {
  const peer = fakePeer(0)
  const [started, used] = [performance.now(), cpu(host.daemon)]
  let raging = true
  const rage = storm().finally(() => {
    raging = false
  })
  await lab.putPeers(peer)
  await host.waitForKernel('the peer', (view) => holdsPeer(view, peer))
  const inTheMiddle = raging
  const asked = performance.now()
  await host.waitForStatus('an answer', () => true)
  const answered = performance.now() - asked
  await rage
  await lab.waitConverged(51)
  const took = performance.now() - started
  process.stdout.write(
    `storm: ${EVENTS} events in ${took.toFixed(0)} ms, peer programmed ${inTheMiddle ? 'during' : 'after'} it, status in ${answered.toFixed(0)} ms, ${cpu(host.daemon) - used} ms of CPU\n`,
  )
  expect(cpu(host.daemon) - used).toBeLessThan(took)
})

test('a storm in our own place is bounded by the spacing of passes', async () => {
  const used = cpu(host.daemon)
  const written = host.daemon.output.length
  const started = performance.now()
  const lines = Array.from({ length: 10_000 }, (_, i) => {
    const subnet = `10.5.${i % 250}.0/24`
    return [
      `route add ${subnet} dev noise metric ${i + 100}`,
      `route delete ${subnet} dev noise metric ${i + 100}`,
    ]
  }).flat()
  await ipBatch(host.namespace, lines)
  await lab.waitConverged(51)
  const took = performance.now() - started
  const passes = host.daemon.output.slice(written).split('compared everything').length - 1
  process.stdout.write(
    `storm in our place: 20000 events in ${took.toFixed(0)} ms, ${passes} passes, ${cpu(host.daemon) - used} ms of CPU\n`,
  )
  expect(passes).toBeLessThan(took / 50 + 5)
})

test('a queue that overflows is noticed, and answered by comparing everything', async () => {
  const peer = fakePeer(0)
  const written = host.daemon.output.length
  // The process reads nothing, so the queue fills.
  host.daemon.signal('SIGSTOP')
  try {
    for (let i = 0; i < 4; i += 1) await storm(100_000)
    await host.exec('ip', 'route', 'delete', peer.subnet.replace('-', '/'))
  } finally {
    host.daemon.signal('SIGCONT')
  }
  await host.waitForKernel(
    'the route that went while nobody listened',
    (view) => holdsPeer(view, peer),
    30_000,
  )
  await host.daemon.waitForOutput(/notifications were lost/, { from: written, timeoutMs: 30_000 })
  await lab.waitConverged(51)
  const lost = host.daemon.output.slice(written).split('notifications were lost').length - 1
  expect(lost).toBeLessThan(5)
})
