/** Problems in the status document, as values and as texts. */
import { describeProblem, type Problem } from '../model/result'
import type { Waiting } from '../model/waiting'
import type { Status } from './status'

/** What a problem is about -> how its text begins; a text about overlayd itself begins with nothing. */
const TITLES = {
  daemon: '',
  config: 'config: ',
  etcd: 'etcd: ',
  state: 'state: ',
  lease: 'lease: ',
  kernel: 'kernel: ',
  underlay: 'underlay: ',
  device: 'device: ',
  peers: 'peers: ',
  mesh: 'mesh: ',
  prefixes: 'prefixes: ',
  multicast: 'multicast: ',
  encryption: 'encryption: ',
  identity: 'identity: ',
  firewall: 'firewall: ',
  'subnet-file': 'subnet file: ',
  routes: 'routes: ',
  forwarding: 'forwarding: ',
  bridge: 'bridge: ',
} as const

export type ProblemPart = keyof typeof TITLES

/** A problem as the daemon finds it. */
export type StatusProblem = Problem<ProblemPart>

/** A problem as the status document has it: of a newer daemon it may be about another part. */
export type ProblemDetails = NonNullable<Status['problemDetails']>[number]

const titleOf = (part: string): string =>
  Object.hasOwn(TITLES, part) ? TITLES[part as ProblemPart] : part === '' ? '' : `${part}: `

/** The text of a problem in `problems`: `lease: its key is gone from etcd`. */
export const problemText = (problem: ProblemDetails): string =>
  `${titleOf(problem.part)}${describeProblem(problem)}`

/** What a daemon waits for, as a problem. */
export const waitingProblem = ({ part, code, reason, fix }: Waiting): StatusProblem => ({
  part,
  code,
  text: reason,
  ...(fix !== undefined && { fix }),
})

/** The problems of a status document as values. An older daemon gives only texts: those are about no part. */
export const problemsOf = ({
  problems,
  problemDetails,
}: Pick<Status, 'problems' | 'problemDetails'>): readonly ProblemDetails[] =>
  problemDetails ?? problems.map((text) => ({ part: '', code: 'unknown', text }))
