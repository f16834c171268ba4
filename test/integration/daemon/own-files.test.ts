/**
 * The daemon's own files: a leftover, odd, read-only or removed file is reported, and has no other effect.
 */
import { existsSync, mkdirSync, rmSync, symlinkSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { type Host, Lab } from '../../lab/lab'
import { patient } from '../../lab/patience'
import { Pending } from '../../lab/wait'

jest.setTimeout(patient(90_000))

let lab: Lab
let host: Host

beforeAll(async () => {
  lab = await Lab.create({ hosts: 1 })
  host = lab.host(1)
})
afterEach(async () => {
  if (host.running) await host.stop('SIGKILL')
  rmSync(host.stateDirectory, { recursive: true, force: true })
})
afterAll(() => lab?.close())

const inState = (name: string) => join(host.stateDirectory, name)
const socket = () => join(host.runDirectory, 'overlayd.sock')

test('leftovers of a killed writer in the state directory are removed, of whatever kind', async () => {
  const elsewhere = join(lab.directory, 'elsewhere')
  for (const directory of [elsewhere, inState('.state.json.1'), inState('state.json')])
    mkdirSync(directory, { recursive: true, mode: 0o700 })
  writeFileSync(join(elsewhere, 'kept'), '')
  writeFileSync(inState('.state.json.1/file'), '')
  writeFileSync(inState('.state.json.2'), '')
  symlinkSync(elsewhere, inState('.state.json.3'))
  host.start()
  await host.waitConverged(0, 30_000)
  await host.waitForStatus('written', ({ stateFile }) => stateFile?.savedAt !== undefined, 30_000)
  // A further write, when etcd has renewed the lease, has its own file for a moment.
  await host.waitUntil('state.json alone', async () => {
    return (await host.exec('ls', '-A', host.stateDirectory)).trim() === 'state.json'
  })
  expect(existsSync(join(elsewhere, 'kept'))).toBe(true)
})

test.each<[string, () => void, string[], RegExp]>([
  [
    'a directory with files in the place of state.json',
    () => mkdirSync(inState('state.json/more'), { recursive: true, mode: 0o700 }),
    [],
    /^state: .*state\.json/,
  ],
  [
    'a state directory that is read-only, with a leftover',
    () => mkdirSync(host.stateDirectory, { recursive: true, mode: 0o700 }),
    ['unshare', '--mount', 'sh', '-c'],
    /^state: .*read-only/i,
  ],
])('the daemon starts, and says so, with %s', async (_, spoil, wrapper, reason) => {
  spoil()
  const mount = `d=${host.stateDirectory}; mount -t tmpfs none $d && mkdir $d/.state.json.1 && mount -o remount,ro $d && exec "$@"`
  host.start({ wrapper: wrapper.length === 0 ? [] : [...wrapper, mount, 'sh'] })
  const status = await host.waitForStatus(
    'the problem',
    ({ daemon, problems }) => daemon.phase === 'running' && problems.some((each) => reason.test(each)),
    30_000,
  )
  expect(status).toMatchObject({ state: 'degraded', convergence: { converged: true } })
})

test('a control socket that is removed, with its directory or beside a start, is served again', async () => {
  host.start()
  await host.waitConverged(0, 30_000)
  for (const path of [socket(), host.runDirectory]) {
    rmSync(path, { recursive: true })
    await host.waitConverged(0, 30_000)
    const listeners = (await host.exec('ss', '-xlH')).split('\n').filter((line) => line.includes(socket()))
    expect(listeners).toHaveLength(1)
  }
  await host.stop()
  const teardown = host.overlayctl('teardown', '--yes')
  host.start()
  await teardown
  await host.waitUntil(
    'it answers, or has ended',
    async () => !host.running || !((await host.status()) instanceof Pending),
    30_000,
  )
  if (!host.running) host.start()
  await host.waitConverged(0, 30_000)
})
