import type { SrvRecord } from 'node:dns'
import { discoverEndpoints } from '../../../../src/etcd/client/discover'

const record = (name: string, port: number, priority = 0): SrvRecord => ({ name, port, priority, weight: 0 })

/** A resolver with these records. */
const dns =
  (records: Record<string, SrvRecord[]>) =>
  async (name: string): Promise<SrvRecord[]> => {
    const found = records[name]
    if (found !== undefined) return found
    throw Object.assign(new Error(`querySrv ENOTFOUND ${name}`), { code: 'ENOTFOUND' })
  }

test('endpoints with TLS come first, then by priority', async () => {
  const resolve = dns({
    '_etcd-client._tcp.example.com': [record('plain.example.com.', 2379)],
    '_etcd-client-ssl._tcp.example.com': [
      record('b.example.com', 2380, 20),
      record('a.example.com', 2379, 10),
    ],
  })
  expect(await discoverEndpoints('example.com', resolve)).toBe(
    'https://a.example.com:2379,https://b.example.com:2380,http://plain.example.com:2379',
  )
})

test('without a record there is an error that names the looked-up names', async () => {
  await expect(discoverEndpoints('example.com', dns({}))).rejects.toMatchObject({
    code: 'etcd-unreachable',
    message: expect.stringContaining('example.com'),
    fix: expect.stringContaining('_etcd-client-ssl._tcp.example.com'),
  })
})

test('a DNS that does not answer is another error', async () => {
  const resolve = () => Promise.reject(Object.assign(new Error('querySrv ETIMEOUT'), { code: 'ETIMEOUT' }))
  await expect(discoverEndpoints('example.com', resolve)).rejects.toMatchObject({
    code: 'etcd-unreachable',
    message: 'cannot look up _etcd-client-ssl._tcp.example.com in DNS: ETIMEOUT',
  })
})
