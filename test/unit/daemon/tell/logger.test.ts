import { fstatSync } from 'node:fs'
import { Writable } from 'node:stream'
import { createLogger } from '../../../../src/daemon/tell/logger'
import { isUnderJournald } from '../../../../src/host/streams'

function lines(
  verbosity: number,
  underJournald: boolean,
  write: (log: ReturnType<typeof createLogger>) => void,
): string[] {
  const chunks: string[] = []
  const stream = new Writable({
    write(chunk, _encoding, done) {
      chunks.push(String(chunk))
      done()
    },
  })
  write(createLogger(verbosity, { underJournald, stream }))
  return chunks.join('').split('\n').filter(Boolean)
}

test('a line has a time stamp, except under journald', () => {
  const [line] = lines(0, false, (log) => log.info('ready'))
  expect(line).toMatch(/^\d{4}-\d\d-\d\dT[\d:.]+Z info {2}ready$/)
  expect(lines(0, true, (log) => log.warn('careful'))).toEqual(['warn  careful'])
})

test('each step of verbosity adds a level', () => {
  const count = (verbosity: number): number =>
    lines(verbosity, true, (log) => {
      log.info('a')
      log.debug('b')
      log.silly(() => 'c')
    }).length
  expect([count(0), count(1), count(2), count(10)]).toEqual([1, 2, 3, 3])
})

test('a detail is worded only where its line is wanted', () => {
  let worded = 0
  const detail = (): string => {
    worded += 1
    return 'kernel: route added'
  }
  expect(lines(1, true, (log) => log.silly(detail))).toEqual([])
  expect(worded).toBe(0)
  expect(lines(2, true, (log) => log.silly(detail))).toEqual(['silly kernel: route added'])
})

test('text from outside cannot start a new line', () => {
  expect(lines(0, true, (log) => log.info('a\nerror faked\u001b[2J'))).toEqual([
    'info  a\\x0aerror faked\\x1b[2J',
  ])
})

describe('a flood', () => {
  beforeEach(() => jest.useFakeTimers({ doNotFake: ['nextTick', 'setImmediate', 'queueMicrotask'] }))
  afterEach(() => jest.useRealTimers())

  test.each<[string, (log: ReturnType<typeof createLogger>, i: number) => void]>([
    ['of lines of one kind', (log, i) => log.info(`lease: ${i} is ours again`, { kind: 'lease-regained' })],
    ['of lines without a kind', (log, i) => log.warn(`config: ${i}`)],
    ['of lines with text of others', (log, i) => log.warn(`x${i}y`)],
    ['of debug lines', (log, i) => log.debug(`peer joined: ${i}`)],
  ])('%s is bounded, and the log states how many lines were omitted', (_, flood) => {
    const written = lines(1, true, (log) => {
      for (let i = 0; i < 20_000; i++) flood(log, i)
      log.info('ready: another one')
      jest.advanceTimersByTime(60_000)
    })
    expect(written.length).toBeLessThan(1100)
    expect(written).toContain('info  ready: another one')
    const left = written.flatMap(
      (line) => /(\d+) more lines like this one were left out/.exec(line)?.[1] ?? [],
    )
    expect(left.map(Number).reduce((sum, each) => sum + each, 0)).toBe(
      20_000 + 1 - (written.length - left.length),
    )
  })

  test('is followed by a notice with the number of omitted lines', () => {
    const written = lines(0, true, (log) => {
      for (let i = 0; i < 50; i++) log.info(`peers: ${i}`)
      jest.setSystemTime(Date.now() + 30_000)
      jest.advanceTimersByTime(30_000)
    })
    expect(written.at(-1)).toMatch(
      /^info {2}30 more lines like this one were left out of the log: peers: \d+$/,
    )
  })

  test('a long line is cut', () => {
    expect(lines(0, true, (log) => log.info(`peers: ${'x'.repeat(100_000)}`)).join().length).toBeLessThan(
      2100,
    )
  })
})

test('the journal gets the priority of each line', () => {
  const chunks: string[] = []
  const stream = new Writable({
    write(chunk, _encoding, done) {
      chunks.push(String(chunk))
      done()
    },
  })
  const log = createLogger(2, { underJournald: true, prefixed: true, stream })
  log.error('a\n<0>b')
  log.warn('c')
  log.info('d')
  log.debug('e')
  log.silly(() => 'f')
  expect(chunks.join('')).toBe('<3>error a\\x0a<0>b\n<4>warn  c\n<6>info  d\n<7>debug e\n<7>silly f\n')
})

test('standard error counts as the journal only if it is the stream in JOURNAL_STREAM', () => {
  const { dev, ino } = fstatSync(2)
  expect(isUnderJournald({})).toBe(false)
  expect(isUnderJournald({ JOURNAL_STREAM: '8:123' })).toBe(false)
  expect(isUnderJournald({ JOURNAL_STREAM: `${dev}:${ino}` })).toBe(true)
})
