/** Runs `overlayctl doctor -o json` on a host of the lab and parses its report. */
import type { DoctorReport } from '../../src/doctor/report'
import type { Finding } from '../../src/judge/finding'
import type { Host } from '../lab/host'
import type { Lab } from '../lab/lab'
import { inNamespace } from '../lab/namespace'
import { run } from '../lab/process'
import { Pending, waitFor } from '../lab/wait'

/** Verdict -> exit code, as in the help text of overlayctl doctor. */
const EXIT = { ok: 0, incomplete: 1, warn: 1, fail: 2 } as const

/** Runs the doctor. The exit code has to match the report's verdict. */
export function doctor(_lab: Lab, host: Host, ...flags: readonly string[]): Promise<DoctorReport> {
  return withSwiftEtcd(async () => {
    const { code, stdout, stderr } = await host.overlayctl('doctor', '-o', 'json', ...flags)
    return readReport(code, stdout, stderr)
  })
}

/** Examines again while etcd takes too long to answer: on a busy machine that is no fault of the lab. */
export function withSwiftEtcd(examine: () => Promise<DoctorReport>): Promise<DoctorReport> {
  return waitFor('an etcd that answers in time', async () => {
    const report = await examine()
    const slow = report.checks.flatMap(({ findings }) => findings).find(isSlowEtcd)
    return slow === undefined ? report : new Pending(`${slow.code}: ${slow.evidence.join('; ')}`)
  })
}

/** Found by the doctor itself, or by the daemon, which asks etcd for each status. */
const isSlowEtcd = ({ code, evidence }: Finding): boolean =>
  code === 'etcd-slow' ||
  (code === 'daemon-problem' && evidence.every((line) => /^etcd: no answer within/.test(line)))

export function readReport(code: number | null, stdout: string, stderr: string): DoctorReport {
  if (stdout === '') throw new Error(`the doctor printed no report: ${stderr}`)
  const report = JSON.parse(stdout) as DoctorReport
  expect(code).toBe(EXIT[report.verdict])
  return report
}

/** Codes of all findings, in the order of the checks. */
export const codesOf = ({ checks }: DoctorReport): string[] =>
  checks.flatMap(({ findings }) => findings.map(({ code }) => code))

/** The commands that the report gives to fix the finding with this code. */
export const cureOf = ({ checks }: DoctorReport, code: string): readonly string[] =>
  checks.flatMap(({ findings }) => findings.filter((each) => each.code === code))[0]?.commands ?? []

/** Runs a command of the report on a host; it has to succeed. */
export async function follow(host: Host, command: string | undefined): Promise<void> {
  if (command === undefined) throw new Error('the doctor gives no command')
  const { code, stderr } = await run(inNamespace(host.namespace, ['sh', '-c', command]))
  expect({ command, code, stderr }).toMatchObject({ code: 0 })
}
