/** What the control socket asks about announced prefixes. */
import { DOCUMENT_SCHEMA, type PrefixesDocument } from '../../api/documents'
import { formatPrefix, isNetwork, type Prefix, parseIpv4Prefix, parseIpv6Prefix } from '../../model/address'
import { OverlayError } from '../../model/errors'
import { describeWait } from '../../plan/prefixes/standings'
import type { NodeView } from '../node/parts'
import type { ControlSources } from './control-socket'

/** @param signal of the daemon */
export const prefixSources = (
  node: () => NodeView | undefined,
  signal: AbortSignal,
): Pick<ControlSources, 'prefixes' | 'announce' | 'withdraw'> => ({
  prefixes: () => reportPrefixes(node()),
  async announce({ prefix: text, priority, forSeconds }) {
    const prefix = readPrefix(text)
    const until = forSeconds === undefined ? undefined : Date.now() + forSeconds * 1000
    await demand(node()).announcer.announce({ prefix, priority, until }, signal)
    return formatPrefix(prefix)
  },
  async withdraw({ prefix: text }) {
    const prefix = readPrefix(text)
    await demand(node()).announcer.withdraw(prefix, signal)
    return formatPrefix(prefix)
  },
})

function demand(node: NodeView | undefined): NodeView {
  if (node !== undefined) return node
  throw new OverlayError('announce', 'this host has no lease yet', 'see why: overlayctl status')
}

function readPrefix(text: string): Prefix {
  const prefix = parseIpv4Prefix(text) ?? parseIpv6Prefix(text)
  if (prefix !== undefined && isNetwork(prefix)) return prefix
  throw new OverlayError(
    'announce',
    `"${text}" is not a prefix without host bits`,
    'write it as in 10.5.240.7/32 or 192.0.2.0/24',
  )
}

function reportPrefixes(node: NodeView | undefined): PrefixesDocument {
  const schema = DOCUMENT_SCHEMA
  if (node === undefined) return { schema, allowed: [], prefixes: [], problem: 'this host has no lease yet' }
  const { prefixes, announcer, plan } = node
  const { ownName, judged, unreadable, more } = prefixes
  const { problem } = announcer
  return {
    schema,
    allowed: (plan.inputs.config.prefixes ?? []).map(formatPrefix),
    prefixes: [
      ...judged.map(({ claim, standing }) => {
        const { prefix, priority, until } = claim.announcement
        const reason =
          standing.kind === 'waits'
            ? describeWait(claim, standing.winner)
            : standing.kind === 'refused'
              ? standing.reason
              : undefined
        return {
          prefix: formatPrefix(prefix),
          host: claim.host,
          own: claim.host === ownName,
          priority,
          ...(until !== undefined && { until: new Date(until).toISOString() }),
          state: standing.kind,
          ...(reason !== undefined && { reason }),
        }
      }),
      ...unreadable.map(({ name, reason = '' }) => {
        return { prefix: name, own: name.startsWith(`${ownName}/`), state: 'unreadable' as const, reason }
      }),
    ],
    ...(more > 0 && { more }),
    ...(problem !== undefined && { problem }),
  }
}
