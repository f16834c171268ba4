/** Announced prefixes: whether packets to those of this host get to where they belong, and who sees them. */
import type { PrefixesDocument } from '../../api/documents'
import { familyOf, parseIpPrefix, parseIpv4Prefix, prefixContains } from '../../model/address'
import { count } from '../../model/count'
import { ofFamily } from '../../model/family'
import { formatLeaseSubnet } from '../../model/lease'
import { parseVia } from '../../model/prefixes'
import { describeUnaware, isOverlaydsValue } from '../../plan/prefixes/awareness'
import { deliveryOf } from '../../plan/prefixes/delivery'
import { SILENCE_FIX } from '../../plan/prefixes/gateways'
import type { Facts, Known } from '../facts'
import { type Check, check, type Finding, few, type Outcome, outcome } from '../finding'
import { addressWithin, OVERLAY, type OverlayFacts, ownLease } from '../overlay'

type Row = PrefixesDocument['prefixes'][number]
type PrefixFacts = OverlayFacts & Known<'prefixes'> & Pick<Facts, 'forwarding' | 'rpFilter' | 'ways'>

const STRICT = 1
const LIST = ['overlayctl prefixes']

export const PREFIX_CHECKS: readonly Check[] = [
  check({
    name: 'prefixes',
    about: 'packets to the prefixes that hosts announce get to where they belong',
    needs: ['prefixes'],
    uses: [...OVERLAY, 'forwarding', 'rpFilter', 'ways'],
    premise: 'started',
    run: checkPrefixes,
  }),
]

function checkPrefixes(facts: PrefixFacts): Outcome {
  const { prefixes: rows, allowed, problem } = facts.prefixes.value
  if (rows.length === 0 && problem === undefined)
    return outcome(allowed.length === 0 ? 'the network config allows none' : 'no host announces one', [])
  const own = rows.filter((row) => row.own)
  const missing = own.flatMap((row) => withoutWay(facts, row))
  return outcome(summaryOf(facts, rows), [
    problem === undefined ? undefined : notInEtcd(problem),
    missing.length === 0 ? undefined : noWay(missing),
    silentGateway(own),
    ledAstray(facts, own),
    notForwarded(facts, own),
    strictFilter(facts, own),
    refused(rows),
  ])
}

/** Whether its host gets packets to it. */
const isFollowed = ({ state }: Row): boolean => state === 'wins' || state === 'shares'

/** Where nothing is wrong: also what waits as it should, and who may not see any of it. */
function summaryOf(facts: PrefixFacts, rows: readonly Row[]): string {
  const own = rows.filter((row) => row.own)
  const waiting = own.filter(({ state }) => state === 'waits')
  const [first] = waiting
  const routed = new Set(rows.filter(isFollowed).map(({ prefix }) => prefix)).size
  return [
    `${count(routed, 'prefix', 'prefixes')} routed, ${own.length} announced by this host`,
    ...(first === undefined ? [] : [`${waiting.length} of these waiting: ${first.prefix}: ${first.reason}`]),
    ...(unawareOf(facts, rows) ?? []),
  ].join('; ')
}

function unawareOf(facts: PrefixFacts, rows: readonly Row[]): string[] | undefined {
  if (!facts.etcd.ok) return undefined
  const own = ownLease(facts)
  const announcing = new Set(rows.map(({ host }) => host))
  const others = facts.etcd.value.leases.filter(({ key }) => key !== own?.key)
  const unknown = others.filter(
    ({ key, value }) => !isOverlaydsValue(value) && !announcing.has(key.slice(key.lastIndexOf('/') + 1)),
  )
  const text = describeUnaware(
    unknown.map(({ subnet }) => formatLeaseSubnet(subnet)),
    others.length,
  )
  return text === undefined ? undefined : [text]
}

/** Evidence that there is no way to a prefix of this host; none where there is one, or nobody can tell. */
function withoutWay({ kernel }: PrefixFacts, { prefix: text, via: way, state }: Row): string[] {
  const prefix = parseIpPrefix(text)
  const via = way === undefined ? undefined : parseVia(way)
  if (prefix === undefined || via === undefined || !kernel.ok) return []
  const delivery = deliveryOf(via, prefix, kernel.value)
  return delivery.kind === 'waits' ? [`${text} (${state}): ${delivery.reason}; ${delivery.fix}`] : []
}

const noWay = (evidence: readonly string[]): Finding => ({
  code: 'prefix-no-way',
  severity: 'warn',
  what: `this host has no way to ${count(evidence.length, 'prefix', 'prefixes')} that it is to announce`,
  evidence: few(evidence),
  breaks: 'other hosts do not hear of it; where no other host has it, nobody reaches it',
  fix: 'put the link or the gateway right, announce it with another --via, or withdraw it',
  commands: LIST,
})

/** By the daemon's looks at the kernel's neighbours: one look cannot tell who is about to answer. */
function silentGateway(own: readonly Row[]): Finding | undefined {
  const evidence = own.flatMap(({ prefix, silence }) =>
    silence === undefined ? [] : [`${prefix}: ${silence}`],
  )
  if (evidence.length === 0) return undefined
  return {
    code: 'prefix-gateway-silent',
    severity: 'warn',
    what: 'gateways do not answer that announced prefixes are behind',
    evidence: few(evidence),
    breaks: 'packets to these prefixes come to this host, and are lost here',
    fix: SILENCE_FIX,
    commands: ['ip neigh show', ...LIST],
  }
}

