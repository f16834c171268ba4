/** Errors of one bundle of the package are known in another, which has classes of its own. */
import { readdirSync, readFileSync } from 'node:fs'
import { join, resolve } from 'node:path'
import { describeError, isOverlayError } from '../../../src/model/errors'
import { isUsageError } from '../../../src/options/usage-error'

type Errors = typeof import('../../../src/model/errors')
type UsageErrors = typeof import('../../../src/options/usage-error')

/** The modules as another bundle has them: loaded for a second time. */
function loadAgain(): Errors & UsageErrors {
  let loaded: (Errors & UsageErrors) | undefined
  jest.isolateModules(() => {
    loaded = { ...require('../../../src/model/errors'), ...require('../../../src/options/usage-error') }
  })
  if (loaded === undefined) throw new Error('jest loaded nothing')
  return loaded
}

test('an error of another bundle keeps its fix, and a usage error is one', () => {
  const other = loadAgain()
  const error = new other.OverlayError('etcd-down', 'etcd is down', 'start it')
  expect(error).not.toBeInstanceOf(require('../../../src/model/errors').OverlayError)
  expect([isOverlayError(error), isUsageError(error)]).toEqual([true, false])
  expect(describeError(error)).toBe('etcd is down; start it')
  expect(isUsageError(new other.UsageError('the flag --x is wrong'))).toBe(true)
})

test('errors of Node are not ours, though they have a code', () => {
  expect(isOverlayError(Object.assign(new Error('no such file'), { code: 'ENOENT' }))).toBe(false)
  expect([isOverlayError(undefined), isUsageError({ code: 'usage' })]).toEqual([false, false])
})

test('nothing in src asks for the class of such an error', () => {
  const src = resolve(__dirname, '../../../src')
  const files = readdirSync(src, { recursive: true, encoding: 'utf8' }).filter((file) => file.endsWith('.ts'))
  const asking = files.filter((file) =>
    /\binstanceof (OverlayError|UsageError)\b/.test(readFileSync(join(src, file), 'utf8')),
  )
  expect(files.length).toBeGreaterThan(500)
  expect(asking).toEqual([])
})
