/** overlayctl with a real etcd and kernel: output and exit codes. */
import { ETCD_PREFIX, Lab } from '../../lab/lab'
import { patient } from '../../lab/patience'

jest.setTimeout(patient(60_000))

const CONFIG = '{"Network":"10.5.0.0/16","Backend":{"Type":"vxlan"}}'

let lab: Lab
beforeAll(async () => {
  lab = await Lab.create({ hosts: 1, config: null })
})
afterAll(() => lab?.close())

const config = (...args: string[]) => lab.host(1).overlayctl('config', ...args)
const inEtcd = () => lab.client.get(`${ETCD_PREFIX}/config`).string()

describe('config', () => {
  test('get says when there is none, and what to do', async () => {
    expect(await config('get')).toMatchObject({
      code: 1,
      stderr: expect.stringContaining('overlayctl config set'),
    })
  })

  test('set writes what is right, with what it means', async () => {
    expect(await config('set', CONFIG)).toMatchObject({
      code: 0,
      stdout: expect.stringContaining('255 subnets of /24, 10.5.1.0 to 10.5.255.0'),
    })
    expect(await inEtcd()).toBe(CONFIG)
    expect(await config('get')).toMatchObject({ code: 0, stdout: `${CONFIG}\n` })
  })

  test('set --if-absent leaves what is there', async () => {
    const other = CONFIG.replace('10.5', '10.6')
    expect(await config('set', '--if-absent', other)).toMatchObject({
      code: 0,
      stdout: expect.stringMatching(/^unchanged/),
    })
    expect(await inEtcd()).toBe(CONFIG)
    expect((await config('set', other)).code).toBe(0)
    expect(await inEtcd()).toBe(other)
  })

  test('what is wrong is never written, and named by field, value and rule', async () => {
    const before = await inEtcd()
    expect(await config('set', CONFIG.replace('vxlan', 'udp'))).toMatchObject({
      code: 1,
      stderr: expect.stringContaining('Backend.Type is "udp", and only vxlan is supported'),
    })
    expect(await inEtcd()).toBe(before)
  })

  test('an etcd that is not there is exit code 2', async () => {
    const answer = await lab.host(1).overlayctl('config', 'get', '--etcd-endpoints=http://127.0.0.1:1')
    expect(answer).toMatchObject({ code: 2, stderr: expect.stringContaining('http://127.0.0.1:1') })
  })
})

describe('status', () => {
  test('of nothing at all is exit code 2', async () => {
    const answer = await lab.host(1).overlayctl('status', '--etcd-endpoints=http://127.0.0.1:1')
    expect(answer.code).toBe(2)
    expect(answer.stdout).toContain('DAEMON DOWN')
  })

  test('of a daemon that is down shows what etcd and the kernel have, and says so', async () => {
    const host = lab.host(1)
    await lab.putConfig(CONFIG)
    host.start()
    await host.waitConverged(0)
    await host.waitUntil('exit code 0', async () => (await host.overlayctl('status')).code === 0)
    await host.stop('SIGKILL')
    const { code, stdout } = await host.overlayctl('status', '-o', 'json')
    expect(code).toBe(1)
    expect(JSON.parse(stdout)).toMatchObject({
      state: 'down',
      problems: [expect.stringContaining('overlayd does not run')],
      daemon: { running: false },
      network: { network: '10.5.0.0/16' },
      lease: { publicIp: host.address },
      device: { name: 'flannel.1', up: true },
      etcd: { connected: true },
    })
  })
})
