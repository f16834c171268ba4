/**
 * The part of `scripts/demo --vms` and `--compose` that runs in the sandbox: hosts that boot from the shipped
 * cloud-config, containers by Docker, pings.
 */
import { type BootedContainer, type BootedHost, PATH } from '../../test/lab/booted-host'
import { BootedLab } from '../../test/lab/booted-lab'
import { ping } from '../../test/lab/ping'
import type { Command } from '../../test/lab/process'
import type { Place } from '../demo-server'
import { bold, dim, green, indent, perform, say, sayTable } from '../demo-stage'

const PINGS = 3
/** The limit of scripts/demo. */
const MAX_HOSTS = 20
/** Name of each host's container. */
const CONTAINER = 'c1'
/** Projects of `--compose`: each has a network on each host, as compose makes it. */
const PROJECTS = ['web', 'shop']
/** The units whose order at boot is shown. */
const UNITS = ['etcd.service', 'overlayd.service', 'docker.service']

async function show(lab: BootedLab, count: number): Promise<void> {
  say(`${bold(`${count} hosts boot`)} from scripts/cloud-config/user-data, with the package installed`)
  const started = performance.now()
  await lab.boot(count)
  say(`all are up after ${((performance.now() - started) / 1000).toFixed(1)} s; what was started when, in s:`)
  const containers: BootedContainer[] = []
  for (const host of lab.hosts) {
    say(indent(`${host.name.padEnd(7)} ${await bootOrder(host)}`))
    containers.push(await host.startContainer(CONTAINER))
  }
  const first = lab.host(1)
  say(`\n${bold('subnet.env')} on ${first.name}, and what Docker made of it:`)
  say(dim(indent(await first.exec('cat', '/run/flannel/subnet.env'))))
  say(indent(await first.exec('ip', '-brief', 'address', 'show', 'dev', 'docker0')))
  say(`\n${bold('containers')}, started by docker run:`)
  for (const { namespace, address } of containers) say(indent(`${namespace.padEnd(9)} ${address}`))
  say()
  let sent = await pingAll(containers)
  if (process.env['OVERLAYD_DEMO_COMPOSE'] === '1') sent += await showProjects(lab)
  say(`\n${bold('overlayctl status')} on ${first.name}:`)
  say(indent(await first.exec('overlayctl', 'status')))
  say(`\n${green('ok')}: ${sent} pings between containers on different hosts, none lost`)
}

/** Shares each host's subnet out, and has projects talk across hosts. @returns the number of pings */
async function showProjects(lab: BootedLab): Promise<number> {
  const line = 'DOCKER_NETWORKS=27'
  say(`\n${bold(line)} in /etc/default/docker shares each host's subnet out; Docker starts again`)
  const rows = [['HOST', 'NETWORK', 'SUBNET', 'CONTAINER', 'ADDRESS']]
  const members: BootedContainer[][] = PROJECTS.map(() => [])
  for (const host of lab.hosts) {
    await host.exec('sh', '-c', `echo ${line} >>/etc/default/docker && systemctl restart docker`)
    const { address } = await host.container(CONTAINER)
    rows.push([host.name, 'bridge', await subnetOf(host, 'bridge'), CONTAINER, address])
    for (const [index, project] of PROJECTS.entries()) {
      const network = `${project}_default`
      const member = await host.startProject(project, project)
      members[index]?.push(member)
      rows.push([host.name, network, await subnetOf(host, network), project, member.address])
    }
  }
  sayTable(rows)
  say()
  let sent = 0
  for (const project of members) sent += await pingAll(project)
  return sent
}

const subnetOf = async (host: BootedHost, network: string): Promise<string> =>
  (
    await host.exec('docker', 'network', 'inspect', '--format={{(index .IPAM.Config 0).Subnet}}', network)
  ).trim()

async function bootOrder(host: BootedHost): Promise<string> {
  const events = (await host.unitEvents()).filter(({ unit }) => UNITS.includes(unit))
  const start = events[0]?.monotonic ?? 0
  return events
    .filter(({ event }) => event === 'started')
    .map(({ unit, monotonic }) => `${unit.replace('.service', '')} ${(monotonic - start).toFixed(2)}`)
    .join('  ')
}

const pingAll = (containers: readonly BootedContainer[]): Promise<number> =>
  pingAlong(
    containers.flatMap((from) => containers.filter((to) => to !== from).map((to) => [from, to] as const)),
  )

