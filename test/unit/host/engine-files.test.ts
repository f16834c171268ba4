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
  const { files, ...rest } = await readEngineFiles(root)
  return { files: files.map((file) => ({ ...file, subnets: file.subnets.map(formatPrefix) })), ...rest }
}

test('without any directory there are no networks', async () => {
  expect(await read()).toEqual({ files: [], problems: [], unread: [] })
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
        bridge: undefined,
        mtu: undefined,
        masquerades: false,
        isInternal: false,
        isFlannel: false,
        madeBy: undefined,
      },
      expect.objectContaining({ name: 'two', subnets: [], isFlannel: true }),
      expect.objectContaining({ name: 'three', subnets: ['10.5.7.16/28', 'fd00:5::/64'], bridge: 'cni0' }),
      expect.objectContaining({ engine: 'podman', name: 'bare', subnets: [] }),
      expect.objectContaining({ engine: 'podman', name: 'web', subnets: ['10.5.7.32/28'] }),
    ],
    problems: [expect.stringContaining('/etc/cni/net.d/40-four.conflist is not a network')],
    unread: [],
  })
})

test('bridge, MTU and masquerading are those that the engine takes', () => {
  const bridge = (more: object) =>
    parseEngineFile('cni', JSON.stringify({ name: 'x', plugins: [{ type: 'bridge', ...more }] }))
  expect(bridge({ bridge: 'web0', mtu: 1400, ipMasq: true })).toMatchObject({
    bridge: 'web0',
    mtu: 1400,
    masquerades: true,
  })
  // 0 is the default, and what has another form says nothing.
  for (const mtu of [0, -1, '1400'])
    expect(bridge({ mtu, ipMasq: 'yes' })).toMatchObject({
      bridge: 'cni0',
      mtu: undefined,
      masquerades: false,
    })
  const podman = (more: object) =>
    parseEngineFile('podman', JSON.stringify({ name: 'x', network_interface: 'podman3', ...more }))
  expect(podman({ options: { mtu: '1400' } })).toMatchObject({
    bridge: 'podman3',
    mtu: 1400,
    masquerades: true,
    isInternal: false,
  })
  expect(podman({ internal: true })).toMatchObject({ masquerades: false, isInternal: true })
  expect(podman({ options: { mode: 'unmanaged', mtu: 'x' } })).toMatchObject({
    masquerades: false,
    mtu: undefined,
  })
  expect(podman({ driver: 'macvlan', network_interface: 'eth0' })).toMatchObject({ bridge: undefined })
})

test('a file that cannot be read is named, and the others are there', async () => {
  put('/etc/cni/net.d/10-large.conf', 'x'.repeat(1024 * 1024 + 1))
  put('/etc/cni/net.d/20-directory.conf/x', '')
  put('/etc/containers/networks/web.json', { name: 'web' })
  expect(await read()).toMatchObject({
    files: [{ name: 'web' }],
    problems: [],
    unread: [
      { path: '/etc/cni/net.d/10-large.conf', why: expect.stringContaining('at most'), isDenied: false },
      { path: '/etc/cni/net.d/20-directory.conf', isDenied: false },
    ],
  })
})

test('of very many files the first are read', async () => {
  for (let at = 0; at < 501; at += 1) put(`/etc/containers/networks/n${1000 + at}.json`, { name: `n${at}` })
  const { files, unread } = await read()
  expect(files).toHaveLength(500)
  expect(unread).toEqual([
    {
      path: '/etc/containers/networks',
      why: 'it has 501 networks, more than the 500 that are read',
      isDenied: false,
    },
  ])
})

test('what overlayctl makes is recognized', () => {
  const part = parseIpv4Prefix('10.5.7.0/24')
  if (part === undefined) throw new Error('not a prefix')
  const network = { name: 'web', bridge: 'b', parts: [part], mtu: 1450 }
  const parsed = {
    name: 'web',
    subnets: [part],
    bridge: 'b',
    mtu: 1450,
    masquerades: false,
    isInternal: false,
    isFlannel: false,
  }
  expect(parseEngineFile('cni', JSON.stringify(cniList(network)))).toEqual({
    ...parsed,
    madeBy: 'overlayctl cni',
  })
  expect(parseEngineFile('podman', JSON.stringify(podmanNetwork(network)))).toEqual({
    ...parsed,
    masquerades: true,
    madeBy: 'overlayctl podman-network',
  })
})
