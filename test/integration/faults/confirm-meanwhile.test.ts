/**
 * etcd confirms the peers of a state file while a pass is under way. A pass sees one target from end to end:
 * what the confirmed peers do not want is removed by the next pass, and is no repair.
 */
import { operationName } from '../../../src/model/kernel/objects'
import type { Revision } from '../../../src/model/lease'
import { patient } from '../../lab/patience'
import { changingLease } from '../../support/changing-lease'
import { removeDevice, run } from '../kernel/network'
import { infoLines, kernelOfFile, makeReconciler, recordingKernel } from './reconciler-site'

jest.setTimeout(patient(60_000))

const kernel = kernelOfFile()
afterEach(() => removeDevice(kernel()))

/** A reconciler with the peers of a state file, on a kernel that calls back before it answers. */
async function unconfirmed() {
  const { kernel: calling, operations, before } = recordingKernel(kernel())
  const { log, lines } = infoLines()
  const { peers, reconciler } = await makeReconciler(calling, { unconfirmed: true, log })
  reconciler.peersChanged(peers.reset([changingLease(0, 1, 0x0a050a00)], []), 1n as Revision)
  const { signal } = new AbortController()
  /** One pass over everything: the names of its operations, and its lines about repairs. */
  const pass = async () => {
    operations.length = 0
    lines.length = 0
    await reconciler.syncAll(signal)
    const repairs = lines.filter((line) => line.includes('put right'))
    return { done: operations.map(operationName), repairs }
  }
  return { reconciler, pass, before }
}

/** Gives the device a route and an FDB entry of a peer that is in no state file. */
function addStranger(): void {
  run('bridge fdb add 02:00:00:00:00:99 dst 192.0.2.99 dev flannel.1')
  run('ip route add 10.5.99.0/24 via 10.5.99.0 dev flannel.1 onlink proto 79')
}
const STRANGER_GOES = ['delete-route', 'delete-fdb']

test('a pass that is under way goes on as it began, and the next one removes', async () => {
  const { reconciler, pass, before } = await unconfirmed()
  await pass()
  addStranger()
  run('ip route del 10.5.10.0/24')
  // The confirmation comes in the middle of the pass. The last slices of the pass compare objects of nobody.
  before.apply = () => reconciler.confirm()
  expect((await pass()).done).toEqual(['set-route'])
  delete before.apply
  expect(await pass()).toEqual({ done: STRANGER_GOES, repairs: [] })
})

test('a removal is no repair, even if etcd confirmed while the device was corrected', async () => {
  const { reconciler, pass, before } = await unconfirmed()
  await pass()
  addStranger()
  before.addresses = () => reconciler.confirm()
  expect(await pass()).toEqual({ done: [], repairs: [] })
  delete before.addresses
  expect(await pass()).toEqual({ done: STRANGER_GOES, repairs: [] })
})

test('the kernel has not converged before the pass that removes has ended', async () => {
  const { reconciler, pass, before } = await unconfirmed()
  const converged: boolean[] = []
  const look = () => converged.push(reconciler.convergence.converged)
  await pass()
  look()
  addStranger()
  reconciler.confirm()
  look()
  before.apply = look
  expect((await pass()).done).toEqual(STRANGER_GOES)
  look()
  expect([converged[0], ...new Set(converged.slice(1, -1)), converged.at(-1)]).toEqual([true, false, true])
})
