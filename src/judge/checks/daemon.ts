/** The daemon itself: whether it runs, what it waits for, and the problems that it has. */
import { type ProblemDetails, type ProblemPart, problemsOf, problemText } from '../../api/problems'
import { type Given, type Known, type LastExitFact, NO_RIGHTS, type ServiceFact } from '../facts'
import { type Check, check, type Finding, type MadeFinding, type Outcome, outcome, skipFor } from '../finding'

const CARRIES =
  'what the kernel has still carries traffic, but hosts that join, leave or move are not followed, and the ' +
  'lease ends within a day'

export const DAEMON_CHECKS: readonly Check[] = [
  check({
    name: 'daemon',
    about: 'overlayd runs, answers, and waits for nothing',
    needs: [],
    uses: ['daemon', 'lastExit', 'service'],
    run: checkDaemon,
  }),
]

/** After all others: the problems of overlayd that no other check has named. */
export const PROBLEM_CHECKS: readonly Check[] = [
  check({
    name: 'status',
    about: 'whatever else overlayd itself says is wrong',
    needs: [],
    uses: ['daemon', 'kernel', 'config', 'firewall', 'forwarding'],
    ifGathered: ['probes'],
    after: [
      ...['etcd', 'certificates', 'config', 'overlap', 'lease', 'leases', 'peers', 'firewall', 'multicast'],
      'prefixes',
      ...['encryption', 'identity', 'routes', 'forwarding', 'bridge'],
    ],
    run: checkProblems,
  }),
]

function checkDaemon(facts: Known<never, 'daemon' | 'lastExit' | 'service'>): Outcome {
  const { daemon, lastExit, service } = facts
  if (!daemon.ok) {
    const { code, text, fix } = daemon.problem
    if (code === NO_RIGHTS) return skipFor(daemon.problem)
    return outcome('', [
      code === 'control-socket' ? mute(text, fix) : down(facts, lastExit.value, service.value, text),
    ])
  }
  const { version, daemon: state } = daemon.value
  const summary = `overlayd ${version}, ${state.phase}`
  return outcome(summary, [
    state.waiting === undefined ? undefined : waits(state.waiting),
    service.value === undefined ? undefined : restarts(service.value),
  ])
}

const mute = (reason: string, fix: string | undefined): Finding => ({
  code: 'daemon-mute',
  severity: 'fail',
  what: 'overlayd does not answer',
  evidence: [reason],
  breaks: CARRIES,
  fix: fix ?? 'restart it; that costs no packet',
  commands: ['systemctl restart overlayd'],
})

/** Restarts of systemd from which on a daemon counts as one that ends again and again. */
const MANY_RESTARTS = 2
/** Seconds for which a daemon that was started again is looked at with doubt. */
const SETTLED = 600

function down(
  { runDirectory }: Given,
  lastExit: LastExitFact | undefined,
  service: ServiceFact | undefined,
  reason: string,
): Finding {
  const times = Math.max(lastExit?.times ?? 0, service?.restarts ?? 0)
  const hasFailed = service !== undefined && service.result !== '' && service.result !== 'success'
  if (lastExit === undefined && !hasFailed && times < MANY_RESTARTS) {
    return {
      code: 'daemon-down',
      severity: 'fail',
      what: 'overlayd does not run',
      evidence: [reason, ...wordsOf(service)],
      breaks: CARRIES,
      fix: `start it, or give the --run-dir that it was started with (looked in ${runDirectory})`,
      commands: ['systemctl start overlayd'],
    }
  }
  const again = times >= MANY_RESTARTS
  return {
    code: again ? 'daemon-crashes' : 'daemon-failed',
    severity: 'fail',
    what: again
      ? `overlayd ends again and again: ${times} times since it was last ready`
      : 'overlayd has ended with an error',
    evidence: [
      ...(lastExit === undefined ? [] : [`last at ${lastExit.at}: ${lastExit.reason}`]),
      reason,
      ...wordsOf(service),
    ],
    breaks: CARRIES,
    fix: lastExit?.fix ?? 'its log has more; systemd starts it again after a while',
    commands: ['journalctl -u overlayd -n 50', 'systemctl status overlayd'],
  }
}

/** A daemon that answers now, and has ended several times a short while ago. */
function restarts(service: ServiceFact): Finding | undefined {
  const { restarts: times, runsSeconds } = service
  if (times < MANY_RESTARTS || runsSeconds === undefined || runsSeconds > SETTLED) return undefined
  return {
    code: 'daemon-restarts',
    severity: 'warn',
    what: `overlayd runs for ${runsSeconds} s, and systemd has started it again ${times} times`,
    evidence: wordsOf(service),
    breaks: 'nothing now; while it was down, hosts that join, leave or move were not followed',
    fix: 'the log says why it ended; overlayctl bundle has that log',
    commands: ['journalctl -u overlayd -n 200'],
  }
}

