/**
 * The config for hosts whose /usr is an image: Butane, Ignition, and the cloud-config of other hosts agree.
 */
import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { parse } from 'yaml'
import packageJson from '../../../package.json'
import { formatIgnition, ignitionSchema, translate } from '../../../scripts/ignition/translate'

const SCRIPTS = join(__dirname, '../../../scripts')
const read = (path: string): string => readFileSync(join(SCRIPTS, path), 'utf8')
const butane = read('ignition/config.bu')
const config = translate(butane)

const contentsOf = (path: string): string => {
  const source = config.storage.files.find((each) => each.path === path)?.contents.source ?? ''
  return decodeURIComponent(source.replace(/^data:,/, ''))
}

test('config.ign is as generated from config.bu (else run scripts/ignition/generate)', () => {
  const text = read('ignition/config.ign')
  expect(text).toBe(formatIgnition(config))
  expect(ignitionSchema.parse(JSON.parse(text))).toEqual(config)
})

test('it has the extension of this version, by the name that systemd-sysext asks for', () => {
  const image = `/opt/extensions/overlayd/overlayd-${packageJson.version}-x86-64.raw`
  expect(config.storage.files.map(({ path }) => path)).toContain(image)
  expect(config.storage.links).toContainEqual({
    path: '/etc/extensions/overlayd.raw',
    target: image,
    hard: false,
  })
})

test('settings and network config are those of the cloud-config', () => {
  const cloud: { write_files: { path: string; content: string }[] } = parse(read('cloud-config/user-data'))
  const ofCloud = (path: string) => cloud.write_files.find((each) => each.path === path)?.content
  expect(contentsOf('/etc/default/overlayd')).toBe(ofCloud('/etc/default/overlayd'))
  const dropIns = config.systemd.units.find(({ name }) => name === 'overlayd.service')?.dropins ?? []
  expect(dropIns.map(({ name, contents }) => [name, contents])).toEqual([
    ['50-network-config.conf', ofCloud('/etc/systemd/system/overlayd.service.d/50-network-config.conf')],
  ])
})

test('a mode is octal, as Butane reads it, and a text comes back as it was', () => {
  expect(config.storage.files.find(({ path }) => path === '/etc/default/overlayd')?.mode).toBe(0o640)
  const odd = butane.replace('FLANNELD_IP_MASQ=true', "FLANNELD_X='100 % # ü'")
  const file = translate(odd).storage.files.find(({ path }) => path === '/etc/default/overlayd')
  expect(decodeURIComponent(file?.contents.source ?? '')).toContain("FLANNELD_X='100 % # ü'\n")
})

test.each([
  ['an unknown field', '      hard: false', '      hardness: false'],
  ['a relative path', 'path: /etc/default/overlayd', 'path: etc/default/overlayd'],
  ['another variant', 'variant: flatcar', 'variant: r4e'],
  ['a mode that is none', 'mode: 0640', 'mode: 99999'],
  ['two files of one path', 'path: /etc/extensions/overlayd.raw', 'path: /etc/default/overlayd'],
  ['two units of one name', 'name: docker.service', 'name: etcd.service'],
])('%s is refused', (_, from, to) => {
  expect(butane).toContain(from)
  expect(() => translate(butane.replace(from, to))).toThrow()
})
