import { type Job, Loop, type Next } from '../../../../src/daemon/loop/loop'
import type { Logger } from '../../../../src/daemon/tell/logger'
import { OverlayError } from '../../../../src/model/errors'

const NEVER: Next = { due: Number.POSITIVE_INFINITY }
const failure = (message = 'etcd is away', fix?: string) => new OverlayError('test', message, fix)

let stop: AbortController
let lines: string[]
/** When each pass began, in milliseconds since the start of the loop. */
let passes: number[]
/** The outcomes of the next passes; the last one is repeated. */
let outcomes: (() => Next | Promise<Next>)[]
let started: number
let ended: Promise<unknown>

beforeEach(() => {
  jest.useFakeTimers()
  jest.spyOn(Math, 'random').mockReturnValue(0.5)
  stop = new AbortController()
  lines = []
  passes = []
  outcomes = [() => NEVER]
})
afterEach(async () => {
  stop.abort()
  await ended
  jest.restoreAllMocks()
  jest.useRealTimers()
})

/** A loop whose passes do what {@link outcomes} says. */
function start(job: Partial<Job> = {}): Loop {
  const note = (level: string) => (text: string) => void lines.push(`${level} ${text}`)
  const log = { info: note('info'), warn: note('warn') } as unknown as Logger
  const pass = async (): Promise<Next> => {
    passes.push(performance.now() - started)
    const [outcome] = outcomes.length > 1 ? outcomes.splice(0, 1) : outcomes
    return (outcome as () => Next | Promise<Next>)()
  }
  const loop = new Loop({ name: 'test', pass, ...job }, log)
  started = performance.now()
  ended = loop.run(stop.signal).catch((error: unknown) => error)
  return loop
}

const throws = (error: unknown) => () => {
  throw error
}
const inMilliseconds = (milliseconds: number) => () => ({ due: performance.now() + milliseconds })
const advance = (milliseconds: number) => jest.advanceTimersByTimeAsync(milliseconds)

test('a pass is repeated when it is due, the first one after its own delay', async () => {
  outcomes = [inMilliseconds(100), inMilliseconds(50), () => NEVER]
  start({ first: 10 })
  await advance(10_000)
  expect(passes).toEqual([10, 110, 160])
})

test('a pass that fails is retried with backoff and jitter, and one success ends the backoff', async () => {
  outcomes = [throws(failure()), throws(failure()), throws(failure()), inMilliseconds(1), throws(failure())]
  const loop = start({ retry: { first: 100, most: 200 } })
  await advance(225)
  expect(passes).toEqual([0, 75, 225])
  expect(loop.problem).toBe('etcd is away')
  jest.spyOn(Math, 'random').mockReturnValue(0)
  // The delay after the third failure was chosen with the former random value.
  await advance(150)
  expect(passes.slice(3)).toEqual([375])
  expect(loop.problem).toBeUndefined()
  await advance(51)
  expect(passes.slice(4)).toEqual([376, 426])
})

test('the backoff begins anew after a pass that worked for long before it failed', async () => {
  const failsAfter = (milliseconds: number) => () =>
    new Promise<Next>((_resolve, reject) => setTimeout(() => reject(failure()), milliseconds))
  outcomes = [throws(failure()), failsAfter(1000), failsAfter(1001), () => NEVER]
  start({ retry: { first: 100, most: 10_000 }, good: 1000 })
  await advance(10_000)
  expect(passes).toEqual([0, 75, 75 + 1000 + 150, 1225 + 1001 + 75])
})

test('a defect ends the loop, and is not a problem to be retried', async () => {
  const defect = new TypeError('a bug')
  outcomes = [throws(defect)]
  const loop = start()
  await advance(60_000)
  expect(await ended).toBe(defect)
  expect(passes).toEqual([0])
  expect(loop.problem).toBeUndefined()
  expect(lines).toEqual([])
})

test.each<[string, Partial<Job>]>([
  ['waits', { first: 1000 }],
  ['backs off', {}],
])('an abort while the loop %s ends it without an error', async (what, job) => {
  outcomes = [throws(failure())]
  start(job)
  await advance(1)
  const before = passes.length
  expect(before).toBe(what === 'waits' ? 0 : 1)
  stop.abort()
  expect(await ended).toBeUndefined()
  await advance(60_000)
  expect(passes).toHaveLength(before)
})

