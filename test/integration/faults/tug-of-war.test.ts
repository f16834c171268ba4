/**
 * A program undoes the daemon's work again and again. The daemon repairs less and less often, says so, and
 * wins in the end.
 */
import { holdsPeer } from '../../lab/kernel-view'
import { Host, Lab } from '../../lab/lab'
import { type FakePeer, fakePeer } from '../../lab/leases'
import { inNamespace } from '../../lab/namespace'
import { patient } from '../../lab/patience'
import { LongProcess } from '../../lab/process'

jest.setTimeout(patient(180_000))

const PEER = fakePeer(0)
const route = PEER.subnet.replace('-', '/')

let lab: Lab
const rivals: LongProcess[] = []

beforeAll(async () => {
  lab = await Lab.create({ hosts: 2 })
  await lab.putPeers(PEER)
  for (const host of lab.hosts) host.start()
  await lab.waitConverged(1)
})
afterAll(async () => {
  await Promise.all(rivals.map((rival) => rival.stop('SIGKILL')))
  await lab?.close()
})

/** Runs a command a hundred times a second, until the caller stops the loop. */
function startRival(host: Host, command: string): LongProcess {
  const script = `while :; do ${command} 2>/dev/null; sleep 0.01; done`
  const rival = new LongProcess(`a rival on ${host.name}`, inNamespace(host.namespace, ['sh', '-c', script]))
  rivals.push(rival)
  return rival
}

test('it is damped, named while it lasts, and over when the other program ends', async () => {
  await Promise.all([
    fight(1, fakePeer(1), `ip route delete ${route}`, `the route to ${route}`),
    fight(2, fakePeer(2), `ip link set ${Host.device} mtu 1400`, `the device ${Host.device}`),
  ])
})

/** One contest from its start to its end. A peer joins in the middle. */
async function fight(number: number, other: FakePeer, command: string, what: string): Promise<void> {
  const host = lab.host(number)
  const mtu = (await host.link()).mtu
  const written = host.daemon.output.length
  const rival = startRival(host, command)
  const status = await host.waitForStatus(
    'the fight is named, and has slowed down',
    ({ convergence }) =>
      convergence.contested?.some((each) => each.what === what && each.times >= 22) === true,
    60_000,
  )
  expect(status).toMatchObject({ state: 'degraded' })
  expect(status.problems.join()).toContain(`another program changes ${what} again and again: put right`)
  // All other work goes on meanwhile, without a delay.
  await lab.putPeers(other)
  await host.waitForKernel('a peer that joins', (view) =>
    view.routes.some((line) => line.startsWith(other.subnet.replace('-', '/'))),
  )
  await host.exec('ip', 'neigh', 'delete', other.subnet.replace('-24', ''), 'dev', Host.device)
  await host.waitForKernel('other drift repaired', (view) => holdsPeer(view, other))

  await rival.stop('SIGKILL')
  await host.waitUntil(
    'all is right',
    async () => holdsPeer(await host.kernel(), PEER) && (await host.link()).mtu === mtu,
    30_000,
  )
  const over = await host.waitForStatus('it is over', ({ state }) => state === 'healthy', 90_000)
  expect(over.convergence.contested).toBeUndefined()
  const lines = host.daemon.output
    .slice(written)
    .split('\n')
    .filter((line) => !line.includes(' debug '))
  expect(lines.length).toBeLessThan(100)
}
