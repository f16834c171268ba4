import { endpointAddresses, parseEndpoints } from '../../../../src/etcd/client/endpoints'
import { formatIp } from '../../../../src/model/address'

test.each([
  ['http://127.0.0.1:4001,http://127.0.0.1:2379', ['http://127.0.0.1:4001', 'http://127.0.0.1:2379']],
  [' https://etcd-1.example:2379/ , ', ['https://etcd-1.example:2379']],
  ['etcd', ['http://etcd:2379']],
  ['10.0.0.1:1', ['http://10.0.0.1:1']],
  ['https://[2001:db8::1]:2379', ['https://[2001:db8::1]:2379']],
  ['[2001:db8::1]', ['http://[2001:db8::1]:2379']],
])('%j', (list, urls) => expect(parseEndpoints(list).map(({ url }) => url)).toEqual(urls))

test('the scheme of each endpoint decides whether it uses TLS', () => {
  expect(parseEndpoints('http://a,https://b,c')).toEqual([
    { url: 'http://a:2379', address: 'a:2379', tls: false },
    { url: 'https://b:2379', address: 'b:2379', tls: true },
    { url: 'http://c:2379', address: 'c:2379', tls: false },
  ])
})

test.each([
  '',
  ' , ',
  'ftp://a:1',
  'http://a:0',
  'http://a:65536',
  'http://a:b',
  'http://a/b',
  'http://2001:db8::1:2379',
  'http://[x]:1',
  'http://a b',
])('%j is refused', (list) => {
  expect(() => parseEndpoints(list)).toThrow(expect.objectContaining({ code: 'etcd-options' }))
})

test('a password in an endpoint is refused, and the message does not contain it', () => {
  const refuse = () => parseEndpoints('http://root:secret@127.0.0.1:2379')
  expect(refuse).toThrow('belongs in --etcd-username')
  expect(refuse).not.toThrow('secret')
})

test('the addresses among the endpoints', () => {
  const list = 'http://192.0.2.1:2379,https://etcd.example,[2001:db8::1]:2379'
  expect(endpointAddresses(list).map(formatIp)).toEqual(['192.0.2.1', '2001:db8::1'])
})
