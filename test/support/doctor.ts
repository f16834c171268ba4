/** `overlayctl doctor` on a host of the lab, as a program reads it. */
import type { DoctorReport } from '../../src/cli/doctor/report'
import type { Host } from './host'
import type { Lab } from './lab'
import { inNamespace } from './namespace'
import { run } from './process'

/** Exit code by verdict, as the help has it. */
const EXIT = { ok: 0, warn: 1, fail: 2 } as const

/** The flags that tell it where the host's daemon and etcd are. */
export const doctorFlags = (lab: Lab, host: Host): string[] => [
  `--run-dir=${host.runDirectory}`,
  `--subnet-file=${host.subnetFile}`,
  `--etcd-endpoints=${lab.etcd.endpoint}`,
]

/** Runs it to its end; the exit code must be that of its verdict. */
export async function doctor(lab: Lab, host: Host, ...flags: readonly string[]): Promise<DoctorReport> {
  const { code, stdout, stderr } = await host.overlayctl(
    'doctor',
    '-o',
    'json',
    ...doctorFlags(lab, host),
    ...flags,
  )
  return readReport(code, stdout, stderr)
}

export function readReport(code: number | null, stdout: string, stderr: string): DoctorReport {
  if (stdout === '') throw new Error(`the doctor said nothing: ${stderr}`)
  const report = JSON.parse(stdout) as DoctorReport
  expect(code).toBe(EXIT[report.verdict])
  return report
}

/** All findings' codes, in the order of the checks. */
export const codesOf = ({ checks }: DoctorReport): string[] =>
  checks.flatMap(({ findings }) => findings.map(({ code }) => code))

/** The commands that it gives against one finding. */
export const cureOf = ({ checks }: DoctorReport, code: string): readonly string[] =>
  checks.flatMap(({ findings }) => findings.filter((each) => each.code === code))[0]?.commands ?? []

/** Does what the doctor says, on a host. */
export async function follow(host: Host, command: string | undefined): Promise<void> {
  if (command === undefined) throw new Error('the doctor gives no command')
  const { code, stderr } = await run(inNamespace(host.namespace, ['sh', '-c', command]))
  expect({ command, code, stderr }).toMatchObject({ code: 0 })
}
