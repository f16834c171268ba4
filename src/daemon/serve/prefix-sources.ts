/** What the control socket asks about announced prefixes. */

import type { PrefixesDocument } from '../../api/documents'
import { DOCUMENT_SCHEMA } from '../../api/words'
import {
  type Family,
  familyOf,
  formatPrefix,
  isNetwork,
  type Prefix,
  parseIpPrefix,
} from '../../model/address'
import { OverlayError } from '../../model/errors'
import type { Peer } from '../../model/lease'
import { type Announcement, formatVia, parseVia, prefixName, type Via } from '../../model/prefixes'
import { describeUnaware, isOverlayds } from '../../plan/prefixes/awareness'
import { describeSilence } from '../../plan/prefixes/gateways'
import { describeWait } from '../../plan/prefixes/standings'
import type { NodeView } from '../node/parts'
import { describeRival } from '../prefixes/announcer'
import type { ControlSources } from './control-socket'

/** @param signal of the daemon */
export const prefixSources = (
  node: () => NodeView | undefined,
  signal: AbortSignal,
): Pick<ControlSources, 'prefixes' | 'announce' | 'withdraw' | 'addSubnet' | 'removeSubnet'> => ({
  prefixes: () => reportPrefixes(node()),
  async announce({ prefix: text, priority, forSeconds, via: way, share }) {
    const prefix = readPrefix(text)
    const until = forSeconds === undefined ? undefined : Date.now() + forSeconds * 1000
    const via = way === undefined ? undefined : readVia(way)
    const waits = await demand(node()).announcer.announce(
      { prefix, priority, until, via, ...(share !== undefined && { share }) },
      signal,
    )
    const unaware = describeUnawareOf(demand(node()), familyOf(prefix.address))
    return {
      announced: formatPrefix(prefix),
      ...(waits !== undefined && { waits }),
      ...(unaware !== undefined && { unaware }),
    }
  },
  async withdraw({ prefix: text }) {
    const prefix = readPrefix(text)
    await demand(node()).announcer.withdraw(prefix, signal)
    return formatPrefix(prefix)
  },
  async addSubnet({ family: asked, length }) {
    const view = demand(node())
    const family = asked ?? (view.plan.inputs.config.ipv4 === undefined ? 'IPv6' : 'IPv4')
    const added = await view.announcer.addSubnet(family, length, signal)
    const unaware = describeUnawareOf(view, family)
    return { added: formatPrefix(added), ...(unaware !== undefined && { unaware }) }
  },
  async removeSubnet({ prefix: text }) {
    const prefix = readPrefix(text)
    await demand(node()).announcer.removeSubnet(prefix, signal)
    return formatPrefix(prefix)
  },
})

function demand(node: NodeView | undefined): NodeView {
  if (node !== undefined) return node
  throw new OverlayError('announce', 'this host has no lease yet', 'see why: overlayctl status')
}

function readPrefix(text: string): Prefix {
  const prefix = parseIpPrefix(text)
  if (prefix !== undefined && isNetwork(prefix)) return prefix
  throw new OverlayError(
    'announce',
    `"${text}" is not a prefix without host bits`,
    'write it as in 10.5.240.7/32 or 192.0.2.0/24',
  )
}

/** Which hosts may not see what is announced; `undefined` where all are known to. */
function describeUnawareOf({ overlays, prefixes }: NodeView, family: Family): string | undefined {
  const peers = overlays.find(({ spec }) => spec.family === family)?.peers
  const announcing = new Set(Array.from(prefixes.standings(), ({ claim }) => claim.host))
  const nameOf = ({ key }: Peer): string => key.slice(key.lastIndexOf('/') + 1)
  const unknown = Array.from(peers?.peers() ?? []).filter(
    (peer) => !isOverlayds(peer) && !announcing.has(nameOf(peer)),
  )
  return describeUnaware(
    unknown.map(({ subnet }) => formatPrefix(subnet)),
    peers?.size ?? 0,
  )
}

function readVia(text: string): Via {
  const via = parseVia(text)
  if (via !== undefined) return via
  throw new OverlayError(
    'announce',
    `"${text}" is neither an address nor the name of a link`,
    'write --via as in br-moving or 10.5.1.9',
  )
}

/** Why a host that shares gets no packets of this one. */
const LEFT_OUT = 'this host does not reach it: its packets go to the others'

function reportPrefixes(node: NodeView | undefined): PrefixesDocument {
  const schema = DOCUMENT_SCHEMA
  if (node === undefined) return { schema, allowed: [], prefixes: [], problem: 'this host has no lease yet' }
  const { prefixes, announcer, deliverer, plan } = node
  const { ownName, judged, unreadable, more } = prefixes
  const problem = announcer.problem ?? deliverer.problem
  const isInEtcd = new Set(prefixes.ownClaims().map(({ announcement }) => prefixName(announcement.prefix)))
  const silent = new Map(
    deliverer.silent.map((gateway) => [prefixName(gateway.announcement.prefix), describeSilence(gateway)]),
  )
  return {
    schema,
    allowed: (plan.inputs.config.prefixes ?? []).map(formatPrefix),
    prefixes: [
      ...judged.map(({ claim, standing }) => {
        const reason =
          standing.kind === 'waits'
            ? describeWait(claim, standing.winner)
            : standing.kind === 'refused'
              ? standing.reason
              : standing.kind === 'shares' && prefixes.isLeftOut(claim)
                ? LEFT_OUT
                : undefined
        const silence = claim.host === ownName ? silent.get(prefixName(claim.announcement.prefix)) : undefined
        return {
          ...reportAnnouncement(claim.announcement, claim.host, ownName),
          state: standing.kind,
          ...(silence !== undefined && { silence }),
          ...(reason !== undefined && { reason }),
        }
      }),
      ...deliverer.waiting
        .filter(({ announcement }) => !isInEtcd.has(prefixName(announcement.prefix)))
        .map(({ announcement, obstacle: { reason, fix } }) => ({
          ...reportAnnouncement(announcement, ownName, ownName),
          state: 'waits' as const,
          reason: `not announced: ${reason}; ${fix}`,
        })),
      ...announcer.outrun.map(({ announcement, rival }) => ({
        ...reportAnnouncement(announcement, ownName, ownName),
        state: 'waits' as const,
        reason:
          `not announced: ${describeRival(rival)}; ` +
          'give it back: overlayctl lease remove, and add another',
      })),
      ...unreadable.map(({ name, reason = '' }) => {
        return { prefix: name, own: name.startsWith(`${ownName}/`), state: 'unreadable' as const, reason }
      }),
    ],
    ...(more > 0 && { more }),
    ...(problem !== undefined && { problem }),
  }
}

const reportAnnouncement = (
  { prefix, priority, until, via, share, further }: Announcement,
  host: string,
  ownName: string,
) => ({
  prefix: formatPrefix(prefix),
  host,
  own: host === ownName,
  priority,
  ...(until !== undefined && { until: new Date(until).toISOString() }),
  ...(via !== undefined && { via: formatVia(via) }),
  ...(share !== undefined && { share }),
  ...(further === true && { further }),
})