/** Without `--via` packets follow the host's own routes: they have to lead to the prefix. */
function ledAstray(facts: PrefixFacts, own: readonly Row[]): Finding | undefined {
  const evidence = own
    .filter((row) => isFollowed(row) && row.via === undefined)
    .flatMap(({ prefix: text }) => {
      const reason = wrongWay(facts, text)
      return reason === undefined ? [] : [`${text}: ${reason}`]
    })
  if (evidence.length === 0) return undefined
  return {
    code: 'prefix-led-astray',
    severity: 'warn',
    what: 'this host gets packets to prefixes that it announces, and its routes do not lead there',
    evidence: few(evidence),
    breaks: 'nobody reaches these prefixes',
    fix: 'announce it with --via=LINK or --via=ADDRESS, or give the host a route to it',
    commands: LIST,
  }
}

/** Where packets to a prefix go instead; `undefined` where they may get there, or nobody can tell. */
function wrongWay({ ways, kernel }: PrefixFacts, text: string): string | undefined {
  const prefix = parseIpPrefix(text)
  const address = prefix && addressWithin(prefix)
  if (address === undefined || !ways.ok || !kernel.ok || !ways.value.has(address)) return undefined
  const way = ways.value.get(address)
  if (way === undefined) return 'there is no route to it'
  const { devices, defaultRoutes, routes } = kernel.value
  const device = devices.find(({ link }) => link.index === way.linkIndex)
  if (device !== undefined) return `they go back into the overlay, by ${device.link.name}`
  const isDefault = defaultRoutes.some(({ linkIndex }) => linkIndex === way.linkIndex)
  const hasRoute = routes.some(
    ({ destination }) => destination.length > 0 && prefixContains(destination, address),
  )
  return isDefault && !hasRoute ? 'they leave by the default route' : undefined
}

const notInEtcd = (problem: string): Finding => ({
  code: 'prefix-not-announced',
  severity: 'warn',
  what: 'not all is as this host is to announce it',
  evidence: [problem],
  breaks: 'other hosts may send packets elsewhere, or nowhere',
  fix: 'the reason is in its words; overlayd tries again by itself',
  commands: LIST,
})

function notForwarded({ forwarding }: PrefixFacts, own: readonly Row[]): Finding | undefined {
  const switches = forwarding.value ?? {}
  const isOff = ({ prefix: text }: Row): boolean => {
    const prefix = parseIpPrefix(text)
    if (prefix === undefined) return false
    return ofFamily(switches, familyOf(prefix.address)) === false
  }
  const cut = own.filter((row) => isFollowed(row) && isOff(row))
  if (cut.length === 0) return undefined
  return {
    code: 'prefix-not-forwarded',
    severity: 'fail',
    what: 'this host gets packets to prefixes that it announces, and does not forward them',
    evidence: few(cut.map(({ prefix }) => `${prefix}: forwarding of its family is off`)),
    breaks: 'nobody reaches these prefixes',
    fix: 'switch forwarding on',
    commands: ['sysctl -w net.ipv4.ip_forward=1', 'sysctl -w net.ipv6.conf.all.forwarding=1'],
  }
}

/**
 * A strict filter lets in what comes from where the host would send packets to. So it drops what a container
 * sends whose claim waits for another host, and what a gateway sends from other networks than the announced
 * one.
 */
function strictFilter({ rpFilter, kernel }: PrefixFacts, own: readonly Row[]): Finding | undefined {
  if (!rpFilter.ok || !kernel.ok) return undefined
  const { links, addresses } = kernel.value
  const evidence = own.flatMap((row): string[] => {
    const { prefix: text, via: way } = row
    const prefix = parseIpv4Prefix(text)
    const via = way === undefined ? undefined : parseVia(way)
    const delivery = prefix && via && deliveryOf(via, prefix, { links, addresses })
    if (via === undefined || delivery?.kind !== 'ready') return []
    if (via.kind === 'link' && isFollowed(row)) return []
    const { name } = delivery.link
    const strictness = Math.max(rpFilter.value.get('all') ?? 0, rpFilter.value.get(name) ?? 0)
    if (strictness !== STRICT) return []
    const dropped =
      via.kind === 'gateway' ? `what comes from elsewhere than ${text}` : `what ${text} sends while it waits`
    return [`net.ipv4.conf.${name}.rp_filter is strict (1): it drops ${dropped}`]
  })
  if (evidence.length === 0) return undefined
  return {
    code: 'prefix-rp-filter',
    severity: 'warn',
    what: 'a strict reverse path filter is on a link that announced prefixes are behind',
    evidence: few([...new Set(evidence)]),
    breaks: 'packets from behind that link may be dropped, silently',
    fix: 'make the filter loose, for good in /etc/sysctl.d',
    commands: ['sysctl -w net.ipv4.conf.LINK.rp_filter=2'],
  }
}

function refused(rows: readonly Row[]): Finding | undefined {
  const amiss = rows.filter(({ state }) => state === 'refused' || state === 'unreadable')
  if (amiss.length === 0) return undefined
  return {
    code: 'prefix-refused',
    severity: 'warn',
    what: `${count(amiss.length, 'announced prefix is', 'announced prefixes are')} not followed`,
    evidence: few(amiss.map(({ prefix, host = 'nobody', reason = '' }) => `${prefix} of ${host}: ${reason}`)),
    breaks: 'this host sends no packets there',
    fix: 'withdraw it on its host, or allow it in the network config (Prefixes.Allowed)',
    commands: LIST,
  }
}
