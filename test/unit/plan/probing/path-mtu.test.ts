/**
 * The search for the path MTU of a peer: it ends with the true one, and no loss of another cause begins it.
 */
import fc from 'fast-check'
import {
  afterTrial,
  FULL,
  nextTrial,
  type PathMtu,
  RECHECK,
  remembered,
  routeMtu,
  SMALLEST_MTU,
} from '../../../../src/plan/probing/path-mtu'

const LINK = 1450

/** Trials over a path that carries packets of up to `carried` bytes, one a second. */
class Path {
  now = 1_000_000
  state: PathMtu = FULL
  trials = 0
  readonly sizes: number[] = []

  constructor(public carried: number) {}

  /** @param isAlive whether any packet gets through */
  try(isAlive = true): void {
    const { size } = nextTrial(this.state, LINK, this.now)
    this.sizes.push(size)
    this.trials += 1
    const isAnswered = isAlive && size <= this.carried
    const result = { size, isAnswered, isSmallAnswered: isAlive }
    this.state = afterTrial(this.state, 'IPv4', LINK, result, this.now)
    this.now += 1000
  }

  get mtu(): number {
    return routeMtu(this.state, LINK)
  }

  settle(): void {
    do this.try()
    while (this.state.kind === 'searching' || (this.state.kind === 'full' && this.state.losses > 0))
  }
}

test('any path MTU is found within 40 packets, and taken back when the path recovers', () => {
  fc.assert(
    fc.property(fc.integer({ min: SMALLEST_MTU.IPv4, max: LINK - 1 }), (carried) => {
      const path = new Path(carried)
      path.settle()
      expect(path.mtu).toBe(carried)
      expect(path.trials).toBeLessThanOrEqual(40)
      path.carried = LINK
      path.now += RECHECK
      path.try()
      expect(path.state).toEqual(FULL)
    }),
  )
})

test('a path that narrows further is searched again, with the former MTU meanwhile', () => {
  const path = new Path(1350)
  path.settle()
  path.carried = 1200
  for (let i = 0; i < 3; i += 1) path.try()
  expect(path.state).toMatchObject({ kind: 'searching', held: 1350 })
  expect(path.mtu).toBe(1350)
  path.settle()
  expect(path.mtu).toBe(1200)
})

test('a path that widens a little is seen when full packets are tried again', () => {
  const path = new Path(1200)
  path.settle()
  path.carried = 1400
  path.now += RECHECK
  path.try()
  expect(path.mtu).toBe(1200)
  expect(path.state.kind).toBe('limited')
})

test('a peer that answers nothing has no smaller path MTU, whatever is lost in which order', () => {
  fc.assert(
    fc.property(fc.array(fc.boolean(), { maxLength: 60 }), (alive) => {
      const path = new Path(LINK)
      for (const isAlive of alive) path.try(isAlive)
      expect(path.mtu).toBe(0)
    }),
  )
})

test('a peer that dies in the middle of a search keeps the sizes that were proven', () => {
  const path = new Path(1350)
  for (let i = 0; i < 6; i += 1) path.try()
  const before = path.state
  expect(before.kind).toBe('searching')
  for (let i = 0; i < 20; i += 1) path.try(false)
  expect(path.state).toEqual(before)
  path.settle()
  expect(path.mtu).toBe(1350)
})

test('where not even the smallest size gets through, nothing is changed, and it is tried again later', () => {
  const path = new Path(300)
  path.settle()
  expect(path.state.kind).toBe('hopeless')
  expect(path.mtu).toBe(0)
  path.try()
  expect(path.state.kind).toBe('hopeless')
  path.now += RECHECK
  path.carried = 1000
  path.settle()
  expect(path.mtu).toBe(1000)
})

test('an MTU of an earlier run is used from the start, and full packets are tried at once', () => {
  const path = new Path(1350)
  path.state = remembered(1350, path.now)
  expect(path.mtu).toBe(1350)
  path.try()
  expect(path.sizes).toEqual([LINK])
  expect(path.mtu).toBe(1350)
  path.now += RECHECK - 2000
  path.try()
  expect(path.sizes).toEqual([LINK, 1350])
})

test('a link that became narrower than the path needs no MTU on the route', () => {
  expect(routeMtu(remembered(1400, 0), 1400)).toBe(0)
  expect(routeMtu(remembered(1400, 0), 1350)).toBe(0)
  expect(routeMtu(remembered(1340, 0), 1350)).toBe(1340)
})

test('a lost packet of a size that is not asked for changes nothing', () => {
  const path = new Path(1350)
  for (let i = 0; i < 5; i += 1) path.try()
  const result = { size: 999, isAnswered: false, isSmallAnswered: true }
  expect(afterTrial(path.state, 'IPv4', LINK, result, path.now)).toBe(path.state)
})
