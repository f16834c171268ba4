import { ConfigFollower } from '../../../../src/daemon/node/config-follower'
import type { Logger } from '../../../../src/daemon/tell/logger'
import { OverlayError } from '../../../../src/model/errors'

const lines: string[] = []
const log = {
  warn: (text: string) => lines.push(`warn ${text}`),
  info: (text: string) => lines.push(`info ${text}`),
} as unknown as Logger
const never = new AbortController().signal
const applies = async () => undefined
beforeEach(() => lines.splice(0))

test('the text in use causes no attempt', () => {
  const follower = new ConfigFollower('a', log)
  follower.receive('a', 5)
  expect(follower.due).toBe(Number.POSITIVE_INFINITY)
})

test('another text is applied once, and is then in use', async () => {
  const follower = new ConfigFollower('a', log)
  follower.receive('b', 5)
  expect(follower.due).toBe(5)
  expect(await follower.attempt(applies, never)).toBe(true)
  expect(follower.textInUse).toBe('b')
  expect(follower.due).toBe(Number.POSITIVE_INFINITY)
  expect(lines).toEqual([])
})

test('a failure is logged once, retried with a growing delay, and ended by a success', async () => {
  const follower = new ConfigFollower('a', log)
  follower.receive('b', 5)
  const fails = () => Promise.reject(new OverlayError('mtu-refused', 'too large'))
  const delays: number[] = []
  for (let i = 0; i < 4; i++) {
    expect(await follower.attempt(fails, never)).toBe(false)
    delays.push(follower.due - performance.now())
  }
  expect(delays[3]).toBeGreaterThan(delays[0] ?? Number.NaN)
  expect(follower.problem).toContain('too large')
  expect(follower.textInUse).toBe('a')
  expect(await follower.attempt(applies, never)).toBe(true)
  expect(follower.problem).toBeUndefined()
  expect(lines).toEqual([
    expect.stringMatching(/^warn config: .*too large/),
    'info config: the config in etcd is in use',
  ])
})

test('a text is tried when its attempt has ended, applied or not', async () => {
  const follower = new ConfigFollower('a', log)
  expect(follower.isTried).toBe(true)
  follower.receive('b', 5)
  expect(follower.isTried).toBe(false)
  const refuses = async (): Promise<never> => {
    expect(follower.isTried).toBe(false)
    throw new OverlayError('mtu-refused', 'too large')
  }
  await follower.attempt(refuses, never)
  expect(follower).toMatchObject({ isTried: true, isInUse: false })
  follower.receive('c', 5)
  await follower.attempt(async () => {
    follower.receive('d', 5)
    return undefined
  }, never)
  expect(follower.isTried).toBe(false)
  await follower.attempt(applies, never)
  expect(follower).toMatchObject({ isTried: true, isInUse: true, textInUse: 'd' })
})

test('an attempt that is given up has not tried its text', async () => {
  const follower = new ConfigFollower('a', log)
  follower.receive('b', 5)
  const end = new AbortController()
  const givesUp = async (): Promise<never> => {
    end.abort()
    throw end.signal.reason
  }
  await follower.attempt(givesUp, end.signal)
  expect(follower.isTried).toBe(false)
})

test('a text that cannot be applied is not retried; another text is', async () => {
  const follower = new ConfigFollower('a', log)
  follower.receive('b', 5)
  expect(await follower.attempt(async () => 'it needs a restart', never)).toBe(false)
  expect(follower).toMatchObject({ problem: 'it needs a restart', textInUse: 'a' })
  expect(follower.due).toBe(Number.POSITIVE_INFINITY)
})

test('a deleted config is a problem, until the same text is back', async () => {
  const follower = new ConfigFollower('a', log)
  follower.receive(undefined, 5)
  expect(await follower.attempt(applies, never)).toBe(false)
  expect(follower).toMatchObject({ textInUse: 'a', problem: expect.stringContaining('was deleted') })
  follower.receive('a', 6)
  expect(await follower.attempt(applies, never)).toBe(false)
  expect(follower.problem).toBeUndefined()
})

test('a text that arrives during a failing attempt is due at once', async () => {
  const follower = new ConfigFollower('a', log)
  follower.receive('b', 5)
  await follower.attempt(() => {
    follower.receive('c', 6)
    return Promise.reject(new OverlayError('mtu-refused', 'too large'))
  }, never)
  expect(follower.due).toBe(6)
})

test('a defect is thrown; an abort causes no error', async () => {
  const follower = new ConfigFollower('a', log)
  follower.receive('b', 5)
  await expect(follower.attempt(() => Promise.reject(new TypeError('defect')), never)).rejects.toThrow(
    'defect',
  )
  const ended = AbortSignal.abort(new Error('end'))
  follower.receive('c', 6)
  expect(await follower.attempt(() => Promise.reject(ended.reason), ended)).toBe(false)
})