/** Pings along each route. @returns the number of pings */
async function pingAlong(routes: readonly (readonly [BootedContainer, BootedContainer])[]): Promise<number> {
  let sent = 0
  for (const [from, to] of routes) {
    const result = await ping(from.namespace, to.address, { count: PINGS })
    const summary = result.output.split('\n').find((line) => line.includes('packets transmitted')) ?? ''
    say(`${bold(`${from.namespace} -> ${to.namespace}`)}  ${summary}`)
    if (result.received !== result.sent) throw new Error(`pings were lost:\n${result.output}`)
    sent += result.sent
  }
  return sent
}

function sayHowToGoOn(lab: BootedLab): void {
  const { name } = lab.host(1)
  const names = `${name} to ${lab.hosts.at(-1)?.name}`
  const example = 'try docker exec c1 busybox ping ADDRESS'
  say(`
${bold('The demo keeps running')} until it is ended. From any terminal, as root:

    ./scripts/demo enter ${name}                          a shell on ${name}; there are ${names}
    ./scripts/demo enter ${name} journalctl -u overlayd   a command there; ${example}
    ./scripts/demo add                                  one more host boots
    ./scripts/demo status                               the hosts, and what runs on them
    ./scripts/demo stop                                 end and remove everything`)
}

function enter(lab: BootedLab, { name, terminal, shell }: Place): readonly string[] {
  const host = lab.hosts.find((each) => each.name === name)
  if (host === undefined) {
    const names = lab.hosts.map((each) => each.name).join(', ')
    throw new Error(
      `there is no host ${name} in the kept demo, but ${names}; for a container use docker exec on its host`,
    )
  }
  const { processOne } = host
  if (processOne === undefined) throw new Error(`${name} is down, or still booting: try again`)
  const namespaces = ['mount', 'uts', 'ipc', 'net', 'pid', 'cgroup'].map((each) => `--${each}`)
  const environment = [`PATH=${PATH}`, 'LC_ALL=C.UTF-8', 'HOME=/root', 'USER=root', `TERM=${terminal}`]
  // Only children of this shell are in the process namespace, so the shell waits. It ignores the Ctrl-C that
  // ends the command.
  const wait = ['bash', '-c', 'trap : INT; cd; "$@"; exit $?', 'enter']
  return [
    ...[
      'nsenter',
      '--no-fork',
      `--target=${processOne}`,
      ...namespaces,
      'env',
      '-i',
      ...environment,
      ...wait,
    ],
    ...(shell ? ['bash', '-l'] : []),
  ]
}

async function add(lab: BootedLab): Promise<void> {
  if (lab.hosts.length >= MAX_HOSTS)
    throw new Error(`there is room for ${MAX_HOSTS} hosts, and that many exist`)
  const others = [...lab.hosts]
  say(`${bold('one more host boots')} from the same scripts/cloud-config/user-data`)
  const [host] = await lab.boot(1)
  if (host === undefined) throw new Error('no host was booted')
  say(indent(`${host.name.padEnd(7)} ${await bootOrder(host)}`))
  const container = await host.startContainer(CONTAINER)
  say(`container ${container.namespace} has ${container.address}\n`)
  let sent = 0
  for (const other of others.filter(({ processOne }) => processOne !== undefined)) {
    const there = await other.container(CONTAINER)
    sent += await pingAlong([
      [container, there],
      [there, container],
    ])
  }
  say(
    `\n${green('ok')}: ${sent} pings between ${container.namespace} and containers on other hosts, none lost`,
  )
}

async function sayStatus(lab: BootedLab): Promise<void> {
  const rows = [['HOST', 'ADDRESS', 'SUBNET', 'OVERLAYD', 'CONTAINERS']]
  for (const host of lab.hosts) {
    const outputOf = async (...command: Command) =>
      (await host.run(...command)).stdout.trim().split('\n').join(', ') || '-'
    const subnet = /^FLANNEL_SUBNET=(.*)$/m.exec(
      (await host.run('cat', '/run/flannel/subnet.env')).stdout,
    )?.[1]
    const overlayd =
      host.processOne === undefined ? 'is down' : await outputOf('systemctl', 'is-active', 'overlayd')
    const containers = await outputOf('docker', 'ps', '--format={{.Names}} {{.Status}}')
    rows.push([host.name, host.address, subnet ?? '-', overlayd, containers])
  }
  sayTable(rows)
}

perform({ create: () => BootedLab.create(), show, sayHowToGoOn, enter, add, sayStatus })
