/**
 * Peers come, go and change, and all of them are listed again, while a pass over everything is under way:
 * nothing is lost, and who stays is left alone.
 */
import { formatIp, ipv4 } from '../../../src/model/address'
import { operationName } from '../../../src/model/kernel/objects'
import { describeSubject } from '../../../src/model/kernel/words'
import type { Lease, Revision } from '../../../src/model/lease'
import { patient } from '../../lab/patience'
import { Pending, waitFor } from '../../lab/wait'
import { changingLease } from '../../support/changing-lease'
import { net } from '../../unit/plan/support'
import { run } from '../kernel/network'
import {
  expectedObjects,
  infoLines,
  kernelOfFile,
  makeReconciler,
  recordingKernel,
  shownObjects,
} from './reconciler-site'

jest.setTimeout(patient(120_000))

const kernel = kernelOfFile()

const PEERS = 2000
/** Peers whose number is a multiple of it never change. */
const CONSTANT = 4

const leaseOf = (number: number, generation: number) => changingLease(number, generation, 0x0a010000)

const everyone = (generation: number): Lease[] =>
  Array.from({ length: PEERS }, (_, number) => leaseOf(number, number % CONSTANT === 0 ? 0 : generation))

test('what comes during a pass is seen in it or after it', async () => {
  const { kernel: recording, operations } = recordingKernel(kernel())
  const { log, lines } = infoLines()
  const { peers, reconciler } = await makeReconciler(recording, {
    config: { Network: '10.0.0.0/8', SubnetLen: 24 },
    subnet: net('10.255.1.0/24'),
    blackhole: true,
    log,
  })
  const end = new AbortController()

  let revision = 1
  /**
   * Changes some peers, those of the next part of the pass and those of an earlier one, in each turn of the
   * event loop.
   */
  async function meanwhile(pass: Promise<void>): Promise<number> {
    let isOver = false
    const over = pass.finally(() => {
      isOver = true
    })
    let turns = 0
    for (; !isOver; turns += 1) {
      revision += 1
      const number = (turns * 37) % PEERS
      const changes =
        turns % 50 === 49
          ? peers.reset(everyone(revision), [])
          : number % CONSTANT === 0
            ? []
            : turns % 3 === 0
              ? peers.remove(`peer${number}`)
              : peers.put(leaseOf(number, revision))
      reconciler.peersChanged(changes, BigInt(revision) as Revision)
      await new Promise(setImmediate)
    }
    await over
    return turns
  }

  reconciler.peersChanged(peers.reset(everyone(1), []), 1n as Revision)
  expect(await meanwhile(reconciler.syncAll(end.signal))).toBeGreaterThan(10)
  // An object of nobody goes. An object that somebody removed comes back, and only that repair is logged.
  run('ip route add 10.254.0.0/24 via 10.254.0.0 dev flannel.1 onlink')
  run('ip route del 10.1.0.0/24')
  lines.length = 0
  expect(await meanwhile(reconciler.syncAll(end.signal))).toBeGreaterThan(5)
  expect(lines.filter((line) => line.includes('put right'))).toEqual([expect.stringContaining('and 1 more')])

  const wanted = expectedObjects(peers)
  const running = reconciler.run(end.signal, { every: 1000, tell: () => undefined })
  try {
    await waitFor(
      'the last change to be in the kernel',
      () => {
        const { converged, revision: reached } = reconciler.convergence
        return (converged && reached === BigInt(revision)) || new Pending(`${reached} of ${revision}`)
      },
      { timeoutMs: 20_000, intervalMs: 1 },
    )
    // The kernel has what the convergence says.
    expect(shownObjects()).toEqual(wanted)
  } finally {
    end.abort()
    await running
  }

  // The blackhole, which is on no device, and the peers that never changed were set once; the route that was
  // taken away twice.
  const of = (address: string) =>
    operations
      .map((operation) => `${operationName(operation)}: ${describeSubject(operation)}`)
      .filter((text) => text.includes(address))
  expect(of('10.255.1.0/24')).toHaveLength(1)
  expect(of('10.1.0.0/24')).toHaveLength(2)
  for (let number = CONSTANT; number < PEERS; number += 20 * CONSTANT) {
    const address = formatIp(ipv4(0x0a010000 + number * 256))
    expect(of(`${address}/24`)).toEqual([`set-route: the route to ${address}/24`])
  }
})
