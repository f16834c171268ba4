import { EtcdError, toEtcdError } from '../../../src/etcd/errors'
import { describeError } from '../../../src/model/errors'

const context = { doing: 'read the leases', endpoint: 'http://192.0.2.1:2379' }

test.each([
  [
    '14 UNAVAILABLE: No connection established. Last error: Error: connect ECONNREFUSED 127.0.0.1:1. Resolution note: ',
    'etcd-unreachable',
    'connect ECONNREFUSED 127.0.0.1:1',
  ],
  ['14 UNAVAILABLE: etcdserver: no leader', 'etcd-unreachable', 'etcdserver: no leader'],
  [
    '14 UNAVAILABLE: No connection established. Last error: Error: self-signed certificate',
    'etcd-tls',
    'self-signed certificate',
  ],
  ['4 DEADLINE_EXCEEDED: Deadline exceeded after 3.000s', 'etcd-timeout', 'Deadline exceeded after 3.000s'],
  ['7 PERMISSION_DENIED: etcdserver: permission denied', 'etcd-refused', 'etcdserver: permission denied'],
  [
    '3 INVALID_ARGUMENT: etcdserver: authentication failed, invalid user ID or password',
    'etcd-refused',
    'etcdserver: authentication failed, invalid user ID or password',
  ],
  [
    '8 RESOURCE_EXHAUSTED: etcdserver: mvcc: database space exceeded',
    'etcd-full',
    'etcdserver: mvcc: database space exceeded',
  ],
  [
    '11 OUT_OF_RANGE: etcdserver: mvcc: required revision has been compacted',
    'etcd-compacted',
    'etcdserver: mvcc: required revision has been compacted',
  ],
  ['13 INTERNAL: Received RST_STREAM', 'etcd-failed', 'Received RST_STREAM'],
  [
    'Tried to call a KV method on etcd3, but the client was already closed',
    'etcd-failed',
    'Tried to call a KV method on etcd3, but the client was already closed',
  ],
])('%s', (text, code, details) => {
  const error = toEtcdError(new Error(text), context)
  expect(error).toMatchObject({
    code,
    message: `cannot read the leases: etcd at http://192.0.2.1:2379: ${details}`,
  })
})

test('tells people what to do', () => {
  const text = describeError(toEtcdError(new Error('14 UNAVAILABLE: x'), context))
  expect(text).toContain('etcd at http://192.0.2.1:2379: x; check that etcd runs')
})

test.each([
  ['3 INVALID_ARGUMENT: etcdserver: authentication failed, invalid user ID or password', '--etcd-password'],
  ['3 INVALID_ARGUMENT: etcdserver: user name is empty', '--etcd-username'],
  ['16 UNAUTHENTICATED: etcdserver: auth token has expired', '--etcd-username'],
  ['3 INVALID_ARGUMENT: etcdserver: revision of auth store is old', '--etcd-username'],
  ['7 PERMISSION_DENIED: etcdserver: permission denied', 'etcdctl role grant-permission'],
  ['the watch was cancelled: etcdserver: permission denied', 'etcdctl role grant-permission'],
])('%s is refused, to be cured with %s', (text, fix) => {
  const error = toEtcdError(new Error(text), context)
  expect(error).toMatchObject({ code: 'etcd-refused', fix: expect.stringContaining(fix) })
})

test('is not wrapped twice', () => {
  const error = new EtcdError('etcd-timeout', 'slow')
  expect(toEtcdError(error, context)).toBe(error)
})
