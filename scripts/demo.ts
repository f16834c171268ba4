/** What `scripts/demo` runs in the sandbox: hosts, an overlay, containers, pings, a picture. */
import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { type Container, ETCD_ADDRESS, Host, Lab } from '../test/support/lab'
import { runOk } from '../test/support/process'
import { bold, dim, green, indent, perform, say } from './demo-stage'

const NETWORK_CONFIG = '{"Network":"10.5.0.0/16","Backend":{"Type":"vxlan"}}'
/** Up to this many hosts, every container pings every other; above, only the next one and back. */
const ALL_PAIRS_UP_TO = 4
/** So many hosts are drawn. */
const DRAWN = 3

interface Site {
  readonly host: Host
  readonly container: Container
}

async function show(lab: Lab): Promise<void> {
  const version = (await runOk(['etcd', '--version'])).match(/[\d.]+/)?.[0] ?? ''
  say(`${bold('etcd')} ${version} at ${lab.etcd.endpoint} has the network config`)
  say(indent(NETWORK_CONFIG))
  const started = performance.now()
  for (const host of lab.hosts) host.start()
  say(`${bold('overlayd')} starts on ${lab.hosts.length} hosts:`)
  say(dim(indent(`overlayd --etcd-endpoints=${lab.etcd.endpoint} --iface=eth0 ...`)))
  await lab.waitConverged(0, 30_000 + lab.hosts.length * 500)
  say(`every host knows every other after ${((performance.now() - started) / 1000).toFixed(1)} s`)
  const sites: Site[] = []
  for (const host of lab.hosts) sites.push({ host, container: await host.addContainer() })
  say(`\n${await picture(sites)}\n`)
  const pings = await pingAround(lab, sites)
  const first = lab.host(1)
  say(`${bold(`overlayctl status`)} on ${first.name}:`)
  const status = await first.overlayctl('status')
  say(indent(status.stdout + status.stderr))
  if (status.code !== 0)
    throw new Error(`overlayctl status ended with exit code ${status.code}\n${first.daemon.tail()}`)
  say(`\n${green('ok')}: ${pings} pings between containers on different hosts, none lost`)
}

/** Pings, with ping's own words. */
async function pingAround(lab: Lab, sites: readonly Site[]): Promise<number> {
  const far = sites.length <= ALL_PAIRS_UP_TO ? sites.length : 2
  const routes = sites.flatMap((from, index) =>
    Array.from({ length: far - 1 }, (_, step) => [from, sites[(index + step + 1) % sites.length]] as const),
  )
  const bothWays =
    far === sites.length ? routes : routes.flatMap(([from, to]) => [[from, to] as const, [to, from] as const])
  let sent = 0
  for (const [from, to] of bothWays) {
    if (from === undefined || to === undefined) continue
    say(`${bold(`${from.container.name} -> ${to.container.name}`)}`)
    const result = await lab.ping(from.container, to.container, { count: 3, intervalMs: 20 })
    say(indent(bothWays.length > 2 ? summaryOf(result.output) : result.output))
    if (result.received !== result.sent) {
      throw new Error(
        `${result.sent - result.received} of ${result.sent} pings were lost\n${from.host.daemon.tail()}\n${to.host.daemon.tail()}`,
      )
    }
    sent += result.sent
  }
  say()
  return sent
}

/** The lines that count. */
const summaryOf = (output: string): string =>
  output
    .split('\n')
    .filter((line) => /packets transmitted|^rtt/.test(line))
    .join('\n')

async function picture(sites: readonly Site[]): Promise<string> {
  const drawn = sites.slice(0, DRAWN)
  const boxes = await Promise.all(drawn.map(box))
  const width = boxes[0]?.[0]?.length ?? 0
  const line = (row: number, joint: string) => boxes.map((lines) => lines[row] ?? '').join(joint)
  const rows = Array.from({ length: boxes[0]?.length ?? 0 }, (_, row) =>
    line(row, row === 2 ? ' vxlan ' : '       '),
  )
  const stems = boxes.map(() => '|'.padStart(7).padEnd(width)).join('       ')
  const bus = '-'.repeat(boxes.length * width + (boxes.length - 1) * 7)
  const more = sites.length > DRAWN ? [`... and ${sites.length - DRAWN} hosts more`] : []
  const above = [`      | etcd ${ETCD_ADDRESS}`, `${bus}  underlay 192.168.77.0/24`]
  return [...above, stems, ...rows, ...more].map((text) => `  ${text.trimEnd()}`).join('\n')
}

async function box({ host, container }: Site): Promise<string[]> {
  const { subnet } = await host.subnetEnv()
  const rows = [
    ['eth0', host.address],
    [Host.device, subnet.replace(/\d+\/\d+$/, '0')],
    ['docker0', subnet],
    ['container', container.address],
  ].map(([name = '', address = '']) => `| ${name.padEnd(10)} ${address.padEnd(15)} |`)
  const edge = (title: string) => `+-${title}${'-'.repeat(27 - title.length)}+`
  return [edge(` ${host.name} `), ...rows, edge('')]
}

function sayHowToGoOn(lab: Lab): void {
  const pid = process.env['OVERLAYD_DEMO_PID'] ?? ''
  const enter = (namespace: string) => {
    // Whoever is not root has made the namespaces in a user namespace of his own.
    const user = ownerOfSandbox() === '0' ? '' : '--user --preserve-credentials '
    return `nsenter --target ${pid} ${user}--mount --net=/proc/${pid}/root/run/netns/${namespace}`
  }
  const [first, second] = [lab.host(1), lab.host(2)]
  const [here, there] = [first.containers[0], second.containers[0]]
  const overlayctl = join(__dirname, '../dist/overlayctl.js')
  say(`
It goes on. To look around in it from another terminal, as the same user:

  on a host, here ${first.name} (there are ${first.name} to ${lab.hosts.at(-1)?.name}):
    ${enter(first.name)}
  what overlayctl says there:
    ${enter(first.name)} \\
      ${process.execPath} ${overlayctl} status --run-dir=${first.runDirectory}
  in a container, here ${here?.name}, to ping that of ${second.name}:
    ${enter(here?.namespace ?? '')} ping ${there?.address}

To end and remove everything:

    kill -9 ${pid}`)
}

/** The user id, outside the sandbox, of whoever runs it: root's sandbox has no user namespace, so it is 0 there. */
function ownerOfSandbox(): string | undefined {
  return readFileSync('/proc/self/uid_map', 'utf8').trim().split(/\s+/)[1]
}

perform({ create: (hosts) => Lab.create({ hosts, config: NETWORK_CONFIG }), show, sayHowToGoOn })
