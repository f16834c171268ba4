/** Pinned identities: of this host, and of the others. */
import type { Status } from '../../api/status'
import { count } from '../../model/count'
import { isUnproven } from '../../plan/trust/pins'
import type { DaemonFacts, Known } from '../facts'
import { type Check, check, type Finding, few, type Outcome, outcome } from '../finding'

export const IDENTITY_CHECKS: readonly Check[] = [
  check({
    name: 'identity',
    about: 'this host and the others have proven the identities that are pinned',
    needs: [],
    uses: ['daemon'],
    run: checkIdentity,
  }),
]

function checkIdentity({ daemon }: Known<never, 'daemon'>): Outcome {
  if (!daemon.ok) return { skipped: 'overlayd does not answer', because: 'needless' }
  const { identity, peers } = daemon.value
  // An overlayd of before does not tell, and one without a lease does not know.
  if (identity === undefined) return outcome('no pin is known', [])
  const { pin, pinned, refused } = identity
  const findings = [
    ...(pin === 'other' ? [notPinned(identity.key)] : []),
    ...(refused > 0 ? [unproven(refused, peers)] : []),
  ]
  return outcome(
    pinned === 0 ? 'no subnet is pinned' : `${count(pinned, 'subnet is', 'subnets are')} pinned`,
    findings,
  )
}

const notPinned = (key: string | undefined): Finding => ({
  code: 'identity-not-pinned',
  severity: 'fail',
  what: 'the subnet of this host is pinned to another identity',
  evidence: [key === undefined ? 'this host has no identity' : `the identity of this host is ${key}`],
  breaks: 'other hosts refuse the lease of this host, and send nothing to its containers',
  fix:
    'if this host was made anew, pin its identity; if another host is meant to have the subnet, end ' +
    'overlayd here',
  commands: [`overlayctl enroll --public-ip=ADDRESS --key=${key ?? '"$(overlayctl identity)"'}`],
})

function unproven(refused: number, peers: DaemonFacts['peers']): Finding {
  const named = peers.filter(({ reason = '' }) => isUnproven(reason))
  const line = ({ subnet, publicIp, reason }: Status['peers'][number]): string =>
    `${subnet} at ${publicIp}: ${reason}`
  return {
    code: 'identity-unproven',
    severity: 'warn',
    what:
      `${count(refused, 'lease is', 'leases are')} refused: not signed by the identity that is pinned, ` +
      'or a former one',
    evidence: few(named.map(line)),
    breaks: 'nothing is sent to these hosts, or it is sent as their last signed lease says',
    fix:
      "find out who wrote the lease (etcd's log of requests); delete it, and its host writes it again; or " +
      'pin the identity of the host if it was made anew',
    commands: ['overlayctl audit', 'overlayctl evict SUBNET'],
  }
}
