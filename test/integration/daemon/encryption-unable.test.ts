/**
 * Hosts that cannot encrypt, in a network that asks for it. This needs no WireGuard: on a kernel that has it,
 * the option keeps the first host from it too.
 */
import { type Host, Lab, NETWORK_CONFIG } from '../../lab/lab'
import { patient } from '../../lab/patience'
import { run } from '../../lab/process'
import { Pending } from '../../lab/wait'
import { codesOf, doctor } from '../../support/doctor'

jest.setTimeout(patient(90_000))

const OFF = { encryption: 'off' } as const
/** VXLAN's 50 bytes and WireGuard's 60. */
const MTU = 1500 - 50 - 60

const configOf = (encryption: string): string =>
  NETWORK_CONFIG.replace('"vxlan"', `"vxlan","Encryption":"${encryption}"`)

let lab: Lab
let hosts: readonly [Host, Host]
/** Options of the first host, and why it cannot encrypt. */
let first: { readonly flags: Record<string, string>; readonly reason: RegExp }

beforeAll(async () => {
  lab = await Lab.create({ hosts: 2, config: configOf('prefer') })
  hosts = [lab.host(1), lab.host(2)]
  const { code } = await run(['ip', 'link', 'add', 'wg-probe', 'type', 'wireguard'])
  if (code === 0) await run(['ip', 'link', 'del', 'wg-probe'])
  first =
    code === 0
      ? { flags: OFF, reason: /encryption is off on this host/ }
      : { flags: {}, reason: /the kernel of this host has no WireGuard/ }
  hosts[0].start({ flags: first.flags })
  hosts[1].start({ flags: OFF })
  for (const host of hosts) await host.waitConverged(1)
})
afterAll(() => lab?.close())

test('that is preferred: packets go in clear, with room for encryption, and status says why', async () => {
  const [from, to] = [await hosts[0].addContainer(), await hosts[1].addContainer()]
  expect(await lab.ping(from, to)).toMatchObject({ lost: 0 })
  for (const host of hosts) expect((await host.link()).mtu).toBe(MTU)
  const status = await hosts[0].waitForStatus('healthy', ({ state }) => state === 'healthy')
  expect(status.encryption).toEqual({
    mode: 'prefer',
    state: 'unable',
    reason: expect.stringMatching(first.reason),
    fix: expect.any(String),
    devices: [],
    peers: { encrypted: 0, clear: 1, none: 0 },
  })
  expect(status.warnings).toEqual([expect.stringMatching(first.reason)])
  expect(status.peers).toMatchObject([
    { state: 'ok', encryption: 'clear', encryptionReason: 'this host cannot encrypt' },
  ])
  await hosts[0].waitUntil('exit code 0, and the words', async () => {
    const { code, stdout } = await hosts[0].overlayctl('status')
    return code === 0 && stdout.includes('NOT possible on this host, prefer')
  })
  const peers = await hosts[0].overlayctl('peers')
  expect(peers.stdout).toMatch(/ENCRYPTION .*\n.* clear +this host cannot encrypt/)
})

test('metrics count the peers that get packets in clear', async () => {
  const text = await hosts[0].metrics()
  if (text instanceof Pending) throw new Error(text.seen)
  expect(text.split('\n')).toEqual(
    expect.arrayContaining([
      'overlayd_encryption_info{mode="prefer",state="unable"} 1',
      'overlayd_encryption_peers{state="clear"} 1',
      'overlayd_part_in_order{part="encryption"} 1',
    ]),
  )
})

test('the doctor names the reason once, and finds nothing else', async () => {
  const report = await doctor(lab, hosts[0], '--only=device,peers,bridge,encryption,status')
  expect(codesOf(report)).toEqual(['encryption-unable'])
  const [finding] = report.checks.flatMap(({ findings }) => findings)
  expect(finding?.evidence).toEqual([expect.stringMatching(first.reason)])
})

describe('that becomes required', () => {
  beforeAll(() => lab.putConfig(configOf('required')))

  test('a running host keeps the former config, and says so', async () => {
    const status = await hosts[0].waitForStatus('config refused', ({ problemDetails = [] }) =>
      problemDetails.some(({ code }) => code === 'config-not-in-use'),
    )
    expect(status.problems).toContainEqual(expect.stringMatching(/the network requires encryption/))
    expect(status.problems).toContainEqual(expect.stringMatching(first.reason))
    expect(status.encryption?.mode).toBe('prefer')
    const [[from], [to]] = [hosts[0].containers, hosts[1].containers]
    if (from === undefined || to === undefined) throw new Error('there are no containers')
    expect(await lab.ping(from, to)).toMatchObject({ lost: 0 })
  })

  test('a host that starts waits with the reason, until encryption is preferred again', async () => {
    await hosts[0].restartByEtcd()
    const status = await hosts[0].waitForStatus(
      'waiting',
      ({ daemon: { waiting } }) => waiting !== undefined && first.reason.test(waiting.reason),
    )
    expect(status.daemon.waiting?.reason).toMatch(/^the network requires encryption, and /)
    expect(status.daemon.waiting?.fix).toBeDefined()
    const report = await doctor(lab, hosts[0], '--only=daemon,encryption,status')
    expect(codesOf(report)).toEqual(['daemon-waiting'])
    await lab.putConfig(configOf('prefer'))
    for (const host of hosts) await host.waitConverged(1)
    expect((await hosts[0].waitConverged(1)).encryption?.state).toBe('unable')
  })
})
