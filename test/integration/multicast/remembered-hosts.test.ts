/** The keeper of multicast while etcd answers for the first time since a start from the state file. */
import winston from 'winston'
import { MulticastKeeper, type MulticastTarget } from '../../../src/daemon/multicast/multicast-keeper'
import type { Kernel } from '../../../src/kernel/kernel'
import { formatIp } from '../../../src/model/address'
import { multicastLinkName } from '../../../src/plan/reconcile/desired'
import { patient } from '../../lab/patience'
import { Pending, waitFor } from '../../lab/wait'
import { ip, net } from '../../unit/plan/support'
import {
  linkSpec,
  makeUnderlay,
  openKernel,
  removeDevice,
  removeUnderlay,
  reported,
  requireSandbox,
  run,
} from '../kernel/network'

jest.setTimeout(patient(30_000))

const NAME = multicastLinkName(1)
const log = winston.createLogger({ silent: true })
const [ONE, TWO] = [ip('192.0.2.7'), ip('192.0.2.8')]

let kernel: Kernel
let link: MulticastTarget['link']

beforeAll(async () => {
  requireSandbox()
  makeUnderlay()
  kernel = await openKernel()
  link = await linkSpec(kernel, { name: NAME, vni: 2 })
})
afterAll(async () => {
  await removeDevice(kernel, NAME)
  kernel?.close()
  removeUnderlay()
  expect(reported).toEqual([])
})

const targetOf = (...addresses: readonly (typeof ONE)[]): MulticastTarget => ({
  link,
  networks: [net('10.5.0.0/16')],
  subnets: [net('10.5.7.0/24')],
  hosts: new Map(addresses.map((address) => [address, { vni: 2, tells: [], groups: [], via: 0 }])),
  limit: undefined,
})

/**
 * Runs a keeper until it has made a pass.
 * @param isRemembered whether the hosts are those of the state file; etcd answers right after the keeper has
 * read them then
 */
async function pass(target: MulticastTarget, isRemembered = false): Promise<void> {
  const controller = new AbortController()
  const distrust = () => ({ why: undefined, until: Number.POSITIVE_INFINITY })
  let hasAnswered = !isRemembered
  const view = {
    target: () => {
      queueMicrotask(() => {
        hasAnswered = true
      })
      return target
    },
    isRemembered: () => !hasAnswered,
    distrust,
    name: NAME,
    bridgesChanged: () => undefined,
  }
  const keeper = new MulticastKeeper(kernel, view, log)
  const running = keeper.run(controller.signal)
  try {
    await waitFor('a pass', () => keeper.plan !== undefined || new Pending(`${keeper.problem}`))
  } finally {
    controller.abort()
    await running
  }
}

/** The addresses that frames to everybody are sent to. */
const destinations = (): string[] =>
  [...run(`bridge fdb show dev ${NAME}`).matchAll(/^00:00:00:00:00:00 dst (\S+)/gm)]
    .map(([, address = '']) => address)
    .sort()

test('a host that the state file does not know still gets copies when etcd answers in the middle of the pass', async () => {
  const both = [ONE, TWO].map(formatIp)
  await pass(targetOf(ONE, TWO))
  expect(destinations()).toEqual(both)
  // The state file is older.
  await pass(targetOf(ONE), true)
  expect(destinations()).toEqual(both)
  // By what etcd says, the host is gone.
  await pass(targetOf(ONE))
  expect(destinations()).toEqual([formatIp(ONE)])
})
