import { EtcdError, toEtcdError } from '../../../../src/etcd/client/errors'
import { describeError } from '../../../../src/model/errors'

const context = { doing: 'read the leases', endpoint: 'http://192.0.2.1:2379' }

test.each([
  [
    '14 UNAVAILABLE: No connection established. Last error: Error: connect ECONNREFUSED 127.0.0.1:1. Resolution note: ',
    'etcd-unreachable',
    'nothing listens at 127.0.0.1:1 (ECONNREFUSED)',
  ],
  ['14 UNAVAILABLE: etcdserver: no leader', 'etcd-unreachable', 'etcdserver: no leader'],
  [
    '14 UNAVAILABLE: No connection established. Last error: Error: self-signed certificate',
    'etcd-tls',
    'its certificate is signed by a CA that this host does not know',
  ],
  ['4 DEADLINE_EXCEEDED: Deadline exceeded after 3.000s', 'etcd-timeout', 'no answer within 3.000 s'],
  [
    '4 DEADLINE_EXCEEDED: Deadline exceeded after 5.001s,LB pick: 0.002s,remote_addr=127.0.0.1:1',
    'etcd-timeout',
    'no connection within 5.001 s',
  ],
  ['4 DEADLINE_EXCEEDED: Waiting for LB pick', 'etcd-timeout', 'no connection'],
  [
    '14 UNAVAILABLE: Name resolution failed for target dns:nowhere.test:2379',
    'etcd-unreachable',
    'the name nowhere.test does not resolve',
  ],
  [
    '14 UNAVAILABLE: No connection established. Last error: Error: Protocol error. Resolution note: ',
    'etcd-unreachable',
    'the server there is not what the endpoint says: not etcd, or TLS instead of plain text, or plain text instead of TLS',
  ],
  [
    '14 UNAVAILABLE: Received HTTP status code 503',
    'etcd-unreachable',
    'a proxy or another HTTP server answers instead (HTTP 503)',
  ],
  [
    "14 UNAVAILABLE: No connection established. Last error: Error: Hostname/IP does not match certificate's altnames: IP: 192.0.2.1 is not in the cert's list: 127.0.0.1. Resolution note: ",
    'etcd-tls',
    "its certificate is for other names than the endpoint's (IP: 192.0.2.1 is not in the cert's list: 127.0.0.1)",
  ],
  [
    '14 UNAVAILABLE: No connection established. Last error: Error: certificate has expired',
    'etcd-tls',
    'its certificate has expired',
  ],
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
  ['13 INTERNAL: Received RST_STREAM', 'etcd-failed', 'it ended the call without giving a reason'],
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

test('an error has a fix for the operator', () => {
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
])('the fix for "%s" is %s', (text, fix) => {
  const error = toEtcdError(new Error(text), context)
  expect(error).toMatchObject({ code: 'etcd-refused', fix: expect.stringContaining(fix) })
})

test('an EtcdError is not wrapped again', () => {
  const error = new EtcdError('etcd-timeout', 'slow')
  expect(toEtcdError(error, context)).toBe(error)
})
