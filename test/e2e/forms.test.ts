/**
 * Hosts that have overlayd in another form than the package, in one overlay. node1 and node3 have a read-only
 * /usr, take overlayd as a system extension, and are configured by scripts/ignition/config.ign. node2 runs
 * the container image by the commands of scripts/docs/container.md.
 */
import { readFileSync } from 'node:fs'
import { basename, join } from 'node:path'
import packageJson from '../../package.json'
import { ignitionSchema } from '../../scripts/ignition/translate'
import type { BootedContainer, BootedHost } from '../lab/booted-host'
import { assertBootable, BootedLab } from '../lab/booted-lab'
import { patient } from '../lab/patience'
import { ping } from '../lab/ping'
import { runOk } from '../lab/process'
import { Pending } from '../lab/wait'
import { layDown } from '../support/ignition'

const { forms } = assertBootable()
jest.setTimeout(patient(120_000))

const ROOT = join(__dirname, '../..')
const ARCH = process.arch === 'x64' ? 'amd64' : process.arch
const { version } = packageJson
const PAGE = readFileSync(join(ROOT, 'scripts/docs/container.md'), 'utf8')
const NETWORK = 'overlay'
/** Hosts by their number from 0. */
const EXTENDED = [0, 2]
const CONTAINERIZED = 1

let lab: BootedLab
const containers: BootedContainer[] = []

/**
 * Lays the files of the config down. Loop devices may be missing here, so the extension is a directory with
 * the files of the image, as systemd-sysext takes it too.
 */
async function ignite(root: string): Promise<void> {
  const text = readFileSync(join(ROOT, 'scripts/ignition/config.ign'), 'utf8')
  const config = ignitionSchema.parse(JSON.parse(text.replace('/overlayd.raw"', '/overlayd"')))
  await layDown(config, root, async (url, path) => {
    await runOk(['unsquashfs', '-quiet', '-no-progress', '-dest', path, join(forms, basename(url))])
  })
}

beforeAll(async () => {
  lab = await BootedLab.create({ install: false })
  try {
    const extended = { prepare: ignite, readOnlyUsr: true, userData: '#cloud-config\nlocale: C.UTF-8\n' }
    await Promise.all([lab.boot(1, extended), lab.boot(1), lab.boot(1, extended)])
  } catch (error) {
    // No afterAll after this.
    await lab.close()
    throw error
  }
})
afterAll(async () => {
  await lab?.close()
})

/** The commands of the page in its block of shell after a heading, as one script. */
function commandsAfter(heading: string): string {
  const section = PAGE.split(`## ${heading}\n`)[1] ?? ''
  const [, commands] = /```sh\n([\s\S]*?)```/.exec(section) ?? []
  if (commands === undefined) throw new Error(`container.md has no commands below ${heading}`)
  return `set -e\n${commands}`
}

const hostOf = (number: number): BootedHost => lab.host(number + 1)

const waitHealthy = (number: number): Promise<true> =>
  hostOf(number).waitFor('to be healthy', async () => {
    const engine = number === CONTAINERIZED ? ['docker', 'exec', 'overlayd'] : []
    const { stdout, stderr } = await hostOf(number).run('env', ...engine, 'overlayctl', 'status')
    return /^state {4}healthy/.test(stdout) || new Pending(stdout + stderr)
  })

test.each(EXTENDED)(
  'host %i has a read-only /usr with the extension, and started in order',
  async (number) => {
    const host = hostOf(number)
    expect(await host.run('touch', '/usr/x')).toMatchObject({ code: 1 })
    expect(await host.exec('systemd-sysext', 'status')).toMatch(/^\/usr +overlayd +\w/m)
    const events = await host.unitEvents()
    const at = (unit: string, event: 'starting' | 'started'): number =>
      events.find((each) => each.unit === unit && each.event === event)?.monotonic ?? Number.NaN
    const order = [
      ...(number === 0 ? [at('etcd.service', 'started')] : []),
      at('overlayd.service', 'starting'),
      at('overlayd.service', 'started'),
      at('docker.service', 'started'),
    ]
    expect(order).not.toContain(Number.NaN)
    expect(order).toEqual([...order].sort((one, other) => one - other))
    expect(await host.exec('overlayctl', 'config', 'get')).toContain('10.5.0.0/16')
  },
)

