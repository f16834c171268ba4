import { Writable } from 'node:stream'
import { createLogger } from '../../../src/daemon/logger'

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

test('one line per event, with the time; under journald without', () => {
  const [line] = lines(0, false, (log) => log.info('ready'))
  expect(line).toMatch(/^\d{4}-\d\d-\d\dT[\d:.]+Z info {2}ready$/)
  expect(lines(0, true, (log) => log.warn('careful'))).toEqual(['warn  careful'])
})

test('verbosity opens levels', () => {
  const count = (verbosity: number): number =>
    lines(verbosity, true, (log) => {
      log.info('a')
      log.debug('b')
      log.silly('c')
    }).length
  expect([count(0), count(1), count(2), count(10)]).toEqual([1, 2, 3, 3])
})

test('text from outside stays on its line', () => {
  expect(lines(0, true, (log) => log.info('a\nerror faked\u001b[2J'))).toEqual([
    'info  a\\x0aerror faked\\x1b[2J',
  ])
})
