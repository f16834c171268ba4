import fc from 'fast-check'
import { FULL, UNTRIED } from '../../../../src/plan/probing/path-mtu'
import {
  afterOutcome,
  type Fate,
  lossOf,
  type Outcome,
  type PeerProbe,
  type ReachNews,
  UNPROBED,
} from '../../../../src/plan/probing/peer-probe'

const LOST: Fate = { kind: 'lost' }
const answered = (rttMs: number | undefined): Fate => ({ kind: 'answered', rttMs })
const outcome = (overlay: boolean, underlay: boolean): Outcome => ({
  overlay: overlay ? answered(1) : LOST,
  underlay: underlay ? answered(1) : LOST,
})

function play(outcomes: readonly Outcome[], from: PeerProbe = UNPROBED) {
  let probe = from
  const news: (ReachNews | undefined)[] = []
  for (const [at, each] of outcomes.entries()) {
    const next = afterOutcome(probe, each, at)
    probe = next.probe
    news.push(next.news)
  }
  return { probe, news }
}

test.each<[string, Outcome[], object, (ReachNews | undefined)[]]>([
  ['one answer', [outcome(true, true)], { kind: 'answering' }, [undefined]],
  [
    'two losses',
    [outcome(false, true), outcome(false, true)],
    { kind: 'suspect', lost: 2 },
    [undefined, undefined],
  ],
  [
    'three losses while the underlay answers',
    [outcome(false, true), outcome(false, true), outcome(false, true)],
    { kind: 'unreachable', layer: 'overlay', since: 2 },
    [undefined, undefined, 'unreachable'],
  ],
  [
    'three losses on both layers',
    [outcome(false, false), outcome(false, false), outcome(false, false)],
    { kind: 'unreachable', layer: 'underlay', since: 2 },
    [undefined, undefined, 'unreachable'],
  ],
  [
    'a dead peer whose underlay comes back, and then its overlay',
    [
      ...[outcome(false, false), outcome(false, false), outcome(false, false)],
      ...[outcome(false, true), outcome(false, false), outcome(true, true)],
    ],
    { kind: 'answering' },
    [undefined, undefined, 'unreachable', 'layer', undefined, 'reachable'],
  ],
])('%s', (_what, outcomes, reach, news) => {
  const end = play(outcomes)
  expect(end.probe.reach).toEqual(reach)
  expect(end.news).toEqual(news)
})

test('for any outcomes: unreachable means the last three were lost, answering means the last was not', () => {
  const outcomes = fc.array(fc.record({ overlay: fc.boolean(), underlay: fc.boolean() }), { minLength: 1 })
  fc.assert(
    fc.property(outcomes, (list) => {
      const { probe, news } = play(list.map(({ overlay, underlay }) => outcome(overlay, underlay)))
      const last = list.slice(-3).map(({ overlay }) => overlay)
      const isLost = last.length === 3 && !last.includes(true)
      expect(probe.reach.kind === 'unreachable').toBe(isLost)
      expect(probe.reach.kind === 'answering').toBe(last.at(-1))
      if (probe.reach.kind === 'unreachable' && probe.reach.layer === 'overlay')
        expect(list.slice(-3).some(({ underlay }) => underlay)).toBe(true)
      // News of a peer take turns: nobody hears twice that it is unreachable.
      const told = news.filter((each) => each === 'unreachable' || each === 'reachable')
      expect(told.every((each, i) => each === (i % 2 === 0 ? 'unreachable' : 'reachable'))).toBe(true)
      const recent = list.slice(-32).map(({ overlay }) => overlay)
      expect(lossOf(probe.overlay)).toBeCloseTo(recent.filter((each) => !each).length / recent.length)
    }),
  )
})

test('the round trip is smoothed, and one that is not known changes nothing', () => {
  const round = (rttMs: number | undefined): Outcome => ({ overlay: answered(rttMs), underlay: LOST })
  const { probe } = play([
    round(undefined),
    round(8),
    round(16),
    { ...round(1), overlay: answered(undefined) },
  ])
  expect(probe.overlay.rttMs).toBe(9)
  expect(probe.underlay).toMatchObject({ rttMs: undefined, answeredAt: undefined })
  expect(
    play([{ overlay: { kind: 'answered', rttMs: undefined }, underlay: LOST }]).probe.overlay.rttMs,
  ).toBe(undefined)
})

test('a lost large packet counts only beside a small one that was answered', () => {
  const large = (isAnswered: boolean): NonNullable<Outcome['large']> => ({
    family: 'IPv4',
    size: 1450,
    full: 1450,
    fate: isAnswered ? { kind: 'answered', rttMs: 1 } : { kind: 'lost' },
  })
  expect(play([{ ...outcome(false, true), large: large(false) }]).probe.path).toBe(UNTRIED)
  const lost: Outcome = { ...outcome(true, true), large: large(false) }
  expect(play([lost, lost]).probe.path).toMatchObject({ kind: 'full', losses: 2 })
  expect(play([lost, lost, { ...outcome(true, true), large: large(true) }]).probe.path).toBe(FULL)
  expect(play([lost, lost, lost]).probe.path).toMatchObject({ kind: 'searching' })
})
