/**
 * What `scripts/demo --keep` leaves: a user enters a host, finds what a host has, adds a host, and ends
 * everything.
 */
import { mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join, resolve } from 'node:path'
import { statusSchema } from '../../../src/api/status'
import type { DoctorReport } from '../../../src/doctor/report'
import { assertSandbox } from '../../lab/namespace'
import { patient } from '../../lab/patience'
import { type RunResult, run } from '../../lab/process'
import { Pending, waitFor } from '../../lab/wait'
import { withSwiftEtcd } from '../../support/doctor'

assertSandbox()
jest.setTimeout(patient(180_000))

const ROOT = resolve(__dirname, '../../..')
/** This directory replaces the directory of a user's session. */
const session = mkdtempSync(join(tmpdir(), 'session-'))

const demo = (...args: readonly string[]): Promise<RunResult> =>
  run([join(ROOT, 'scripts/demo'), ...args], {
    env: { ...process.env, XDG_RUNTIME_DIR: session },
    timeoutMs: 120_000,
  })

/** Command lines of the processes in this sandbox and in the sandboxes inside it. */
const processes = (): string[] =>
  readdirSync('/proc')
    .filter((name) => /^\d+$/.test(name))
    .flatMap((pid) => {
      try {
        // The text is empty for a process that has ended.
        const words = readFileSync(`/proc/${pid}/cmdline`, 'utf8').replaceAll('\0', ' ').trim()
        return words === '' ? [] : [`${pid} ${words}`]
      } catch {
        return []
      }
    })

const before = processes()
/** Entries that exist now and did not exist before. */
const left = () => processes().filter((each) => !before.includes(each))

afterAll(async () => {
  await demo('stop')
  rmSync(session, { recursive: true, force: true })
})

test('without a kept demo each command says so, and how to get one', async () => {
  for (const command of [['enter', 'host1', 'true'], ['add'], ['status'], ['stop']]) {
    expect(await demo(...command)).toMatchObject({
      code: 1,
      stderr: expect.stringMatching(/^demo: no demo of this checkout .*--keep starts one\n$/),
    })
  }
})

test('what --keep prints ends with how to go on', async () => {
  const { code, stdout, stderr } = await demo('--keep')
  expect({ code, stderr }).toEqual({ code: 0, stderr: '' })
  expect(stdout).toContain('ok: 6 pings between containers on different hosts, none lost')
  for (const verb of ['enter host1', 'add', 'status', 'stop'])
    expect(stdout).toContain(`./scripts/demo ${verb}`)
  expect(stdout.split('\n').at(-2)).toContain('./scripts/demo stop')
})

test('a second one is refused while it is there', async () => {
  expect(await demo('--keep')).toMatchObject({ code: 1, stderr: expect.stringContaining('is kept already') })
})

test('on a host overlayctl knows its daemon and etcd without a flag', async () => {
  const status = await waitFor('a healthy host', async () => {
    const { code, stdout, stderr } = await demo('enter', 'host1', 'overlayctl', 'status', '-o', 'json')
    expect(stderr).toBe('')
    return code === 0 ? statusSchema.parse(JSON.parse(stdout)) : new Pending(stdout)
  })
  expect(status).toMatchObject({ state: 'healthy', lease: { publicIp: '192.168.77.11' } })
  const config = await demo('enter', 'host2', 'overlayctl', 'config', 'get')
  expect(config).toMatchObject({ code: 0, stdout: expect.stringContaining('"10.5.0.0/16"') })
})

test('the doctor there leaves no check out', async () => {
  const { verdict, checks } = await withSwiftEtcd(async () => {
    const { stdout } = await demo('enter', 'host1', 'overlayctl', 'doctor', '-o', 'json')
    return JSON.parse(stdout) as DoctorReport
  })
  expect(verdict).toBe('ok')
  expect(checks.filter(({ state }) => state !== 'ok')).toEqual([])
})

