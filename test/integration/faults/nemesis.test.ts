/**
 * A few rounds of the nemesis: random faults on four hosts, which are healthy again after each round.
 * `scripts/nemesis` runs any number of rounds, or repeats one round that failed here. The message of a
 * failure has the command.
 */
import { patient } from '../../lab/patience'
import { FAULTS } from '../../nemesis/faults'
import { runNemesis, summaryOf } from '../../nemesis/run'

/**
 * The seed of the faults. Each run has the same faults, so that a change of the code is the cause of a
 * failure.
 */
const SEED = Number(process.env['OVERLAYD_SEED'] ?? 32079)
const ROUNDS = 4
const LONGEST = 3000
jest.setTimeout(patient(60_000 + ROUNDS * 150_000))

test(`${ROUNDS} rounds of faults (seed ${SEED}) leave nothing that is not healed`, async () => {
  const lines: string[] = []
  const outcome = await runNemesis({
    seed: SEED,
    from: 1,
    rounds: ROUNDS,
    hosts: 4,
    members: 3,
    longest: LONGEST,
    healWithin: patient(90_000),
    kinds: FAULTS.filter(({ impossible }) => impossible() === undefined),
    print: (line) => lines.push(line),
  })
  process.stdout.write(`nemesis, seed ${SEED}: ${summaryOf(outcome)}\n`)
  expect(outcome.failures).toEqual([])
  expect(outcome).toMatchObject({ rounds: ROUNDS, pings: { lost: 0 } })
  expect(outcome.pings.sent).toBeGreaterThan(ROUNDS * 100)
})
