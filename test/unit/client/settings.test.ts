/**
 * The settings of overlayctl without flags: the order of their sources, and groups that must have one source.
 */
import { chmodSync, chownSync, mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { createServer } from 'node:http'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { findSettings, merge } from '../../../src/client/settings'
import { parseOptions } from '../../../src/options/schema'
import { shareableOptions } from '../../../src/options/tell'

let directory: string
beforeEach(() => {
  directory = mkdtempSync(join(tmpdir(), 'settings-'))
})
afterEach(() => rmSync(directory, { recursive: true }))

const write = (name: string, ...lines: readonly string[]) =>
  writeFileSync(join(directory, name), `${lines.join('\n')}\n`)
const find = (flags: Record<string, unknown> = {}, env: NodeJS.ProcessEnv = {}) =>
  findSettings({ 'run-dir': join(directory, 'run'), ...flags }, env, { askDaemon: true, directory })
const findDefault = (flags: Record<string, unknown> = {}, env: NodeJS.ProcessEnv = {}) =>
  findSettings(flags, env, { askDaemon: false, directory })

test('flags override the environment, which overrides the file, which overrides the defaults', async () => {
  write('overlayd', 'FLANNELD_ETCD_ENDPOINTS="http://file:2379"', "FLANNELD_ETCD_CAFILE='/file ca.pem'")
  const file = await findDefault()
  expect(file).toMatchObject({
    'etcd-endpoints': 'http://file:2379',
    'etcd-cafile': '/file ca.pem',
    'etcd-prefix': '/coreos.com/network',
    'run-dir': '/run/overlayd',
    'state-dir': '/var/lib/overlayd',
    known: { etcdFrom: join(directory, 'overlayd'), unit: 'overlayd', network: undefined },
  })
  const env = { FLANNELD_ETCD_ENDPOINTS: 'http://env:2379' }
  expect((await findDefault({}, env))['etcd-endpoints']).toBe('http://env:2379')
  expect((await findDefault({ 'etcd-endpoints': 'http://flag:2379' }, env))['etcd-endpoints']).toBe(
    'http://flag:2379',
  )
})

test('without any source the defaults apply', async () => {
  const { known, ...options } = await findDefault()
  expect(options).toEqual(parseOptions({}, {}))
  expect(known).toEqual({ network: undefined, unit: 'overlayd', etcdFrom: 'the defaults', notes: [] })
})

test('a further network has the settings of its unit, which its file overrides', async () => {
  write('overlayd', 'FLANNELD_ETCD_ENDPOINTS=http://first:2379')
  write('overlayd-blue', 'FLANNELD_ETCD_ENDPOINTS=http://blue:2379')
  const unit = {
    'etcd-endpoints': 'http://blue:2379',
    'etcd-prefix': '/coreos.com/network/blue',
    'subnet-file': '/run/flannel/networks/blue.env',
    'run-dir': '/run/overlayd-blue',
    'state-dir': '/var/lib/overlayd-blue',
  }
  expect(await findDefault({ network: 'blue' })).toMatchObject({ ...unit, known: { unit: 'overlayd@blue' } })
  expect(await findDefault({ 'run-dir': '/run/overlayd-blue' })).toMatchObject(unit)
  write('overlayd-blue', 'FLANNELD_ETCD_PREFIX=/other', 'FLANNELD_RUN_DIR=/run/blue')
  expect(await findDefault({ network: 'blue' })).toMatchObject({
    'etcd-prefix': '/other',
    'run-dir': '/run/blue',
  })
  for (const name of ['../x', 'a/b', '', '..', 'a b']) {
    await expect(findDefault({ network: name })).rejects.toThrow('--network')
  }
})

test('another prefix than that of the first network has none of its files, and the same etcd', async () => {
  write('overlayd', 'FLANNELD_ETCD_ENDPOINTS=http://first:2379', 'FLANNELD_SUBNET_FILE=/run/first.env')
  expect(await findDefault({ 'etcd-prefix': '/other' })).toMatchObject({
    'etcd-endpoints': 'http://first:2379',
    'etcd-prefix': '/other',
    'subnet-file': '/run/flannel/subnet.env',
  })
  expect((await findDefault({ 'etcd-prefix': '/coreos.com/network' }))['subnet-file']).toBe('/run/first.env')
})

test('settings that belong together are taken from one source', () => {
  const file = {
    name: 'file',
    texts: {
      'etcd-discovery-srv': 'example.net',
      'etcd-certfile': '/c',
      'etcd-keyfile': '/k',
      'etcd-username': 'host2',
      'etcd-password': 'secret',
    },
  }
  const given = (texts: Record<string, string>) => merge([{ name: 'flags', texts }, file])
  expect(given({ 'etcd-endpoints': 'http://a:1' })['etcd-discovery-srv']).toBeUndefined()
  expect(given({ 'etcd-certfile': '/mine' })).toMatchObject({ 'etcd-certfile': '/mine' })
  expect(given({ 'etcd-certfile': '/mine' })['etcd-keyfile']).toBeUndefined()
  expect(given({ 'etcd-username': 'root' })['etcd-password']).toBeUndefined()
  expect(given({ 'etcd-username': 'host2' })['etcd-password']).toBe('secret')
  expect(given({ 'etcd-password': 'other' })).toMatchObject({
    'etcd-username': 'host2',
    'etcd-password': 'other',
  })
  const daemon = { name: 'daemon', texts: { 'etcd-username': '', 'etcd-discovery-srv': '' } }
  const asked = merge([{ name: 'flags', texts: {} }, daemon, file])
  expect([asked['etcd-username'], asked['etcd-password']]).toEqual([undefined, undefined])
})

test('a value that overlayd would refuse is named and ignored, and hides no other', async () => {
  write('overlayd', 'FLANNELD_IPTABLES_RESYNC=often', 'FLANNELD_ETCD_ENDPOINTS=http://a:1', 'no assignment')
  const { known, ...options } = await findDefault()
  expect(options['etcd-endpoints']).toBe('http://a:1')
  expect(known.notes).toEqual([
    expect.stringContaining('overlayd, line 3: "no assignment" has no "="'),
    expect.stringContaining('FLANNELD_IPTABLES_RESYNC in'),
  ])
  await expect(findDefault({}, { FLANNELD_IPTABLES_RESYNC: 'often' })).rejects.toThrow(
    'FLANNELD_IPTABLES_RESYNC',
  )
})

test('settings that an unreadable file may contain have no default', async () => {
  write('overlayd', 'FLANNELD_ETCD_ENDPOINTS=http://secret:1')
  chmodSync(join(directory, 'overlayd'), 0)
  // Root may read any file.
  if (process.getuid?.() === 0) return
  expect((await find()).known.etcdUnknown).toContain('may read neither')
  expect((await find({ 'etcd-endpoints': 'http://a:1' })).known.etcdUnknown).toBeUndefined()
})

test('a user name without a password is not used alone', async () => {
  write('overlayd', 'FLANNELD_ETCD_USERNAME=host2')
  expect((await findDefault()).known.etcdUnknown).toContain('the password of etcd\'s user "host2"')
})

test('the settings that the daemon shares can be parsed again, and have no password', () => {
  const given = {
    'etcd-username': 'u',
    'etcd-password': 'hunter2',
    'public-ip': '192.0.2.1',
    iface: ['eth0', 'eth1'],
    'etcd-cafile': 'ca.pem',
    'ip-masq': 'true',
    'iface-regex': ['^eth'],
  }
  const told = shareableOptions(parseOptions(given, {}))
  expect(JSON.stringify(told)).not.toContain('hunter2')
  expect(told['etcd-cafile']).toBe(join(process.cwd(), 'ca.pem'))
  const again = parseOptions(told, {})
  expect(shareableOptions(again)).toEqual(told)
})

// Only root can make files of another user. scripts/test as root, as in CI, runs these tests too.
const asRoot = process.geteuid?.() === 0 ? describe : describe.skip

asRoot('a daemon of another user', () => {
  const answering = async (options: Record<string, string>, check: () => Promise<void>): Promise<void> => {
    mkdirSync(join(directory, 'run'))
    const socket = join(directory, 'run/overlayd.sock')
    const server = createServer((_, response) => {
      // The process is this one, whose user is root.
      response.end(JSON.stringify({ schema: 1, pid: process.pid, options }))
    })
    await new Promise<void>((resolve) => server.listen(socket, resolve))
    try {
      chownSync(socket, 65_534, 65_534)
      await check()
    } finally {
      await new Promise((resolve) => server.close(resolve))
    }
  }

  test('gets neither our password nor that of another user’s process', () =>
    answering({ 'etcd-endpoints': 'http://bait:2379', 'etcd-username': 'host2' }, async () => {
      expect((await find())['etcd-endpoints']).toBe('http://bait:2379')
      expect((await find())['etcd-password']).toBe('')
      const env = { FLANNELD_ETCD_USERNAME: 'root', FLANNELD_ETCD_PASSWORD: 'hunter2' }
      const found = await find({}, env)
      expect(found['etcd-endpoints']).not.toBe('http://bait:2379')
      expect(found.known.etcdUnknown).toContain('is not sent there')
      const where = { 'etcd-endpoints': 'http://mine:2379' }
      expect(await find(where, env)).toMatchObject({ ...where, 'etcd-password': 'hunter2' })
      write('overlayd', 'FLANNELD_ETCD_ENDPOINTS=http://file:2379')
      expect((await find({}, env))['etcd-endpoints']).toBe('http://file:2379')
    }))
})
