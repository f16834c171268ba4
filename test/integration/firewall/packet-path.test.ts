/** The model's verdicts on packets equal the kernel's, for each set of rules. */

import { readPacketFilter } from '../../../src/firewall/packet-filter'
import { containerWays, vxlanWays, type Way } from '../../../src/judge/packet-path/overlay-ways'
import type { Known } from '../../../src/judge/packet-path/packet'
import { FilterIndex } from '../../../src/judge/packet-path/walk'
import { type Journey, travel } from '../../../src/judge/packet-path/way'
import { patient } from '../../lab/patience'
import { runOk } from '../../lab/process'
import { arrives, flush, hostOf, PacketSite, peerOf, type Version } from './packet-site'
import { RULESETS } from './rulesets'

jest.setTimeout(patient(120_000))

let site: PacketSite
beforeAll(async () => {
  site = await PacketSite.create()
})
afterAll(() => site?.close())
afterEach(flush)

const PROTOCOLS = ['ICMP', 'TCP', 'UDP'] as const
type Protocol = (typeof PROTOCOLS)[number]
type Answer = 'passes' | 'dropped' | 'undecided'

/** All ways of a question and its answer through the host. */
async function predict(version: Version) {
  const filter = await readPacketFilter(AbortSignal.timeout(patient(20_000)))
  expect(filter.unread).toEqual([])
  const index = new FilterIndex(filter)
  const [host, peer] = [hostOf(version), peerOf(version)]
  const go = ({ stops, packet }: Way): Journey => travel(index, stops, packet)
  const around = (mark?: Known) =>
    vxlanWays(host, peer.publicIp, mark).map((way) => ({ way, journey: go(way) }))
  const ways = containerWays(host, peer, around()[1]?.journey.packet.fields.mark)
  return (from: 'container' | 'peer', protocol: Protocol): Answer => {
    const [question, answer] = from === 'container' ? ['out', 'in'] : ['in', 'out']
    const inner = ways
      .filter((way) => way.protocol === protocol)
      .filter(
        ({ kind, state }) =>
          (kind === question && state === 'new') || (kind === answer && state === 'established'),
      )
      .map((way) => ({ way, journey: go(way) }))
    const out = inner.find(({ way }) => way.kind === 'out')
    const fates = [...inner, ...around(out?.journey.packet.fields.mark)].map(({ way, journey }) =>
      // A packet that is led elsewhere does not arrive.
      way.kind === 'vxlan-in' && journey.translations.length > 0 ? 'dropped' : journey.fate.kind,
    )
    return fates.includes('dropped') ? 'dropped' : fates.includes('undecided') ? 'undecided' : 'passes'
  }
}

test.each(RULESETS)('$name', async ({ rules, versions = ['ipv4'], undecided = false }) => {
  await runOk(['sh', '-e'], { input: rules })
  await Promise.all(versions.map((version) => compare(version, undecided)))
})

/** Both ways and all protocols at once. */
async function compare(version: Version, undecided: boolean): Promise<void> {
  const verdict = await predict(version)
  const cases = (['container', 'peer'] as const).flatMap((from) =>
    PROTOCOLS.map((protocol) => ({ from, protocol })),
  )
  const said = cases.map(({ from, protocol }) => `${from} ${protocol} ${verdict(from, protocol)}`)
  const met = await Promise.all(
    cases.map(async ({ from, protocol }) => {
      const passes = await arrives(from, version, protocol)
      return `${from} ${protocol} ${passes ? 'passes' : 'dropped'}`
    }),
  )
  expect(said.some((line) => line.endsWith('undecided'))).toBe(undecided)
  // A packet without a verdict of the model counts for neither side.
  const decided = (_: string, i: number) => said[i]?.endsWith('undecided') !== true
  expect(said.filter(decided)).toEqual(met.filter(decided))
}
