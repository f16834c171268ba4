import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { dirname, join } from 'node:path'
import { parseEngineFile, readEngineFiles } from '../../../src/host/engine-files'
import { formatPrefix, parseIpv4Prefix } from '../../../src/model/address'
import { cniList, podmanNetwork } from '../../../src/plan/host/engine-network'

let root: string
beforeEach(() => {
  root = mkdtempSync(join(tmpdir(), 'engine-files-'))
})
afterEach(() => rmSync(root, { recursive: true }))

function put(path: string, content: unknown): void {
  mkdirSync(dirname(join(root, path)), { recursive: true })
  writeFileSync(join(root, path), typeof content === 'string' ? content : JSON.stringify(content))
}
const read = async () => {
  const { files, problems } = await readEngineFiles(root)
  return { files: files.map((file) => ({ ...file, subnets: file.subnets.map(formatPrefix) })), problems }
}

test('without any directory there are no networks', async () => {
  expect(await read()).toEqual({ files: [], problems: [] })
})

test('the networks of both engines, and what is none', async () => {
  put('/etc/cni/net.d/10-one.conf', { name: 'one', type: 'ptp', ipam: { subnet: '10.5.7.0/28' } })
  put('/etc/cni/net.d/20-two.conflist', {
    name: 'two',
    plugins: [{ type: 'flannel' }, { type: 'portmap' }],
  })
  put('/etc/cni/net.d/30-three.conflist', {
    name: 'three',
    plugins: [
      { type: 'bridge', ipam: { ranges: [[{ subnet: '10.5.7.16/28' }], [{ subnet: 'fd00:5::/64' }]] } },
      { type: 'portmap' },
    ],
  })
  put('/etc/cni/net.d/40-four.conflist', '{')
  put('/etc/cni/net.d/50-five.conflist.before-overlayd', '{')
  put('/etc/containers/networks/web.json', { name: 'web', subnets: [{ subnet: '10.5.7.32/28' }] })
  put('/etc/containers/networks/bare.json', { name: 'bare' })
  expect(await read()).toEqual({
    files: [
      {
        engine: 'cni',
        path: '/etc/cni/net.d/10-one.conf',
        name: 'one',
        subnets: ['10.5.7.0/28'],
        isFlannel: false,
        madeBy: undefined,
      },
      expect.objectContaining({ name: 'two', subnets: [], isFlannel: true }),
      expect.objectContaining({ name: 'three', subnets: ['10.5.7.16/28', 'fd00:5::/64'] }),
      expect.objectContaining({ engine: 'podman', name: 'bare', subnets: [] }),
      expect.objectContaining({ engine: 'podman', name: 'web', subnets: ['10.5.7.32/28'] }),
    ],
    problems: [expect.stringContaining('/etc/cni/net.d/40-four.conflist is not a network')],
  })
})

test('what overlayctl makes is recognized', () => {
  const part = parseIpv4Prefix('10.5.7.0/24')
  if (part === undefined) throw new Error('not a prefix')
  const network = { name: 'web', bridge: 'b', parts: [part], mtu: 1450 }
  const parsed = { name: 'web', subnets: [part], isFlannel: false }
  expect(parseEngineFile('cni', JSON.stringify(cniList(network)))).toEqual({
    ...parsed,
    madeBy: 'overlayctl cni',
  })
  expect(parseEngineFile('podman', JSON.stringify(podmanNetwork(network)))).toEqual({
    ...parsed,
    madeBy: 'overlayctl podman-network',
  })
})
