import { retrying } from '../../../../src/daemon/loop/retrying'
import type { Logger } from '../../../../src/daemon/tell/logger'
import { EtcdError } from '../../../../src/etcd/client/errors'

const away = new EtcdError('etcd-unreachable', 'etcd is away', { fix: 'start it' })
const never = new AbortController().signal

/** Repeats an attempt with the given outcomes. */
function repeat(outcomes: readonly unknown[], signal = never) {
  const lines: string[] = []
  const failures: EtcdError[] = []
  const log = { warn: (text: string) => void lines.push(text) } as unknown as Logger
  const left = [...outcomes]
  const attempt = async (): Promise<unknown> => {
    const outcome = left.shift()
    if (outcome instanceof Error) throw outcome
    return outcome
  }
  const failed = (error: EtcdError): void => void failures.push(error)
  const how = { name: 'lease', retry: { first: 1, most: 2 }, most: 3, failed, log }
  const result = retrying(how, attempt, signal).catch((error: unknown) => error)
  return { result, lines, failures, left }
}

test('an attempt that etcd does not answer is repeated', async () => {
  const { result, lines, failures } = repeat([away, away, 'lease'])
  expect(await result).toBe('lease')
  expect(failures).toEqual([away, away])
  expect(lines).toEqual([
    'lease: etcd is away; start it; trying again',
    'lease: etcd is away; start it; trying again',
  ])
})

test('the last failure is thrown after the given number of failures', async () => {
  const last = new EtcdError('etcd-timeout', 'too late')
  const { result, failures, left } = repeat([away, away, last, 'lease'])
  expect(await result).toBe(last)
  expect(failures).toHaveLength(2)
  expect(left).toEqual(['lease'])
})

test('any other error is thrown at once', async () => {
  const defect = new TypeError('a bug')
  const { result, lines } = repeat([defect, 'lease'])
  expect(await result).toBe(defect)
  expect(lines).toEqual([])
})

test('the signal ends the wait', async () => {
  const stop = new AbortController()
  stop.abort(new Error('stopped'))
  expect(await repeat([away, 'lease'], stop.signal).result).toMatchObject({ name: 'AbortError' })
})
