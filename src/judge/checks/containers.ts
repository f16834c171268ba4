/**
 * A ping from a container: the probe that goes the way of containers' packets, through every rule for
 * forwarding.
 */
import { count } from '../../model/count'
import type { ContainerProbe, Known } from '../facts'
import { type Check, check, type Finding, few, type Outcome, outcome } from '../finding'
import { reachOf } from './reach'

/** Findings that explain lost forwarded packets, while the host's own packets pass. */
const CAUSES: ReadonlySet<string> = new Set([
  'forward-drop',
  'forwarding-off',
  'ipv6-disabled',
  'rp-filter-drops',
  'redirected',
])

export const CONTAINER_CHECKS: readonly Check[] = [
  check({
    name: 'containers',
    about: 'a container of this host reaches peers',
    needs: ['containerProbes'],
    uses: ['probes'],
    after: 'all',
    premise: 'started',
    run: checkContainers,
  }),
]

function checkContainers(
  { containerProbes, probes }: Known<'containerProbes', 'probes'>,
  earlier: readonly Finding[],
): Outcome {
  if (containerProbes.value.length === 0) return outcome('no container and peer to try it with', [])
  const known = new Map(probes.value?.map((probe) => [probe.peer, probe]))
  const isExplained = ({ peer }: ContainerProbe): boolean =>
    earlier.some(
      ({ explains, code }) => explains === 'all' || explains?.has(peer) === true || CAUSES.has(code),
    )
  const lost = containerProbes.value.filter(
    (probe) => probe.ping.received === 0 && reachOf(known.get(probe.peer)) === 'ok' && !isExplained(probe),
  )
  const answered = containerProbes.value.filter(({ ping }) => ping.received > 0)
  const from = containerProbes.value[0]?.from
  return outcome(
    `${from} reaches ${count(answered.length, 'peer')} of ${containerProbes.value.length} tried`,
    [
      lost.length === 0
        ? undefined
        : {
            code: 'container-unreached',
            severity: 'fail',
            what: `this host reaches ${count(lost.length, 'peer')}, and a container of this host does not`,
            evidence: few(
              lost.map(
                ({ from: container, peer, ping }) =>
                  `${container} to ${peer}: ${ping.received} of ${ping.sent} pings answered`,
              ),
            ),
            breaks: 'containers here do not reach those of other hosts',
            fix:
              'something drops forwarded packets, here or on the peer: rules of another program (tc, XDP, ' +
              'eBPF), a filter of the reverse path, or the firewall of the peer; overlayctl doctor there ' +
              'tells more',
            commands: ['nft monitor trace', 'tc filter show dev docker0 ingress'],
          },
    ],
  )
}
