/** All checks, and what they make of the facts together. */
import { BRIDGE_CHECKS } from './bridge'
import { CONFIG_CHECKS } from './config'
import { DAEMON_CHECKS } from './daemon'
import { DEVICE_CHECKS } from './device'
import { ETCD_CHECKS } from './etcd'
import type { Facts } from './facts'
import type { Check, Finding, Severity } from './finding'
import { FIREWALL_CHECKS } from './firewall'
import { HOST_CHECKS } from './host'
import { LEASE_CHECKS } from './lease'
import { MULTICAST_CHECKS } from './multicast'
import { REACH_CHECKS } from './reach'
import { ROUTE_CHECKS } from './routes'

/** In this order: causes before what they cause. */
export const CHECKS: readonly Check[] = [
  ...DAEMON_CHECKS,
  ...ETCD_CHECKS,
  ...CONFIG_CHECKS,
  ...LEASE_CHECKS,
  ...DEVICE_CHECKS,
  ...ROUTE_CHECKS,
  ...HOST_CHECKS,
  ...FIREWALL_CHECKS,
  ...BRIDGE_CHECKS,
  ...MULTICAST_CHECKS,
  ...REACH_CHECKS,
]

/** The checks that need probes, which take the longest. */
export const PROBING: ReadonlySet<string> = new Set(REACH_CHECKS.map(({ name }) => name))

export interface CheckResult {
  readonly name: string
  readonly state: 'ok' | 'skip' | Severity
  /** What is the case, or why it could not be checked. */
  readonly summary: string
  readonly findings: readonly Finding[]
}

/**
 * Runs checks. All of them are made, since one explains another; those that were not asked for are left out of the answer.
 * @param only names; empty for all
 */
export function diagnose(facts: Facts, only: readonly string[] = []): CheckResult[] {
  const earlier: Finding[] = []
  return CHECKS.flatMap((check): CheckResult[] => {
    const result = check.run(facts, earlier)
    const wanted = only.length === 0 || only.includes(check.name)
    if ('skipped' in result) {
      return wanted ? [{ name: check.name, state: 'skip', summary: result.skipped, findings: [] }] : []
    }
    const { findings, summary } = result
    earlier.push(...findings)
    return wanted ? [{ name: check.name, state: worst(findings), summary, findings }] : []
  })
}

/** `ok` where there is nothing. */
export const worst = (findings: readonly Finding[]): 'ok' | Severity =>
  findings.some(({ severity }) => severity === 'fail') ? 'fail' : findings.length > 0 ? 'warn' : 'ok'
