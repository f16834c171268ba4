/** Endpoints from DNS: a name server with one record, and the etcd in that record. */
import { createSocket, type Socket } from 'node:dgram'
import { getServers, setServers } from 'node:dns/promises'
import { openEtcd } from '../../../src/etcd/client/client'
import { ever, Site } from './site'

const DOMAIN = 'cluster.example'
/** RFC 1035, 4.1; RFC 2782. */
const HEADER_SIZE = 12
const TYPE_SRV = 33
const ANSWER = 0x8180
const NAME_ERROR = 3

let site: Site
let nameServer: Socket
const servers = getServers()
beforeAll(async () => {
  site = await Site.start()
  const port = Number(new URL(site.etcd.endpoint).port)
  nameServer = createSocket('udp4')
  nameServer.on('message', (query, from) => nameServer.send(answer(query, port), from.port, from.address))
  await new Promise<void>((resolve) => nameServer.bind(0, '127.0.0.1', resolve))
  setServers([`127.0.0.1:${nameServer.address().port}`])
})
afterAll(async () => {
  setServers(servers)
  nameServer.close()
  await site.stop()
})

/** `name.of.host` as labels. */
const labels = (name: string): Buffer =>
  Buffer.concat([
    ...name.split('.').map((label) => Buffer.from(`${String.fromCharCode(label.length)}${label}`)),
    Buffer.alloc(1),
  ])

function answer(query: Buffer, port: number): Buffer {
  const name = labels(`_etcd-client._tcp.${DOMAIN}`)
  const known = query.subarray(HEADER_SIZE, HEADER_SIZE + name.length).equals(name)
  const header = Buffer.alloc(HEADER_SIZE)
  query.copy(header, 0, 0, 2)
  for (const [at, value] of [ANSWER | (known ? 0 : NAME_ERROR), 1, known ? 1 : 0].entries()) {
    header.writeUInt16BE(value, 2 + 2 * at)
  }
  const endOfName = query.indexOf(0, HEADER_SIZE) + 1
  const question = query.subarray(HEADER_SIZE, endOfName + 4)
  if (!known) return Buffer.concat([header, question])
  const target = labels('localhost')
  const record = Buffer.alloc(18)
  // Name (that of the question), type, class, life time in two halves, length, priority, weight, port.
  const fields = [0xc000 | HEADER_SIZE, TYPE_SRV, 1, 0, 60, 6 + target.length, 10, 0, port]
  for (const [at, value] of fields.entries()) record.writeUInt16BE(value, 2 * at)
  return Buffer.concat([header, question, record, target])
}

test('etcd is reached by a domain', async () => {
  const registry = await site.registry({ discoverySrv: DOMAIN, endpoints: 'http://127.0.0.1:1' })
  expect((await registry.status(ever)).endpoint).toBe(site.etcd.endpoint.replace('127.0.0.1', 'localhost'))
})

test('a domain that names none is an error to try again after', async () => {
  await expect(openEtcd({ endpoints: '', discoverySrv: 'other.example' })).rejects.toMatchObject({
    code: 'etcd-unreachable',
    message: expect.stringContaining('other.example'),
  })
})
