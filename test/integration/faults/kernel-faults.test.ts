/**
 * Any answer of the kernel may be a failure, with any errno, before or after the operation was done. Once the
 * kernel answers correctly again, all objects are as wanted.
 */
import type { Revision } from '../../../src/model/lease'
import { patient } from '../../lab/patience'
import { Random } from '../../lab/random'
import { Pending, waitFor } from '../../lab/wait'
import { changingLease } from '../../support/changing-lease'
import { faultyKernel } from '../../support/faulty-kernel'
import { existing } from '../kernel/network'
import { expectedObjects, kernelOfFile, makeReconciler, shownObjects } from './reconciler-site'

jest.setTimeout(patient(120_000))

const kernel = kernelOfFile()

const leaseOf = (number: number, generation: number) => changingLease(number, generation, 0x0a050a00)

test.each([0.05, 0.3])('with a share of %d that fails, through 300 changes of peers', async (rate) => {
  const random = Random.byChance('kernel faults')
  const { kernel: faulty, faults } = faultyKernel(kernel(), () => random.fraction())
  const { link, peers, reconciler } = await makeReconciler(faulty)
  const stopListening = kernel().onChange((change) => reconciler.kernelChanged(change))
  const end = new AbortController()
  const running = reconciler.run(end.signal, { every: 1000, tell: () => undefined })
  try {
    faults.rate = rate
    for (let generation = 0; generation < 300; generation++) {
      const number = random.integer(0, 39)
      const changes = random.chance(0.3)
        ? peers.remove(`peer${number}`)
        : peers.put(leaseOf(number, generation))
      reconciler.peersChanged(changes, BigInt(generation + 1) as Revision)
      if (generation % 10 === 0) await new Promise(setImmediate)
    }
    await waitFor('something to fail', () => faults.count > 0 || new Pending(`${faults.count}`))
    faults.rate = 0
    await waitFor(
      'convergence',
      () =>
        reconciler.convergence.converged ||
        new Pending(
          JSON.stringify(reconciler.convergence, (_, value) =>
            typeof value === 'bigint' ? `${value}` : value,
          ),
        ),
      { timeoutMs: 60_000 },
    )
    expect(shownObjects()).toEqual(expectedObjects(peers))
    expect(await existing(kernel(), 'flannel.1')).toMatchObject({ up: true, mac: link.mac, mtu: link.mtu })
  } finally {
    end.abort()
    await running
    stopListening()
  }
})