test('ps, /proc and /sys are those of the host, and so are its name, files and exit codes', async () => {
  await waitFor('the two daemons in ps', async () => {
    const ps = await demo('enter', 'host1', 'ps', '-e', '-o', 'pid=,args=')
    expect(ps).toMatchObject({ code: 0, stderr: '' })
    expect(ps.stdout).toMatch(/^ +1 .*scripts\/sandbox --inside/m)
    // A process that a daemon is about to start a program with has the daemon's command line for a moment.
    return ps.stdout.match(/overlayd --etcd-endpoints=/g)?.length === 2 || new Pending(ps.stdout)
  })
  const script =
    'ls /sys/class/net && test -e /proc/net/netlink && hostname && . /run/flannel/subnet.env && echo $FLANNEL_NETWORK; exit 7'
  const { code, stdout } = await demo('enter', 'host2', 'sh', '-c', script)
  expect(code).toBe(7)
  expect(stdout.trim().split(/\s+/)).toEqual([
    'docker0',
    'eth0',
    'flannel.1',
    'lo',
    'veth1',
    'host2',
    '10.5.0.0/16',
  ])
})

test('a shell on a host says in its prompt where one is', async () => {
  const shell = await run(['script', '-qec', `${join(ROOT, 'scripts/demo')} enter host2`, '/dev/null'], {
    env: { ...process.env, XDG_RUNTIME_DIR: session, TERM: 'dumb' },
    input: 'exit 3\n',
    timeoutMs: 60_000,
  })
  expect(shell.code).toBe(3)
  expect(shell.stdout).toContain('[overlayd demo: host2]')
})

test('a place that is not there is named beside those that are', async () => {
  expect(await demo('enter', 'host9')).toMatchObject({
    code: 1,
    stderr: 'demo: there is no host9 in the kept demo, but host1, host1-c1, host2, host2-c1\n',
  })
})

test('one more host joins, and its container and the others reach each other', async () => {
  const added = await demo('add')
  expect(added).toMatchObject({ code: 0, stderr: '' })
  expect(added.stdout).toContain('ok: 12 pings between host3-c1 and containers on other hosts, none lost')
  await waitFor('three healthy hosts', async () => {
    const { stdout } = await demo('status')
    return stdout.match(/^host\d .* process \d+, healthy /gm)?.length === 3 || new Pending(stdout)
  })
  const peers = await demo('enter', 'host3', 'overlayctl', 'peers')
  expect(peers).toMatchObject({ code: 0, stdout: expect.stringContaining('2 ok') })
})

test('a state file whose process has ended, or is another one now, is no demo', async () => {
  const [directory] = readdirSync(session)
  const [name] = readdirSync(join(session, directory ?? ''))
  const file = join(session, directory ?? '', name ?? '')
  const good = readFileSync(file, 'utf8')
  const [boot, kind, pid, start] = good.trim().split(' ')
  const other = `${Number(start) + 1}`
  for (const stale of [
    [boot, kind, pid, other, pid, other],
    ['another-boot', kind, pid, start, pid, start],
    ['$(touch /run/touched)', kind, 'x', 'y'],
  ]) {
    writeFileSync(file, `${stale.join(' ')}\n`)
    expect(await demo('status')).toMatchObject({ code: 1, stderr: expect.stringContaining('no demo') })
    expect(readdirSync(join(session, directory ?? ''))).toEqual([])
  }
  writeFileSync(file, good)
  expect(await demo('status')).toMatchObject({ code: 0, stderr: '' })
})

test('stop ends all of it, and nothing is left', async () => {
  expect(left().length).toBeGreaterThan(5)
  expect(await demo('stop')).toMatchObject({ code: 0, stderr: '' })
  expect(left()).toEqual([])
  expect(readdirSync(session)).toEqual([])
  expect(await demo('stop')).toMatchObject({ code: 1 })
})
