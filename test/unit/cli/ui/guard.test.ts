/** Who gets the page, and where it is served. */
import { judgeRequest, makeToken } from '../../../../src/cli/ui/guard'
import { parseListen, urlOf, warningsFor } from '../../../../src/cli/ui/listen'

const TOKEN = makeToken()
const LOOPBACK = { ip: '127.0.0.1', port: 8080 }
const judge = (fields: object, listen = LOOPBACK) =>
  judgeRequest({ method: 'GET', url: `/${TOKEN}/`, host: '127.0.0.1:8080', ...fields }, TOKEN, listen)

test('a token is long, safe in a URL, and another one each time', () => {
  expect(TOKEN).toMatch(/^[\w-]{32}$/)
  expect(makeToken()).not.toBe(TOKEN)
})

test('whoever knows the token gets page and events', () => {
  expect(judge({})).toEqual({ kind: 'page' })
  expect(judge({ method: 'HEAD' })).toEqual({ kind: 'page' })
  expect(judge({ url: `/${TOKEN}/events` })).toEqual({ kind: 'events' })
})

test.each([
  ['no path', { url: undefined }, 403],
  ['no token', { url: '/' }, 403],
  ['another token', { url: `/${TOKEN.slice(1)}x/` }, 403],
  ['a beginning of the token', { url: `/${TOKEN.slice(0, -1)}/` }, 403],
  ['the token in a query', { url: `/?${TOKEN}` }, 403],
  ['another path', { url: `/${TOKEN}/metrics` }, 404],
  ['the token without a slash', { url: `/${TOKEN}` }, 404],
  ['another method', { method: 'POST' }, 405],
  ['no host', { host: undefined }, 421],
  ['a name that points here', { host: 'evil.example:8080' }, 421],
  ['a name that ends like an address', { host: '127.0.0.1.evil.example' }, 421],
  ['a name that begins like localhost', { host: 'localhost.evil.example' }, 421],
  ['an address that is not served', { host: '192.0.2.1:8080' }, 421],
  ['a user before the host', { host: 'a@127.0.0.1:8080' }, 421],
  ['brackets around a name', { host: '[evil.example]' }, 421],
])('%s is refused, and the answer says what to do', (_, fields, status) => {
  expect(judge(fields)).toEqual({ kind: 'refused', status, why: expect.stringMatching(/\w{3} .* \w/) })
})

test('a host that is refused does not learn whether its token is right', () => {
  const wrong = judge({ host: 'evil.example', url: '/x/' })
  expect(judge({ host: 'evil.example' })).toEqual(wrong)
})

test.each(['localhost:8080', 'LOCALHOST', '127.0.0.1', '127.1.2.3:1', '[::1]:9000', '127.0.0.1:9999'])(
  'through a tunnel the host is %s',
  (host) => {
    expect(judge({ host })).toEqual({ kind: 'page' })
  },
)

test('on another address, that address will do; on all addresses, any, but no name', () => {
  expect(judge({ host: '192.0.2.1:8080' }, { ip: '192.0.2.1', port: 8080 })).toEqual({ kind: 'page' })
  expect(judge({ host: '192.0.2.2:8080' }, { ip: '192.0.2.1', port: 8080 })).toMatchObject({ status: 421 })
  expect(judge({ host: '[2001:DB8::1]:8080' }, { ip: '2001:db8::1', port: 8080 })).toEqual({ kind: 'page' })
  for (const ip of ['0.0.0.0', '::']) {
    expect(judge({ host: '192.0.2.2:8080' }, { ip, port: 8080 })).toEqual({ kind: 'page' })
    expect(judge({ host: 'host7:8080' }, { ip, port: 8080 })).toMatchObject({ status: 421 })
  }
})

test('--listen takes an address and a port', () => {
  expect(parseListen('127.0.0.1:0')).toEqual({ ip: '127.0.0.1', port: 0 })
  expect(parseListen('[::1]:8080')).toEqual({ ip: '::1', port: 8080 })
  expect(urlOf({ ip: '::1', port: 80 }, 'x')).toBe('http://[::1]:80/x/')
})

test.each([
  '',
  '8080',
  ':8080',
  '127.0.0.1',
  '127.0.0.1:',
  '127.0.0.1:65536',
  '::1:80',
  '[127.0.0.1]:80',
  'a:80',
])('--listen=%s is refused, with its value and the fix', (text) => {
  expect(() => parseListen(text)).toThrow(
    expect.objectContaining({ message: expect.stringContaining(`"${text}"`) }),
  )
})

test('only an address that others reach is warned of', () => {
  for (const ip of ['127.0.0.1', '127.0.0.2', '::1']) expect(warningsFor({ ip, port: 1 })).toEqual([])
  for (const ip of ['192.0.2.1', '0.0.0.0', '::', 'fd00::1'])
    expect(warningsFor({ ip, port: 1 }).join()).toMatch(/plain HTTP .*token.* ssh -L/)
})
