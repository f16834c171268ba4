/** All checks, and the results of all of them together. */
import { BRIDGE_CHECKS } from './checks/bridge'
import { CONFIG_CHECKS } from './checks/config'
import { CONTAINER_CHECKS } from './checks/containers'
import { COUNTER_CHECKS } from './checks/counters'
import { DAEMON_CHECKS, PROBLEM_CHECKS } from './checks/daemon'
import { DEVICE_CHECKS } from './checks/device'
import { DOCKER_CHECKS } from './checks/docker'
import { ENCRYPTION_CHECKS } from './checks/encryption'
import { ENGINE_CHECKS } from './checks/engines'
import { ETCD_CHECKS } from './checks/etcd'
import { FIREWALL_CHECKS } from './checks/firewall'
import { HOST_CHECKS } from './checks/host'
import { IDENTITY_CHECKS } from './checks/identity'
import { LEASE_CHECKS } from './checks/lease'
import { MULTICAST_CHECKS } from './checks/multicast'
import { PREFIX_CHECKS } from './checks/prefixes'
import { REACH_CHECKS } from './checks/reach'
import { ROUTE_CHECKS } from './checks/routes'
import type { DaemonFacts, FactName, Facts, Known } from './facts'
import {
  type Because,
  type Check,
  type Finding,
  type MadeFinding,
  type Outcome,
  type Severity,
  skipFor,
} from './finding'

/** In this order: causes before their effects. */
export const CHECKS: readonly Check[] = [
  ...DAEMON_CHECKS,
  ...ETCD_CHECKS,
  ...CONFIG_CHECKS,
  ...LEASE_CHECKS,
  ...DEVICE_CHECKS,
  ...ENCRYPTION_CHECKS,
  ...IDENTITY_CHECKS,
  ...ROUTE_CHECKS,
  ...HOST_CHECKS,
  ...FIREWALL_CHECKS,
  ...BRIDGE_CHECKS,
  ...DOCKER_CHECKS,
  ...ENGINE_CHECKS,
  ...MULTICAST_CHECKS,
  ...PREFIX_CHECKS,
  ...REACH_CHECKS,
  ...CONTAINER_CHECKS,
  ...COUNTER_CHECKS,
  ...PROBLEM_CHECKS,
]

/** The facts that every report needs: what the daemon waits for, and this host's subnets. */
const ALWAYS: readonly FactName[] = ['daemon', 'subnetFile']

/**
 * The checks that must be made for those that were asked for.
 * @param only names; empty for all
 */
function checksFor(only: readonly string[]): readonly Check[] {
  if (only.length === 0) return CHECKS
  const wanted = new Set(only)
  // Backwards: a check comes after all that it names.
  for (const [at, { name, after = [] }] of [...CHECKS.entries()].reverse()) {
    if (!wanted.has(name)) continue
    const earlier = CHECKS.slice(0, at).filter((each) => after === 'all' || after.includes(each.name))
    for (const each of earlier) wanted.add(each.name)
  }
  return CHECKS.filter(({ name }) => wanted.has(name))
}

/**
 * The facts that checks need.
 * @param only names of checks; empty for all
 */
export const factsFor = (only: readonly string[]): FactName[] => [
  ...new Set([...ALWAYS, ...checksFor(only).flatMap(({ needs, uses = [] }) => [...needs, ...uses])]),
]

export interface CheckResult {
  readonly name: string
  readonly state: 'ok' | 'skip' | Severity
  /** What is the case, or why the check was skipped. */
  readonly summary: string
  readonly findings: readonly Finding[]
  /** Why the check, or a part of it, was not made; absent where it was made or is not needed. */
  readonly unmade?: 'rights' | 'unknown'
}

/**
 * Makes checks. One explains another: the checks whose findings matter for those asked for are made too, and
 * left out of the answer.
 * @param only names; empty for all
 */
export function diagnose(facts: Facts, only: readonly string[] = []): CheckResult[] {
  const earlier: MadeFinding[] = []
  const waits = facts.daemon.value?.daemon.waiting
  const isShown = (name: string): boolean => only.length === 0 || only.includes(name)
  return checksFor(only).flatMap((check): CheckResult[] => {
    const { name } = check
    const result = isConsequence(check, waits) ? WAITS : make(check, facts, earlier, isShown)
    if ('findings' in result) earlier.push(...result.findings.map((found) => ({ ...found, check: name })))
    return isShown(name) ? [resultOf(name, result)] : []
  })
}

const WAITS: Outcome = { skipped: 'overlayd waits', because: 'needless' }

/** Whether all that a check could find follows from what the daemon waits for. */
const isConsequence = ({ premise }: Check, waits: DaemonFacts['daemon']['waiting']): boolean =>
  waits !== undefined && (premise === 'started' || (premise === 'config' && waits.part === 'config'))

/** Fact -> the check that explains its absence in full, and the text for where that check is shown. */
const EXPLAINED: Partial<Readonly<Record<FactName, { readonly check: string; readonly text: string }>>> = {
  etcd: { check: 'etcd', text: 'etcd cannot be read' },
  config: { check: 'config', text: 'the network config is not known' },
}

function make(
  check: Check,
  facts: Facts,
  earlier: readonly MadeFinding[],
  isShown: (check: string) => boolean,
): Outcome {
  for (const name of check.needs) {
    const { problem } = facts[name]
    if (problem === undefined) continue
    const explained = EXPLAINED[name]
    const isEnough = explained !== undefined && isShown(explained.check)
    return skipFor({ ...problem, text: isEnough ? explained.text : problem.text })
  }
  // The facts that it needs are there.
  return check.run(facts as Known<FactName>, earlier)
}

function resultOf(name: string, result: Outcome): CheckResult {
  if ('skipped' in result) {
    const { skipped, because = 'unknown' } = result
    return { name, state: 'skip', summary: skipped, findings: [], ...unmadeOf(because) }
  }
  const { findings, summary, unmade } = result
  if (unmade === undefined) return { name, state: worst(findings), summary, findings }
  const state = findings.length > 0 ? worst(findings) : 'skip'
  return {
    name,
    state,
    summary: `${summary}; not looked at: ${unmade.what}`,
    findings,
    ...unmadeOf(unmade.because),
  }
}

const unmadeOf = (because: Because): { readonly unmade?: 'rights' | 'unknown' } =>
  because === 'needless' ? {} : { unmade: because }

/** `ok` where there is no finding. */
export const worst = (findings: readonly Finding[]): 'ok' | Severity =>
  findings.some(({ severity }) => severity === 'fail') ? 'fail' : findings.length > 0 ? 'warn' : 'ok'
