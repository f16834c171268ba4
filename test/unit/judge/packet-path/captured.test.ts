/**
 * Rules as nft and iptables print them on a real kernel, and the fate of packets there.
 * test/integration/firewall/packet-path.test.ts sends real packets through the same rules.
 */
import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { readNftObjects } from '../../../../src/firewall/nft-json'
import { readSaved } from '../../../../src/firewall/xtables'
import { containerWays, vxlanWays } from '../../../../src/judge/packet-path/overlay-ways'
import { FilterIndex } from '../../../../src/judge/packet-path/walk'
import { travel } from '../../../../src/judge/packet-path/way'
import { parseIp } from '../../../../src/model/address'

interface Captured {
  readonly name: string
  /** Objects of `nft -j list ruleset`, without tables of iptables. */
  readonly nft: readonly object[]
  /** Lines of iptables-nft-save and iptables-legacy-save. */
  readonly iptables: readonly string[]
  readonly legacy: readonly string[]
  /** One line for each packet that does not pass: its way, protocol, state, and fate. */
  readonly fates: readonly string[]
}

const CAPTURED = JSON.parse(readFileSync(join(__dirname, 'captured.json'), 'utf8')) as Captured[]

const ip = (text: string) => {
  const address = parseIp(text)
  if (address === undefined) throw new Error(`not an address: ${text}`)
  return address
}
const HOST = {
  container: ip('10.5.1.2'),
  vtep: ip('10.5.1.0'),
  device: 'flannel.1',
  bridge: 'docker0',
  port: 'port1',
  underlay: 'eth0',
  local: ip('192.0.2.1'),
  udpPort: 8472,
}
const PEER = { container: ip('10.5.2.2'), vtep: ip('10.5.2.0'), publicIp: ip('192.0.2.2') }

test.each(CAPTURED)('$name', ({ nft, iptables, legacy, fates }) => {
  const index = new FilterIndex({
    chains: [
      ...readNftObjects(nft, new Map()),
      ...readSaved(iptables.join('\n'), 'IPv4', 'iptables').chains,
      ...readSaved(legacy.join('\n'), 'IPv4', 'iptables-legacy').chains,
    ],
    unread: [],
  })
  const met = [...containerWays(HOST, PEER), ...vxlanWays(HOST, PEER.publicIp)].map(
    ({ kind, protocol, state, stops, packet }) =>
      `${kind} ${protocol} ${state} ${travel(index, stops, packet).fate.kind}`,
  )
  expect(met.filter((line) => !line.endsWith('passes'))).toEqual(fates)
})