test('Docker loads the image, and its programs run without rights', async () => {
  const host = hostOf(CONTAINERIZED)
  // The page has the name of one architecture.
  host.put(join(forms, `overlayd-${version}-oci-${ARCH}.tar`), `root/overlayd-${version}-oci-amd64.tar`)
  expect(await host.exec('sh', '-c', `cd /root\n${commandsAfter('Load the image')}`)).toContain(
    `Loaded image: overlayd:${version}\n`,
  )
  const image = ['docker', 'run', '--rm', '--cap-drop=ALL', `overlayd:${version}`] as const
  expect(await host.run(...image, 'overlayd', '--version')).toMatchObject({ code: 0, stderr: `${version}\n` })
  const config = '{"Network":"10.5.0.0/16","Backend":{"Type":"vxlan"}}'
  expect(await host.exec(...image, 'overlayctl', 'config', 'validate', config)).toContain(
    '255 subnets of /24',
  )
})

test('all make one overlay, and each has a container in it', async () => {
  const host = hostOf(CONTAINERIZED)
  // An overlayctl gives etcd 3 s, which hosts that are all busy with their start may need.
  await host.waitFor('to set the network config', async () => {
    const { code, stderr } = await host.run('sh', '-c', commandsAfter('The network config'))
    return code === 0 || new Pending(stderr)
  })
  await host.exec('sh', '-c', commandsAfter('Run the daemon'))
  await host.waitFor('to have a subnet', async () => {
    const { code, stderr } = await host.run('test', '-s', '/run/flannel/subnet.env')
    return code === 0 || new Pending(stderr)
  })
  expect(await host.exec('sh', '-c', commandsAfter('A network for the containers'))).toMatch(
    /^network overlay: 10\.5\.\d+\.0\/24$/m,
  )
  for (const number of [0, 1, 2])
    containers[number] = await hostOf(number).startContainer(
      'c1',
      number === CONTAINERIZED ? NETWORK : 'bridge',
    )
  await Promise.all([0, 1, 2].map(waitHealthy))
  // A port of a new bridge forwards after a moment.
  for (const number of [1, 2])
    await hostOf(0).waitFor(`to reach the container of host ${number}`, async () => {
      const { received, output } = await pingBetween(0, number, 1)
      return received === 1 || new Pending(output)
    })
})

const pingBetween = async (from: number, to: number, count: number) => {
  const [source, target] = [containers[from], containers[to]]
  if (source === undefined || target === undefined) throw new Error('an earlier test failed')
  return ping(source.namespace, target.address, { count })
}

test.each([
  [0, 1],
  [1, 0],
  [0, 2],
  [2, 0],
])('container %i reaches container %i without loss', async (from, to) => {
  expect(await pingBetween(from, to, 20)).toMatchObject({ received: 20 })
})

test('a restart of the daemon in the container loses no packet, and keeps the subnet', async () => {
  const host = hostOf(CONTAINERIZED)
  const before = await host.subnetEnv()
  const running = pingBetween(0, CONTAINERIZED, 100)
  await host.exec('docker', 'restart', 'overlayd')
  await waitHealthy(CONTAINERIZED)
  expect(await running).toMatchObject({ received: 100 })
  expect(await host.subnetEnv()).toEqual(before)
})

test('the extension is merged again without a lost packet', async () => {
  const host = hostOf(2)
  const before = await host.subnetEnv()
  const running = pingBetween(0, 2, 100)
  await host.exec('systemctl', 'restart', 'systemd-sysext', 'overlayd-extension')
  await host.exec('systemctl', 'restart', 'overlayd')
  await waitHealthy(2)
  expect(await running).toMatchObject({ received: 100 })
  expect(await host.subnetEnv()).toEqual(before)
})

test('after a reboot image and extension are back with their subnets, and their containers are reached', async () => {
  const rebooted = [CONTAINERIZED, 2]
  await Promise.all(
    rebooted.map(async (number) => {
      const host = hostOf(number)
      const before = await host.subnetEnv()
      await host.reboot()
      await waitHealthy(number)
      expect(await host.subnetEnv()).toEqual(before)
      containers[number] = await host.container('c1')
    }),
  )
  for (const number of rebooted) expect(await pingBetween(0, number, 20)).toMatchObject({ received: 20 })
})
