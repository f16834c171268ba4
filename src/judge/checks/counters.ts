/** The packets that the kernel counted as lost during the probes. */
import type { Known } from '../facts'
import { type Check, check, type Finding, type Outcome, outcome } from '../finding'
import { reachOf } from './reach'

export const COUNTER_CHECKS: readonly Check[] = [
  check({
    name: 'counters',
    about: "this host's kernel counts no loss while peers are probed",
    needs: ['counted', 'probes'],
    after: 'all',
    premise: 'started',
    run: checkCounters,
  }),
]

/** The counter of the reverse path filter (net/ipv4/fib_frontend.c). */
export const REVERSE_PATH = 'IPReversePathFilter'

function checkCounters(
  { counted, probes }: Known<'counted' | 'probes'>,
  earlier: readonly Finding[],
): Outcome {
  const lines = [...counted.value].map(([name, packets]) => `${name}: ${packets}`)
  // A busy host always counts some losses. They mean something only where probes are lost.
  const lost = probes.value.filter((probe) => !['ok', 'no-ping'].includes(reachOf(probe)))
  const isExplained = lost.every(({ peer }) =>
    earlier.some(({ explains }) => explains === 'all' || explains?.has(peer) === true),
  )
  if (lines.length === 0) return outcome('no loss', [])
  if (lost.length === 0 || isExplained) return outcome(`${lines.join(', ')}; no probe was lost for that`, [])
  return outcome('', [
    {
      code: 'kernel-drops',
      severity: 'warn',
      what: "this host's kernel counted losses while probes to peers were lost",
      evidence: lines,
      breaks: 'what is lost here never leaves, or never gets to a container',
      fix:
        'the name of the counter says where: UdpRcvbufErrors a full socket buffer, a device its queue, ' +
        'conntrack its table',
      commands: ['nstat -az', 'ip -s link', 'conntrack -S'],
    },
  ])
}
