/** The API of Docker: what an answer becomes, and that every answer and silence ends in words. */
import { mkdtempSync, rmSync } from 'node:fs'
import { createServer, type RequestListener, type Server } from 'node:http'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { createDockerNetwork, readDockerNetworks } from '../../../src/host/docker-socket'
import { formatPrefix } from '../../../src/model/address'

let directory: string
let server: Server | undefined
const before = process.env['DOCKER_HOST']

beforeEach(() => {
  directory = mkdtempSync(join(tmpdir(), 'docker-'))
  process.env['DOCKER_HOST'] = `unix://${directory}/docker.sock`
})
afterEach(async () => {
  server?.closeAllConnections()
  await new Promise<void>((resolve) => (server === undefined ? resolve() : server.close(() => resolve())))
  server = undefined
  rmSync(directory, { recursive: true })
  if (before === undefined) delete process.env['DOCKER_HOST']
  else process.env['DOCKER_HOST'] = before
})

async function listen(listener: RequestListener): Promise<void> {
  const made = createServer(listener)
  server = made
  await new Promise<void>((resolve) => made.listen(join(directory, 'docker.sock'), resolve))
}
const answer = (status: number, body: unknown): Promise<void> =>
  listen((_, response) => {
    response.writeHead(status, { 'content-type': 'application/json' })
    response.end(typeof body === 'string' ? body : JSON.stringify(body))
  })
const signal = () => AbortSignal.timeout(5000)

/** As Docker 20.10 answers, shortened. */
const NETWORKS = [
  {
    Name: 'bridge',
    Id: '4d4abd1a2c3eaa4f19d3a1a4b5c6d7e8f90a1b2c3d4e5f60718293a4b5c6d7e8',
    Driver: 'bridge',
    EnableIPv6: false,
    IPAM: { Driver: 'default', Options: null, Config: [{ Subnet: '10.5.7.0/27', Gateway: '10.5.7.1' }] },
    Internal: false,
    Options: {
      'com.docker.network.bridge.enable_ip_masquerade': 'false',
      'com.docker.network.bridge.name': 'docker0',
      'com.docker.network.driver.mtu': '1450',
    },
  },
  {
    Name: 'web_default',
    Id: 'e0f1a2b3c4d5aa4f19d3a1a4b5c6d7e8f90a1b2c3d4e5f60718293a4b5c6d7e8',
    Driver: 'bridge',
    IPAM: { Driver: 'default', Config: [{ Subnet: '172.18.0.0/16' }, { Subnet: 'fd00:18::/64' }] },
    Internal: true,
    Options: null,
  },
  { Name: 'host', Id: '0123456789abcdef', Driver: 'host', IPAM: { Driver: 'default', Config: null } },
]

test('the networks with a bridge, and what they are told to do', async () => {
  await answer(200, NETWORKS)
  const networks = await readDockerNetworks(signal())
  expect(networks?.map((each) => ({ ...each, subnets: each.subnets.map(formatPrefix) }))).toEqual([
    {
      name: 'bridge',
      bridge: 'docker0',
      subnets: ['10.5.7.0/27'],
      mtu: 1450,
      masquerades: false,
      isInternal: false,
    },
    {
      name: 'web_default',
      bridge: 'br-e0f1a2b3c4d5',
      subnets: ['172.18.0.0/16', 'fd00:18::/64'],
      mtu: undefined,
      masquerades: true,
      isInternal: true,
    },
  ])
})

test('without dockerd there are no networks', async () => {
  expect(await readDockerNetworks(signal())).toBeUndefined()
  await expect(createDockerNetwork({}, signal())).rejects.toThrow(/no dockerd answers/)
})

test.each([
  ['a refusal', 403, { message: 'Pool overlaps with other one' }, /refuses: Pool overlaps/],
  ['a failure without words', 500, 'oops', /refuses: HTTP status 500/],
  ['no JSON', 200, '[{', /form that is not known/],
  ['another shape', 200, [{ Name: 7 }], /form that is not known/],
])('%s', async (_, status, body, words) => {
  await answer(status, body)
  await expect(readDockerNetworks(signal())).rejects.toThrow(words)
})

test('what is asked for is sent', async () => {
  const bodies: unknown[] = []
  await listen((asked, response) => {
    let text = ''
    asked.on('data', (chunk: Buffer) => {
      text += chunk
    })
    asked.on('end', () => {
      bodies.push([asked.method, asked.url, JSON.parse(text)])
      response.writeHead(201).end('{"Id":"0123456789ab","Warning":""}')
    })
  })
  expect(await createDockerNetwork({ Name: 'wéb' }, signal())).toBe('0123456789ab')
  expect(bodies).toEqual([['POST', '/networks/create', { Name: 'wéb' }]])
})

test('a dockerd that is silent is given up', async () => {
  await listen(() => {})
  await expect(readDockerNetworks(AbortSignal.timeout(50))).rejects.toThrow(/no answer/)
})

test('an answer without end is given up', async () => {
  await listen((_, response) => {
    const more = (): void => {
      while (response.writable && response.write('x'.repeat(1 << 20)));
      response.once('drain', more)
    }
    more()
  })
  await expect(readDockerNetworks(signal())).rejects.toThrow(/more than 16777216 bytes/)
})

test('the Docker of another host is not asked', async () => {
  process.env['DOCKER_HOST'] = 'tcp://192.0.2.9:2375'
  await expect(readDockerNetworks(signal())).rejects.toThrow(/DOCKER_HOST is not a socket of this host/)
})
