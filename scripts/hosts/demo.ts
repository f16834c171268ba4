/** What `scripts/demo --vms` runs in the sandbox: hosts that boot from the shipped cloud-config, containers by Docker, pings. */
import type { BootedContainer, BootedHost } from '../../test/support/booted-host'
import { BootedLab } from '../../test/support/booted-lab'
import { ping } from '../../test/support/ping'
import { bold, dim, green, indent, perform, say } from '../demo-stage'

const PINGS = 3
/** The parts whose order at boot is the point. */
const UNITS = ['etcd.service', 'overlayd.service', 'docker.service']

async function show(lab: BootedLab, count: number): Promise<void> {
  say(`${bold(`${count} hosts boot`)} from scripts/cloud-config/user-data, with the package installed`)
  const started = performance.now()
  await lab.boot(count)
  say(`all are up after ${((performance.now() - started) / 1000).toFixed(1)} s; what was started when, in s:`)
  const containers: BootedContainer[] = []
  for (const host of lab.hosts) {
    say(indent(`${host.name.padEnd(7)} ${await bootOrder(host)}`))
    containers.push(await host.startContainer('c1'))
  }
  const first = lab.host(1)
  say(`\n${bold('subnet.env')} on ${first.name}, and what Docker made of it:`)
  say(dim(indent(await first.exec('cat', '/run/flannel/subnet.env'))))
  say(indent(await first.exec('ip', '-brief', 'address', 'show', 'dev', 'docker0')))
  say(`\n${bold('containers')}, started by docker run:`)
  for (const { namespace, address } of containers) say(indent(`${namespace.padEnd(9)} ${address}`))
  say()
  const sent = await pingAll(containers)
  say(`\n${bold('overlayctl status')} on ${first.name}:`)
  say(indent(await first.exec('overlayctl', 'status')))
  say(`\n${green('ok')}: ${sent} pings between containers on different hosts, none lost`)
}

async function bootOrder(host: BootedHost): Promise<string> {
  const events = (await host.unitEvents()).filter(({ unit }) => UNITS.includes(unit))
  const start = events[0]?.monotonic ?? 0
  return events
    .filter(({ event }) => event === 'started')
    .map(({ unit, monotonic }) => `${unit.replace('.service', '')} ${(monotonic - start).toFixed(2)}`)
    .join('  ')
}

async function pingAll(containers: readonly BootedContainer[]): Promise<number> {
  let sent = 0
  for (const from of containers) {
    for (const to of containers) {
      if (from === to) continue
      const result = await ping(from.namespace, to.address, { count: PINGS })
      const summary = result.output.split('\n').find((line) => line.includes('packets transmitted')) ?? ''
      say(`${bold(`${from.namespace} -> ${to.namespace}`)}  ${summary}`)
      if (result.received !== result.sent) throw new Error(`pings were lost:\n${result.output}`)
      sent += result.sent
    }
  }
  return sent
}

function sayHowToGoOn(lab: BootedLab): void {
  const pid = process.env['OVERLAYD_SANDBOX_PID'] ?? ''
  const enter = (host: BootedHost) => {
    const spaces = ['mnt', 'uts', 'ipc', 'net', 'pid', 'cgroup'].map((name) => {
      const option = name === 'mnt' ? 'mount' : name
      return `--${option}=/proc/${pid}/root/proc/${host.processOne}/ns/${name}`
    })
    return `nsenter ${spaces.join(' ')} bash -l`
  }
  say('\nIt goes on. To look around in it from another terminal, as root:\n')
  for (const host of lab.hosts) say(`  on ${host.name}:\n    ${enter(host)}`)
  say(`\nThere, try: docker exec c1 busybox ping ADDRESS, systemctl restart overlayd, journalctl -u overlayd
\nTo end and remove everything:\n\n    kill -9 ${pid}`)
}

perform({ create: () => BootedLab.create(), show, sayHowToGoOn })
