/** The daemon itself: whether it runs, what it waits for, and the problems that it has. */
import { type ProblemDetails, type ProblemPart, problemsOf, problemText } from '../../api/problems'
import { type Given, type Known, type LastExitFact, NO_RIGHTS } from '../facts'
import {
  type Check,
  check,
  type Finding,
  few,
  type MadeFinding,
  type Outcome,
  outcome,
  skipFor,
} from '../finding'

const CARRIES =
  'what the kernel has still carries traffic, but hosts that join, leave or move are not followed, and the ' +
  'lease ends within a day'

export const DAEMON_CHECKS: readonly Check[] = [
  check({
    name: 'daemon',
    about: 'overlayd runs, answers, and waits for nothing',
    needs: [],
    uses: ['daemon', 'lastExit'],
    run: checkDaemon,
  }),
]

/** After all others: the problems of overlayd that no other check has named. */
export const PROBLEM_CHECKS: readonly Check[] = [
  check({
    name: 'status',
    about: 'whatever else overlayd itself says is wrong',
    needs: [],
    uses: ['daemon'],
    after: [
      ...['etcd', 'certificates', 'config', 'overlap', 'lease', 'leases', 'peers', 'firewall', 'multicast'],
      ...['encryption', 'identity'],
    ],
    run: checkProblems,
  }),
]

function checkDaemon(facts: Known<never, 'daemon' | 'lastExit'>): Outcome {
  const { daemon, lastExit } = facts
  if (!daemon.ok) {
    const { code, text, fix } = daemon.problem
    if (code === NO_RIGHTS) return skipFor(daemon.problem)
    return outcome('', [code === 'control-socket' ? mute(text, fix) : down(facts, lastExit.value, text)])
  }
  const { version, daemon: state } = daemon.value
  const summary = `overlayd ${version}, ${state.phase}`
  return outcome(summary, state.waiting === undefined ? [] : [waits(state.waiting)])
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

function down({ runDirectory }: Given, lastExit: LastExitFact | undefined, reason: string): Finding {
  if (lastExit === undefined) {
    return {
      code: 'daemon-down',
      severity: 'fail',
      what: 'overlayd does not run',
      evidence: [reason],
      breaks: CARRIES,
      fix: `start it, or give the --run-dir that it was started with (looked in ${runDirectory})`,
      commands: ['systemctl start overlayd'],
    }
  }
  const { at, times, reason: last, fix } = lastExit
  const again = times > 1
  return {
    code: again ? 'daemon-crashes' : 'daemon-failed',
    severity: 'fail',
    what: again
      ? `overlayd ends again and again: ${times} times since it was last ready`
      : 'overlayd has ended with an error',
    evidence: [`last at ${at}: ${last}`, reason],
    breaks: CARRIES,
    fix: fix ?? 'its log has more; systemd starts it again after a while',
    commands: ['journalctl -u overlayd -n 50', 'systemctl status overlayd'],
  }
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
  encryption: ['encryption'],
  identity: ['identity'],
  firewall: ['firewall', 'udp'],
}
/**
 * Findings of those checks about other things: leases of other hosts, and packets that overlayd does not
 * judge.
 */
const ELSE: ReadonlySet<string> = new Set([
  ...['lease-rejected', 'peer-has-own-address', 'vni-differs'],
  ...['firewall-undecided', 'host-blocked', 'port-differs'],
])
/** Parts whose problems end by themselves, or cost nothing now. */
const MILD: ReadonlySet<string> = new Set<ProblemPart>(['state', 'peers', 'multicast', 'daemon'])

/** Whether a finding is about a problem of overlayd's. */
function names({ check, code }: MadeFinding, problem: ProblemDetails): boolean {
  // The finding on the peers has the reasons of the kernel.
  if (problem.code === 'kernel-refusal') return code === 'peer-failing'
  const checks: readonly string[] =
    Object.entries(NAMED_BY).find(([part]) => part === problem.part)?.[1] ?? []
  return checks.includes(check) && !ELSE.has(code)
}

function checkProblems({ daemon }: Known<never, 'daemon'>, earlier: readonly MadeFinding[]): Outcome {
  if (!daemon.ok) return { skipped: 'overlayd does not answer', because: 'needless' }
  const problems = problemsOf(daemon.value)
  const { waiting } = daemon.value.daemon
  const rest = problems.filter((problem) => {
    if (waiting !== undefined && (problem.code === waiting.code || MILD.has(problem.part))) return false
    return !earlier.some((finding) => names(finding, problem))
  })
  if (rest.length === 0) return outcome(problems.length === 0 ? 'nothing' : 'nothing that is not above', [])
  const isMild = rest.every(({ part }) => MILD.has(part))
  return outcome('', [
    {
      code: 'daemon-problem',
      severity: isMild ? 'warn' : 'fail',
      what: isMild ? 'overlayd says that not all is well' : 'overlayd cannot do what it should',
      evidence: few(rest.map(problemText)),
      breaks: isMild ? 'nothing yet' : 'part of this host is not as etcd wants it',
      fix: 'the reason is in its words; it tries again by itself',
      commands: ['overlayctl status', 'journalctl -u overlayd -n 50'],
    },
  ])
}
