/** The doctor that looks again and again, its forms of output, and a service that ends again and again. */
import { chmodSync, mkdirSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { parse } from 'yaml'
import type { DoctorReport } from '../../../src/doctor/report'
import { Lab } from '../../lab/lab'
import { patient } from '../../lab/patience'
import { LongProcess, run } from '../../lab/process'
import { codesOf } from '../../support/doctor'

jest.setTimeout(patient(120_000))

let lab: Lab
beforeAll(async () => {
  lab = await Lab.create({ hosts: 1 })
  lab.host(1).start()
  await lab.host(1).waitConverged(0)
})
afterAll(() => lab?.close())

const host = () => lab.host(1)

test('--watch sees a fault and its cure; its exit code is that of the last report', async () => {
  const command = host().overlayctlCommand('doctor', '--watch', '--only=bridge', '-o', 'json')
  const watching = new LongProcess('watch', command)
  try {
    await watching.waitForOutput(/"verdict":"ok"/)
    await host().exec('ip', 'link', 'add', 'docker0', 'type', 'bridge')
    await watching.waitForOutput(/"verdict":"fail".*"bridge-subnet"/, { timeoutMs: 30_000 })
    const from = watching.output.length
    await host().exec('ip', 'link', 'del', 'docker0')
    await watching.waitForOutput(/"verdict":"ok"/, { from, timeoutMs: 30_000 })
    expect(await watching.stop('SIGINT')).toEqual({ code: 0, signal: null })
  } finally {
    await watching.stop('SIGKILL')
  }
  for (const line of watching.output.trimEnd().split('\n')) JSON.parse(line)
})

test('-o yaml is the same document as -o json', async () => {
  const flags = ['doctor', '--only=config,device'] as const
  const [json, yaml] = [
    await host().overlayctl(...flags, '-o', 'json'),
    await host().overlayctl(...flags, '-o', 'yaml'),
  ]
  const withoutClock = (report: DoctorReport) => ({ ...report, seconds: 0 })
  expect(withoutClock(parse(yaml.stdout) as DoctorReport)).toEqual(
    withoutClock(JSON.parse(json.stdout) as DoctorReport),
  )
  expect(yaml.code).toBe(json.code)
})

test('a check that was asked for and skipped is no all-clear', async () => {
  // The host has no peer: nothing can be probed.
  const { code, stdout } = await host().overlayctl('doctor', '--only=mtu')
  expect(code).toBe(1)
  expect(stdout).toMatch(/^Nothing wrong was found /)
  expect(stdout).not.toMatch(/^OK/m)
  await host().waitUntil('an all-clear of what was checked', async () => {
    const all = await host().overlayctl('doctor')
    return /^Nothing is wrong in what was checked on the host of .* skipped/.test(all.stdout)
  })
})

test('a service that ends again and again is named, with the last error of its log', async () => {
  const programs = join(lab.directory, 'programs')
  mkdirSync(programs)
  const program = (name: string, lines: readonly string[]): void => {
    writeFileSync(join(programs, name), `#!/bin/sh\ncat <<'END'\n${lines.join('\n')}\nEND\n`)
    chmodSync(join(programs, name), 0o755)
  }
  // There is no systemd here: the answers are as those of systemd 252.
  program('systemctl', [
    ...['Id=overlayd.service', 'LoadState=loaded', 'ActiveState=activating', 'SubState=auto-restart'],
    ...['Result=exit-code', 'NRestarts=12', 'MainPID=0', 'ExecMainCode=1', 'ExecMainStatus=1'],
  ])
  program('journalctl', ['overlayd: no underlay: eth7 is not there'])
  await host().stop()
  const command = host().overlayctlCommand('doctor', '--only=daemon', '-o', 'json')
  const { stdout, code } = await run(command, {
    env: { ...process.env, PATH: `${programs}:${process.env['PATH']}` },
  })
  const report = JSON.parse(stdout) as DoctorReport
  expect(code).toBe(2)
  expect(codesOf(report)).toEqual(['daemon-crashes'])
  const [finding] = report.checks.flatMap(({ findings }) => findings)
  expect(finding?.what).toBe('overlayd ends again and again: 12 times since it was last ready')
  expect(finding?.evidence.at(-1)).toBe('its last error: overlayd: no underlay: eth7 is not there')
  expect(finding?.evidence.at(-2)).toContain('started again 12 times')
})
