/** The witness of most tests of traffic: it counts what a fault costs, and nothing else. */
import { execOk, ipBatch } from '../../lab/namespace'
import { RunningPing } from '../../lab/ping'
import { Pending, waitFor } from '../../lab/wait'

const [NEAR, FAR] = ['ping-near', 'ping-far']
const ADDRESS = '192.0.2.2'
let running: RunningPing

beforeAll(async () => {
  await ipBatch(undefined, [`netns add ${NEAR}`, `netns add ${FAR}`])
  await ipBatch(NEAR, [
    `link add eth0 type veth peer name eth0 netns ${FAR}`,
    'address add 192.0.2.1/24 dev eth0',
    'link set eth0 up',
  ])
  await ipBatch(FAR, [`address add ${ADDRESS}/24 dev eth0`, 'link set eth0 up'])
})
afterAll(() => ipBatch(undefined, [`netns delete ${NEAR}`, `netns delete ${FAR}`]))

beforeEach(async () => {
  running = await RunningPing.start(NEAR, ADDRESS)
})
afterEach(async () => {
  running.kill()
  await execOk(FAR, ['nft', 'flush', 'ruleset'])
})

/** Drops all pings, and counts them. */
const cut = () =>
  execOk(FAR, ['nft', '-f', '-'], {
    input: `table ip cut {
      counter pings {}
      chain in {
        type filter hook input priority 0;
        icmp type echo-request counter name pings drop
      }
    }`,
  })

/** How many pings were dropped. */
async function dropped(): Promise<number> {
  const shown = await execOk(FAR, ['nft', 'list', 'counter', 'ip', 'cut', 'pings'])
  return Number(/packets (\d+)/.exec(shown)?.[1])
}

/** Waits until some pings were dropped. */
const waitDropped = () =>
  waitFor('20 dropped pings', async () => {
    const packets = await dropped()
    return packets >= 20 ? packets : new Pending(`${packets}`)
  })

const mend = () => execOk(FAR, ['nft', 'delete', 'chain', 'ip', 'cut', 'in'])

test('counts nothing without a fault', async () => {
  const { sent, lost } = await running.stop()
  expect(sent).toBeGreaterThan(10)
  expect(lost).toBe(0)
})

test('counts each ping that a fault drops, and none after it', async () => {
  await cut()
  await waitDropped()
  await mend()
  const { lost } = await running.stop()
  expect(lost).toBe(await dropped())
})

test('counts the pings of a fault that lasts to the end', async () => {
  await cut()
  await waitDropped()
  const { lost } = await running.stop()
  // The last ping may be on its way when ping stops.
  expect(lost).toBeGreaterThanOrEqual((await dropped()) - 1)
})
