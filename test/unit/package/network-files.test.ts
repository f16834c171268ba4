/** Files of the package that keep other programs off our devices: they name all devices, and no other. */
import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { FAMILIES } from '../../../src/model/address'
import { SLOTS } from '../../../src/model/lease'
import { wireguardLinkName } from '../../../src/plan/encryption/encryption-plan'
import { linkName, multicastLinkName } from '../../../src/plan/reconcile/desired'

const VNIS = [1, 16_777_215]
const OURS = VNIS.flatMap((vni) => [
  ...FAMILIES.map((family) => linkName(family, vni)),
  ...SLOTS.map((slot) => wireguardLinkName(slot, vni)),
  multicastLinkName(vni),
])
const OTHERS = ['eth0', 'docker0', 'br-0123456789ab', 'veth1a2b3c4', 'wg0', 'vxlan1', 'flannel', 'flat1']

const PATTERNS: readonly (readonly [file: string, line: RegExp, separator: string, prefix: string])[] = [
  ['05-overlayd.network', /^Name=(.*)$/m, ' ', ''],
  ['05-overlayd.link', /^OriginalName=(.*)$/m, ' ', ''],
  ['05-overlayd.conf', /^match-device=(.*)$/m, ',', 'interface-name:'],
]

test.each(PATTERNS)('%s names all devices of overlayd, and no other', (file, line, separator, prefix) => {
  const text = readFileSync(join(__dirname, '../../../scripts/package/network', file), 'utf8')
  const patterns = (line.exec(text)?.[1] ?? '').split(separator).map((each) => {
    expect(each.startsWith(prefix)).toBe(true)
    return each.slice(prefix.length)
  })
  // Each pattern is a beginning and a star.
  for (const each of patterns) expect(each).toMatch(/^[a-z0-9.-]+\*$/)
  const matches = (name: string): boolean => patterns.some((each) => name.startsWith(each.slice(0, -1)))
  expect(OURS.filter((name) => !matches(name))).toEqual([])
  expect(OTHERS.filter(matches)).toEqual([])
})