/** What systemd and the journal say. */
function wordsOf(service: ServiceFact | undefined): string[] {
  if (service === undefined) return []
  const { unit, state, result, ended, restarts: times, lastLine } = service
  const parts = [
    `${unit} is ${state}`,
    ...(result === '' || result === 'success' ? [] : [`result ${result}`]),
    ...(ended === undefined ? [] : [`the last process ended with ${ended}`]),
    ...(times === 0 ? [] : [`started again ${times} times`]),
  ]
  return [`systemd: ${parts.join(', ')}`, ...(lastLine === undefined ? [] : [`its last error: ${lastLine}`])]
}

const waits = ({
  code,
  reason,
  fix,
}: {
  readonly code: string
  readonly reason: string
  readonly fix?: string | undefined
}): Finding => ({
  code: 'daemon-waiting',
  severity: 'fail',
  what: 'overlayd runs, and waits before this host can take part',
  evidence: [`${reason} (${code})`],
  breaks: 'this host has no part in the overlay until then; what is below and needs that was not looked at',
  fix: fix ?? 'overlayd goes on by itself as soon as that is over',
  explains: 'all',
})

/** Part of a problem -> checks whose findings name problems with that part in words of their own. */
const NAMED_BY: Readonly<Partial<Record<ProblemPart, readonly string[]>>> = {
  config: ['config', 'overlap'],
  etcd: ['etcd', 'certificates'],
  lease: ['lease', 'leases'],
  multicast: ['multicast'],
  prefixes: ['prefixes'],
  encryption: ['encryption'],
  identity: ['identity'],
  firewall: ['firewall', 'udp'],
  routes: ['routes'],
  forwarding: ['forwarding'],
  bridge: ['bridge'],
  mesh: ['interface', 'encryption', 'peers', 'routes', 'rp-filter', 'firewall', 'udp', 'mtu', 'reach'],
}
/**
 * Findings of those checks about other things: leases of other hosts, and packets that overlayd does not
 * judge.
 */
const ELSE: ReadonlySet<string> = new Set([
  ...['lease-rejected', 'peer-has-own-address', 'vni-differs'],
  ...['firewall-undecided', 'host-blocked', 'port-differs'],
  ...['prefix-refused', 'prefix-rp-filter', 'prefix-led-astray'],
])
/** Parts whose problems end by themselves, or cost nothing now. */
const MILD: ReadonlySet<string> = new Set<ProblemPart>(['state', 'peers', 'multicast', 'daemon'])

/** Whether a finding is about a problem of overlayd's. */
function names({ check, code }: MadeFinding, problem: ProblemDetails): boolean {
  if (code === problem.code) return true
  // The finding on the peers has the reasons of the kernel.
  if (problem.code === 'kernel-refusal') return code === 'peer-failing'
  const checks: readonly string[] =
    Object.entries(NAMED_BY).find(([part]) => part === problem.part)?.[1] ?? []
  return checks.includes(check) && !ELSE.has(code)
}

type ProblemFacts = Known<never, 'daemon' | 'kernel' | 'config' | 'firewall' | 'forwarding' | 'probes'>

/**
 * Whether the doctor has looked at the same thing just now. The daemon's own look was a while ago: what is
 * cured meanwhile is still in its status for some seconds.
 */
function isLookedAt(
  { kernel, config, firewall, forwarding, probes }: ProblemFacts,
  problem: ProblemDetails,
): boolean {
  switch (problem.part) {
    case 'bridge':
    case 'routes':
      return kernel.ok
    case 'forwarding':
      return forwarding.ok
    case 'firewall':
      // Of rules of its own the daemon knows more: whether they can be written.
      return problem.code !== 'rules-not-written' && config.ok && firewall.value?.unread.length === 0
    case 'mesh':
      return probes.ok
    default:
      return false
  }
}

/** Every problem of the daemon is told: as a finding, or in the summary. */
function checkProblems(facts: ProblemFacts, earlier: readonly MadeFinding[]): Outcome {
  const { daemon } = facts
  if (!daemon.ok) return { skipped: 'overlayd does not answer', because: 'needless' }
  const problems = problemsOf(daemon.value)
  const { waiting } = daemon.value.daemon
  const isNamed = (problem: ProblemDetails): boolean =>
    (waiting !== undefined && (problem.code === waiting.code || MILD.has(problem.part))) ||
    earlier.some((finding) => names(finding, problem))
  const isOver = (problem: ProblemDetails): boolean => !isNamed(problem) && isLookedAt(facts, problem)
  const rest = problems.filter((problem) => !isNamed(problem) && !isOver(problem))
  const told = [
    ...problems.filter(isNamed).map((problem) => `named above: ${problemText(problem)}`),
    ...problems.filter(isOver).map((problem) => `over by now: ${problemText(problem)}`),
  ]
  if (rest.length === 0) return outcome(told.length === 0 ? 'nothing' : told.join('; '), [])
  const isMild = rest.every(({ part }) => MILD.has(part))
  return outcome(told.join('; '), [
    {
      code: 'daemon-problem',
      severity: isMild ? 'warn' : 'fail',
      what: isMild ? 'overlayd says that not all is well' : 'overlayd cannot do what it should',
      evidence: rest.map(problemText),
      breaks: isMild ? 'nothing yet' : 'part of this host is not as etcd wants it',
      fix: 'the reason is in its words; it tries again by itself',
      commands: ['overlayctl status', 'journalctl -u overlayd -n 50'],
    },
  ])
}
