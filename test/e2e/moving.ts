/**
 * A container with a fixed address, which moves between hosts that other tests have booted, on a user-defined
 * network that exists on both. Its address moves with it.
 */
import type { BootedContainer, BootedHost } from '../lab/booted-host'
import type { BootedLab } from '../lab/booted-lab'
import { exec } from '../lab/namespace'
import { ping, RunningPing } from '../lab/ping'
import { Pending } from '../lab/wait'

const ADDRESS = '198.18.7.7'
const BRIDGE = 'br-moving'
const NETWORK = [
  ...['docker', 'network', 'create', '--subnet=198.18.7.0/24', '--gateway=198.18.7.1'],
  ...[`--opt=com.docker.network.bridge.name=${BRIDGE}`, '--opt=com.docker.network.driver.mtu=1450'],
  ...['--opt=com.docker.network.bridge.enable_ip_masquerade=false', 'moving'],
] as const

const configWith = (more: object): string =>
  JSON.stringify({ Network: '10.5.0.0/16', ...more, Backend: { Type: 'vxlan' } })

/** @param containers the containers on docker0, by host */
export function describeMoving(labOf: () => BootedLab, containers: readonly BootedContainer[]): void {
  test('an address follows its container from host to host, and a planned move loses no packet', async () => {
    const [first, second, third] = [labOf().host(1), labOf().host(2), labOf().host(3)]
    const from = containers[2]?.namespace ?? ''
    const start = (host: BootedHost) => host.startContainer('fixed', 'moving', [`--ip=${ADDRESS}`])
    const announce = (host: BootedHost, ...flags: readonly string[]) =>
      host.run('overlayctl', 'announce', `${ADDRESS}/32`, `--via=${BRIDGE}`, ...flags)
    const isBehind = (host: BootedHost) =>
      third.waitFor(`to send packets to ${ADDRESS} to ${host.name}`, async () => {
        const subnet = (await host.subnetEnv())['FLANNEL_SUBNET'] ?? ''
        const route = await third.exec('ip', 'route', 'show', ADDRESS)
        return route.includes(` via ${subnet.replace(/\.1\/24$/, '.0')} `) || new Pending(route)
      })
    await first.exec('overlayctl', 'config', 'set', configWith({ Prefixes: { Allowed: ['198.18.7.0/24'] } }))
    for (const host of [first, second]) {
      await host.exec(...NETWORK)
      await host.waitFor('to allow the range', async () => {
        const shown = await host.exec('overlayctl', 'prefixes')
        return shown.includes('allowed by the network config: 198.18.7.0/24') || new Pending(shown)
      })
    }
    await start(first)
    // Each host is told once where the container can be. Only where it is there is something to reach.
    await announce(first)
    await announce(second)
    await isBehind(first)
    const meanwhile = await RunningPing.start(from, ADDRESS)
    try {
      await first.exec('docker', 'rm', '--force', 'fixed')
      await start(second)
      await isBehind(second)
      await second.waitFor('to have the container answer', async () => {
        const { received, output } = await ping(from, ADDRESS, { count: 1 })
        return received === 1 || new Pending(output)
      })
    } finally {
      // Nothing answered while no container ran: what counts is that the same ping is answered again.
      expect((await meanwhile.stop()).lost).toBeGreaterThan(0)
    }
    const planned = await RunningPing.start(from, ADDRESS)
    try {
      const { namespace } = await start(first)
      await first.waitFor('to have connected the container', async () => {
        const { stdout } = await exec(namespace, ['ip', 'link', 'show', 'dev', 'eth0'])
        return stdout.includes(' state UP ') || new Pending(stdout)
      })
      expect(await announce(first, '--priority=200')).toMatchObject({ code: 0 })
      await isBehind(first)
      await second.exec('docker', 'rm', '--force', 'fixed')
      expect(await planned.stop()).toMatchObject({ lost: 0 })
    } finally {
      planned.kill()
    }
    await first.exec('docker', 'rm', '--force', 'fixed')
    for (const host of [first, second]) {
      await host.exec('overlayctl', 'withdraw', `${ADDRESS}/32`)
      await host.exec('docker', 'network', 'rm', 'moving')
    }
    await first.exec('overlayctl', 'config', 'set', configWith({}))
  })
}
