/** A waiting daemon gives the reason in status, `/readyz`, systemd's line and the log, in the same words. */
import { join } from 'node:path'
import type { Status } from '../../../src/api/status'
import { remembered } from '../../lab/faults'
import { ETCD_PREFIX, type Host, Lab, NETWORK_CONFIG } from '../../lab/lab'
import { fakePeer } from '../../lab/leases'
import { NotifySocket } from '../../lab/notify-socket'
import { patient, patientSeconds } from '../../lab/patience'

jest.setTimeout(patient(90_000))

const PORT = '9480'

let lab: Lab
let host: Host
let systemd: NotifySocket

beforeAll(async () => {
  lab = await Lab.create({ hosts: 1, config: null })
  host = lab.host(1)
  systemd = new NotifySocket(join(lab.directory, 'notify'))
})
afterEach(async () => {
  if (host.running) await host.stop('SIGKILL')
})
afterAll(async () => {
  systemd?.close()
  await lab?.close()
})

const start = (flags: Record<string, string> = {}) =>
  host.start({ flags: { 'healthz-port': PORT, ...flags }, env: { NOTIFY_SOCKET: systemd.path } })

const readyz = () =>
  host.exec('curl', '-s', '--max-time', `${patientSeconds(5)}`, `http://127.0.0.1:${PORT}/readyz`)

/** Waits until the host waits for the given reason, and expects the words everywhere. */
async function expectWaiting(code: string, reason: RegExp): Promise<Status> {
  const status = await host.waitForStatus(
    `waiting, ${code}`,
    ({ daemon: { waiting } }) => waiting?.code === code && reason.test(waiting.reason),
    30_000,
  )
  const { waiting } = status.daemon
  const words = `${waiting?.reason}${waiting?.fix === undefined ? '' : `; ${waiting.fix}`}`
  expect(status.state).toBe('degraded')
  expect(status.problems).toContainEqual(expect.stringContaining(words))
  expect(await readyz()).toMatch(/^flanneld is not ready: /)
  expect(await readyz()).toContain(words)
  await host.waitUntil('the words in the log', async () => host.daemon.output.includes(words))
  await host.waitUntil('the words in systemd', async () =>
    systemd.received().some((each) => each.startsWith('STATUS=') && each.includes(words)),
  )
  return status
}

test('for a config, for a usable one, for a subnet; then it waits no more', async () => {
  start()
  await expectWaiting('no-config', /no network config at \/coreos\.com\/network\/config/)
  await lab.putConfig('{"Network":"192.168.0.0/16","Backend":{"Type":"vxlan"}}')
  await expectWaiting('config-invalid', /contains 192\.168\.77\.11/)
  await lab.putPeers(fakePeer(0))
  const [one] = fakePeer(0).subnet.split('-')
  await lab.putConfig(
    `{"Network":"10.5.0.0/16","SubnetMin":"${one}","SubnetMax":"${one}","Backend":{"Type":"vxlan"}}`,
  )
  await expectWaiting('out-of-subnets', /no \/24 is free/)
  await lab.putConfig(NETWORK_CONFIG)
  const { daemon } = await host.waitConverged(1)
  expect(daemon.waiting).toBeUndefined()
  await host.stop()
  await lab.deletePeer(fakePeer(0))
})

test('for an etcd that does not answer, and is not named by DNS', async () => {
  const state = { 'state-dir': join(lab.directory, 'none') }
  start({ ...state, 'etcd-endpoints': 'http://192.168.77.2:1' })
  await expectWaiting('etcd-unreachable', /192\.168\.77\.2:1/)
  await host.stop()
  start({ ...state, 'etcd-discovery-srv': 'nowhere.invalid' })
  await expectWaiting('etcd-unreachable', /nowhere\.invalid/)
})

test('for nobody when DNS names no etcd and the state file will do', async () => {
  start()
  await host.waitConverged(0)
  await remembered(host, 0)
  await host.stop()
  start({ 'etcd-discovery-srv': 'nowhere.invalid' })
  const status = await host.waitForStatus('it runs', ({ daemon }) => daemon.phase === 'running', 30_000)
  expect(status.stateFile?.inUse).toBe(true)
  expect(status.daemon.waiting).toBeUndefined()
})

test('for an etcd that takes no writes', async () => {
  await lab.client.delete().prefix(`${ETCD_PREFIX}/subnets/`)
  await host.exec('ip', 'link', 'delete', 'flannel.1')
  const none = { 'state-dir': join(lab.directory, 'none2'), 'subnet-file': join(lab.directory, 'none2.env') }
  const { header } = await lab.client.maintenance.status()
  const alarm = { memberID: header.member_id, alarm: 1 as never }
  await lab.client.maintenance.alarm({ ...alarm, action: 1 as never })
  start(none)
  await expectWaiting('etcd-full', /cannot .*lease/)
  await lab.client.maintenance.alarm({ ...alarm, action: 2 as never })
  await host.waitConverged(0, 60_000)
})

test('a daemon that ended says why to systemd, and to those who find it down', async () => {
  start({ iface: 'eth9' })
  expect(await host.daemon.waitForExit(10_000)).toMatchObject({ code: 1 })
  const ended = systemd.received().filter((each) => each.startsWith('STATUS=ended: '))
  expect(ended.at(-1)).toMatch(/there is no interface eth9/)
  const { stdout } = await host.overlayctl('status', '-o', 'json')
  expect(JSON.parse(stdout).problems).toContainEqual(expect.stringMatching(/overlayd ended at .*eth9/))
  start({ iface: 'eth9' })
  await host.daemon.waitForExit(10_000)
  const again = await host.overlayctl('status', '-o', 'json')
  expect(again.stdout).toMatch(/after 2 starts without being ready once/)
  start()
  // The line follows the removal of the reason of the last end.
  await host.daemon.waitForOutput(/ready:/)
  await host.stop('SIGKILL')
  expect((await host.overlayctl('status', '-o', 'json')).stdout).not.toMatch(/overlayd ended/)
})
