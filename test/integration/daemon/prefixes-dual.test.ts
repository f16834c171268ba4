/** Announced prefixes of both families, past the device, and as the network config and the lease change. */
import { type Host, Lab } from '../../lab/lab'
import { patient } from '../../lab/patience'
import { Pending, waitFor } from '../../lab/wait'

jest.setTimeout(patient(120_000))

const OUTSIDE = '198.51.100.0/24'
const SIX = 'fd00:9:0:7::/64'
const config = (allowed: readonly string[], DirectRouting: boolean): string =>
  JSON.stringify({
    Network: '10.5.0.0/16',
    SubnetMax: '10.5.99.0',
    EnableIPv6: true,
    IPv6Network: 'fd00:5::/48',
    ...(allowed.length > 0 && { Prefixes: { Allowed: allowed } }),
    Backend: { Type: 'vxlan', DirectRouting },
  })
const ALLOWED = [OUTSIDE, 'fd00:9::/48']

let lab: Lab

beforeAll(async () => {
  lab = await Lab.create({ hosts: 2, config: config(ALLOWED, false) })
  await lab.startAll()
  for (const prefix of [OUTSIDE, SIX]) {
    const { code, stderr } = await lab.host(1).overlayctl('announce', prefix)
    if (code !== 0) throw new Error(stderr)
  }
})
afterAll(() => lab?.close())

const routes = async (host: Host): Promise<string> =>
  [
    await host.exec('ip', '-4', 'route', 'show', OUTSIDE),
    await host.exec('ip', '-6', 'route', 'show', SIX),
  ].join('')

/** Waits until the routes of host2 to both prefixes are like that. */
const routed = (what: string, four: RegExp | '', six: RegExp | ''): Promise<true> =>
  waitFor(what, async () => {
    const found = await routes(lab.host(2))
    const isRight = four === '' || six === '' ? found === '' : four.test(found) && six.test(found)
    return isRight || new Pending(found)
  })

const DIRECT = [
  /^198\.51\.100\.0\/24 via 192\.168\.77\.11 dev eth0 proto 79/m,
  /^fd00:9:0:7::\/64 via fd77::11 dev eth0 proto 79/m,
] as const
const OVER_DEVICE = [
  /^198\.51\.100\.0\/24 .*dev flannel\.1 proto 79/m,
  /^fd00:9:0:7::\/64 .*dev flannel-v6\.1 proto 79/m,
] as const

test('they are routed over the device, and past it where their hosts are', async () => {
  await routed('over the device', ...OVER_DEVICE)
  await lab.putConfig(config(ALLOWED, true))
  await routed('past it', ...DIRECT)
})

test('they are kept and repaired there, and by a restart neither removed nor written again', async () => {
  const host = lab.host(2)
  await host.exec('ip', 'route', 'delete', OUTSIDE)
  await host.exec('ip', '-6', 'route', 'delete', SIX)
  await routed('again', ...DIRECT)
  const monitor = await lab.monitor(host)
  await host.restart()
  await host.waitConverged(1)
  // The pass at the start is over everything, and has been made.
  const changes = await monitor.changes()
  expect(changes.filter((line) => line.includes('198.51.100') || line.includes('fd00:9'))).toEqual([])
  await routed('still', ...DIRECT)
})

test('they go with their allowance, and come back with it', async () => {
  await lab.putConfig(config([], true))
  await routed('nowhere', '', '')
  const { stdout } = await lab.host(2).overlayctl('prefixes')
  expect(stdout).toMatch(/refused .*the network config allows no IPv4 prefix/)
  await lab.putConfig(config(ALLOWED, true))
  await routed('past it', ...DIRECT)
})

test('a host that is drained has none, and announces them again when it takes its lease', async () => {
  const host = lab.host(1)
  expect(await host.overlayctl('drain', '--yes')).toMatchObject({ code: 0 })
  await routed('nowhere', '', '')
  expect(await host.overlayctl('drain', '--undo')).toMatchObject({ code: 0 })
  await routed('past it', ...DIRECT)
})