test.each<[string, unknown]>([
  ['its reason', new Error('aborted')],
  ['a failure', failure()],
])('an abort during a pass that then throws %s ends the loop without an error', async (_what, error) => {
  outcomes = [
    () => {
      stop.abort()
      throw error
    },
  ]
  start()
  await advance(60_000)
  expect(await ended).toBeUndefined()
  expect(passes).toEqual([0])
  expect(lines).toEqual([])
})

test('wakes of one change cause one pass, after the settle time', async () => {
  const loop = start({ settle: 20 })
  await advance(1000)
  loop.wake()
  await advance(10)
  loop.wake()
  await advance(1000)
  expect(passes).toEqual([0, 1020])
})

test('a wake during a pass causes another pass', async () => {
  let finish: (next: Next) => void = () => undefined
  outcomes = [() => new Promise<Next>((resolve) => (finish = resolve)), () => NEVER]
  const loop = start({ settle: 20 })
  await advance(100)
  loop.wake()
  await advance(100)
  expect(passes).toEqual([0])
  finish(NEVER)
  await advance(1000)
  expect(passes).toEqual([0, 200])
})

test('a wake waits for the end of the spacing, and for the end of the backoff', async () => {
  outcomes = [() => ({ ...NEVER, earliest: performance.now() + 300 }), throws(failure()), () => NEVER]
  const loop = start({ retry: { first: 1000, most: 1000 } })
  await advance(100)
  loop.wake()
  await advance(200)
  expect(passes).toEqual([0, 300])
  loop.wake()
  await advance(1000)
  expect(passes).toEqual([0, 300, 1050])
})

test('without a wake no pass is due before its spacing is over', async () => {
  outcomes = [() => ({ due: performance.now(), earliest: performance.now() + 300 }), () => NEVER]
  start()
  await advance(1000)
  expect(passes).toEqual([0, 300])
})

test('a pass can be requested for a time, in spite of spacing, backoff and a failing pass', async () => {
  let fail: (error: unknown) => void = () => undefined
  outcomes = [
    () => ({ ...NEVER, earliest: performance.now() + 300 }),
    throws(failure()),
    () => new Promise<Next>((_resolve, reject) => (fail = reject)),
    () => NEVER,
  ]
  const loop = start({ retry: { first: 1000, most: 1000 } })
  await advance(10)
  loop.by(performance.now() + 20)
  await advance(20)
  expect(passes).toEqual([0, 30])
  loop.by(performance.now())
  await advance(10)
  expect(passes).toEqual([0, 30, 30])
  loop.by(performance.now() + 5)
  fail(failure())
  await advance(100)
  expect(passes).toEqual([0, 30, 30, 45])
})

test('the first failure and the first success after it are logged, the others are not', async () => {
  outcomes = [
    throws(failure('etcd is away', 'start it')),
    throws(failure('etcd is away', 'start it')),
    throws(failure('etcd is full')),
    inMilliseconds(1),
    () => NEVER,
  ]
  const loop = start()
  await advance(1)
  expect(lines).toEqual(['warn test: etcd is away; start it; trying again'])
  expect(loop.problem).toBe('etcd is away; start it')
  await advance(60_000)
  expect(lines).toEqual(['warn test: etcd is away; start it; trying again', 'info test: works again'])
  expect(passes).toHaveLength(5)
})

test('a job may have messages of its own', async () => {
  const messages: unknown[] = []
  outcomes = [throws(failure('one')), throws(failure('two')), () => NEVER]
  const loop = start({
    describe: ({ message }) => `<${message}>`,
    failed: (problem, before) => messages.push([problem, before]),
    recovered: () => messages.push('recovered'),
  })
  await advance(1)
  expect(loop.problem).toBe('<one>')
  await advance(60_000)
  expect(messages).toEqual([['<one>', undefined], ['<two>', '<one>'], 'recovered'])
  expect(lines).toEqual([])
})

test('a failure before the start counts like one of a pass', async () => {
  const loop = new Loop({ name: 'test', pass: async () => NEVER, first: 60_000 }, {
    warn: (text: string) => void lines.push(text),
    info: (text: string) => void lines.push(text),
  } as unknown as Logger)
  loop.fail(failure())
  expect(loop.problem).toBe('etcd is away')
  ended = loop.run(stop.signal)
  await advance(149)
  expect(loop.problem).toBe('etcd is away')
  await advance(1)
  expect(loop.problem).toBeUndefined()
  expect(lines).toEqual(['test: etcd is away; trying again', 'test: works again'])
})
