/**
 * Every command on installed hosts, without flags for etcd. No command reports a fact that the command does
 * not know.
 */
import { appendFileSync, chmodSync, readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { Lab } from '../../lab/lab'
import { patient } from '../../lab/patience'
import { LongProcess, run } from '../../lab/process'
import { OVERLAYCTL } from '../../lab/programs'

jest.setTimeout(patient(90_000))

const NOBODY = ['setpriv', '--reuid=65534', '--regid=65534', '--clear-groups']

let lab: Lab
beforeAll(async () => {
  lab = await Lab.create({ hosts: 2 })
  await lab.startAll()
})
afterAll(() => lab?.close())

const host = () => lab.host(1)
const file = () => join(host().defaultsDirectory, 'overlayd')

describe('with the daemon running', () => {
  test.each([
    ['status', 0],
    ['peers', 0],
    ['lease', 0],
    ['routes', 0],
    ['config get', 0],
    ['doctor --only=etcd,daemon,lease', 0],
    ['events', 0],
    ['metrics', 0],
    ['drain --dry-run', 0],
    ['reserve --public-ip=192.168.77.201', 0],
    ['config set --dry-run {"Network":"10.5.0.0/16","Backend":{"Type":"vxlan"}}', 0],
  ])('%s', async (words, code) => {
    // One look in which etcd does not answer within a second is another code.
    await host().waitUntil(`code ${code}, and no error`, async () => {
      const answer = await host().overlayctl(...words.split(' '))
      return answer.code === code && answer.stderr === ''
    })
  })

  test('the daemon tells what it goes by, where the file does not say it', async () => {
    const text = readFileSync(file(), 'utf8')
    writeFileSync(
      file(),
      `FLANNELD_RUN_DIR=${host().runDirectory}\nFLANNELD_ETCD_ENDPOINTS=http://127.0.0.1:1\n`,
    )
    try {
      expect(await host().overlayctl('config', 'get')).toMatchObject({ code: 0, stderr: '' })
    } finally {
      writeFileSync(file(), text)
    }
  })
})

test('q ends a watch on a terminal, and the terminal is as it was', async () => {
  const words = `stty -a > ${lab.directory}/before; ${process.execPath} ${OVERLAYCTL} status --watch; stty -a > ${lab.directory}/after`
  const shown = join(lab.directory, 'shown')
  const watching = new LongProcess(
    'watch',
    host().withDefaults([
      'sh',
      '-c',
      `{ until [ -e ${shown} ]; do sleep 0.05; done; printf q; sleep 5; } | script -qec "$1" /dev/null`,
      'sh',
      words,
    ]),
  )
  await watching.waitForOutput(/q to quit/)
  writeFileSync(shown, '')
  expect(await watching.exited).toEqual({ code: 0, signal: null })
  const [before, after] = ['before', 'after'].map((name) => readFileSync(join(lab.directory, name), 'utf8'))
  expect(after).toBe(before)
})

describe('with the daemon stopped', () => {
  beforeAll(() => host().stop())
  afterAll(async () => {
    host().start()
    // The other host, and the host that the reservation is for.
    await lab.waitConverged(1)
  })

  test('the file tells where etcd is', async () => {
    expect(await host().overlayctl('config', 'get')).toMatchObject({ code: 0 })
    expect((await host().overlayctl('lease')).stdout).toMatch(
      /^subnet +10\.5\.\d+\.0\/24 at 192\.168\.77\.11$/m,
    )
    expect((await host().overlayctl('peers')).stdout).toMatch(/192\.168\.77\.12 .* ok/)
    expect(await host().overlayctl('routes')).toMatchObject({
      code: 0,
      stdout: expect.not.stringContaining('extra'),
    })
  })

  test('without etcd nothing is told as if it were known', async () => {
    const away = '--etcd-endpoints=http://127.0.0.1:1'
    const lease = await host().overlayctl('lease', away)
    expect(lease).toMatchObject({
      code: 2,
      stdout: expect.stringMatching(/^not known: etcd could not be asked: /),
    })
    expect(lease.stdout).toMatch(/it had 10\.5\.\d+\.0\/24 according to subnet\.env/)
    expect(await host().overlayctl('peers', away)).toMatchObject({
      code: 2,
      stdout: expect.stringMatching(/^not known: etcd could not be asked: /),
    })
    const routes = await host().overlayctl('routes', away)
    expect(routes).toMatchObject({
      code: 2,
      stdout: expect.stringContaining('what should be there is not known'),
    })
    expect(routes.stdout).toMatch(/^unknown +route/m)
    expect(routes.stdout).not.toMatch(/extra|missing/)
    const status = await host().overlayctl('status', away)
    expect(status).toMatchObject({ code: 1, stdout: expect.stringMatching(/^peers +not known$/m) })
    expect(JSON.parse((await host().overlayctl('peers', '-o', 'json', away)).stdout)).toMatchObject({
      unknown: expect.stringContaining('etcd could not be asked'),
      peers: [],
    })
  })

  test('who may read neither the file nor the socket is told that, and no default is taken', async () => {
    chmodSync(lab.directory, 0o755)
    for (const verb of ['lease', 'peers', 'config get']) {
      const words = [process.execPath, OVERLAYCTL, ...verb.split(' ')]
      const answer = await run(host().withDefaults([...NOBODY, ...words]))
      expect(answer.code).toBe(2)
      expect(answer.stdout + answer.stderr).toMatch(/may read neither|may not read it/)
      expect(answer.stdout + answer.stderr).not.toMatch(/127\.0\.0\.1|no lease|none/)
    }
  })
})

test('a further network is found by its name', async () => {
  const blue = lab.host(2)
  const runDirectory = join(lab.directory, 'blue')
  writeFileSync(
    join(blue.defaultsDirectory, 'overlayd-blue'),
    `FLANNELD_ETCD_ENDPOINTS=${lab.etcd.endpoint}\nFLANNELD_RUN_DIR=${runDirectory}\n`,
  )
  const config = '{"Network":"10.9.0.0/16","Backend":{"Type":"vxlan","VNI":9}}'
  expect(await blue.overlayctl('--network', 'blue', 'config', 'set', config)).toMatchObject({ code: 0 })
  expect(await lab.client.get('/coreos.com/network/blue/config').string()).toBe(config)
  expect((await blue.overlayctl('config', 'get', '--network=blue')).stdout).toBe(`${config}\n`)
  expect((await blue.overlayctl('config', 'get')).stdout).toContain('10.5.0.0')
  expect(await blue.overlayctl('events', '--network=blue')).toMatchObject({
    code: 2,
    stderr: expect.stringContaining(`nobody answers at ${runDirectory}`),
  })
})

test('what is odd in the file hides nothing, and is said when it is asked for', async () => {
  appendFileSync(file(), 'export FLANNELD_IFACE=eth7\n')
  const { code, stderr } = await host().overlayctl('config', 'get', '--debug')
  expect(code).toBe(0)
  expect(stderr).toMatch(/line \d+: "export FLANNELD_IFACE" is not the name of a variable/)
})
