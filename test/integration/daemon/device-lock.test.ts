/**
 * The lock of a device: one lock for every version of Node.js and all directories. No other user can take the
 * lock.
 */
import { join } from 'node:path'
import { type Host, Lab } from '../../lab/lab'
import { inNamespace } from '../../lab/namespace'
import { patient } from '../../lab/patience'
import { LongProcess, run } from '../../lab/process'

jest.setTimeout(patient(90_000))

let lab: Lab
let host: Host
const squatters: LongProcess[] = []

beforeAll(async () => {
  lab = await Lab.create({ hosts: 1 })
  host = lab.host(1)
})
afterEach(async () => {
  if (host.running) await host.stop('SIGKILL')
  for (const squatter of squatters.splice(0)) await squatter.stop('SIGKILL')
})
afterAll(() => lab?.close())

/**
 * Binds the name of a lock as an older version does: with its own length, or padded to the size of sun_path.
 */
async function squat(padded: boolean, options: { user?: string; as?: string } = {}): Promise<LongProcess> {
  const { user, as = 'python3' } = options
  const name = `'\\0overlayd/flannel.1'${padded ? ".ljust(108, '\\0')" : ''}`
  const script = `import socket; s = socket.socket(socket.AF_UNIX); s.bind(${name}); s.listen(); print('bound', flush=True); [s.accept() for _ in iter(int, 1)]`
  const command = ['bash', '-c', `exec -a ${as} python3 -c "$0" ${as}`, script]
  const process = new LongProcess(
    'squatter',
    inNamespace(host.namespace, [
      ...(user === undefined ? [] : ['setpriv', `--reuid=${user}`, '--clear-groups']),
      ...command,
    ] as never),
  )
  squatters.push(process)
  await process.waitForOutput(/bound/)
  return process
}

const elsewhere = () => ({
  'run-dir': join(lab.directory, 'other-run'),
  'state-dir': join(lab.directory, 'other-state'),
  'subnet-file': join(lab.directory, 'other.env'),
  'etcd-prefix': '/coreos.com/network',
})

test('a second daemon with other directories ends, and takes over once the first is killed', async () => {
  host.start()
  await host.waitConverged(0)
  const second = host.spawn({ flags: elsewhere() })
  expect(await second.waitForExit(20_000)).toMatchObject({ code: 1 })
  expect(second.output).toMatch(/another overlayd looks after flannel\.1/)
  await host.exec('nft', 'flush', 'ruleset')
  const third = host.spawn({ flags: elsewhere() })
  expect(await third.waitForExit(20_000)).toMatchObject({ code: 1 })
  const teardown = await host.overlayctl(
    'teardown',
    '--yes',
    ...Object.entries(elsewhere()).map(([k, v]) => `--${k}=${v}`),
    `--etcd-endpoints=${lab.etcd.endpoint}`,
  )
  expect(teardown).toMatchObject({ code: 1, stderr: expect.stringContaining('looks after flannel.1') })
  await host.stop('SIGKILL')
  const fourth = host.spawn({ flags: elsewhere() })
  await fourth.waitForOutput(/ready:/, { timeoutMs: 30_000 })
  await fourth.stop('SIGKILL')
})

test.each([
  ['a user', '65534'],
  ['a program of root that is no overlayd', '0'],
])('%s who binds the name of older versions is in nobody’s way', async (_, user) => {
  await squat(false, { user })
  await squat(true, { user })
  host.start()
  await host.waitConverged(0)
})

test.each([true, false])('an older version that runs is noticed; padded: %s', async (padded) => {
  await squat(padded, { as: 'overlayd' })
  host.start()
  expect(await host.daemon.waitForExit(20_000)).toMatchObject({ code: 1 })
  expect(host.daemon.output).toMatch(/another overlayd looks after flannel\.1/)
})

test('an older version notices this one, and nobody can cost it anything by connecting', async () => {
  host.start()
  await host.waitConverged(0)
  for (const padding of ['', ".ljust(108, '\\0')"]) {
    const bind = `import socket; s = socket.socket(socket.AF_UNIX); s.bind('\\0overlayd/flannel.1'${padding})`
    const result = await run(inNamespace(host.namespace, ['python3', '-c', bind]))
    expect(result.stderr).toMatch(/Address already in use/)
    const connect = bind.replace('s.bind', 's.connect')
    expect((await run(inNamespace(host.namespace, ['python3', '-c', connect]))).stderr).toMatch(/refused/)
  }
})
