/**
 * Hosts that have overlayd in another form than the package: as a container image, with the commands of
 * scripts/docs/container.md.
 */
import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import packageJson from '../../package.json'
import type { BootedContainer, BootedHost } from '../lab/booted-host'
import { assertBootable, BootedLab } from '../lab/booted-lab'
import { patient } from '../lab/patience'
import { ping } from '../lab/ping'
import { Pending } from '../lab/wait'

const { forms } = assertBootable()
jest.setTimeout(patient(120_000))

const ARCH = process.arch === 'x64' ? 'amd64' : process.arch
const { version } = packageJson
const PAGE = readFileSync(join(__dirname, '../../scripts/docs/container.md'), 'utf8')
const NETWORK = 'overlay'

let lab: BootedLab
const containers: BootedContainer[] = []

beforeAll(async () => {
  lab = await BootedLab.create({ install: false })
  try {
    await lab.boot(2)
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

const waitHealthy = (host: BootedHost): Promise<true> =>
  host.waitFor('to be healthy', async () => {
    const { stdout, stderr } = await host.run('docker', 'exec', 'overlayd', 'overlayctl', 'status')
    return /^state {4}healthy/.test(stdout) || new Pending(stdout + stderr)
  })

test('Docker loads the image, and its programs run without rights', async () => {
  for (const host of lab.hosts) {
    host.put(join(forms, `overlayd-${version}-oci-${ARCH}.tar`), `root/overlayd-${version}-oci-amd64.tar`)
    expect(await host.exec('sh', '-c', `cd /root\n${commandsAfter('Load the image')}`)).toContain(
      `Loaded image: overlayd:${version}\n`,
    )
  }
  const image = ['docker', 'run', '--rm', '--cap-drop=ALL', `overlayd:${version}`] as const
  expect(await lab.host(2).run(...image, 'overlayd', '--version')).toMatchObject({
    code: 0,
    stderr: `${version}\n`,
  })
  const config = '{"Network":"10.5.0.0/16","Backend":{"Type":"vxlan"}}'
  expect(await lab.host(2).exec(...image, 'overlayctl', 'config', 'validate', config)).toContain(
    '255 subnets of /24',
  )
})

test('two hosts that run the image make one overlay, and a network of Docker on each is in it', async () => {
  const [first, second] = [lab.host(1), lab.host(2)]
  await first.exec('sh', '-c', commandsAfter('The network config'))
  for (const host of [first, second]) await host.exec('sh', '-c', commandsAfter('Run the daemon'))
  for (const host of [first, second]) {
    await host.waitFor('to have a subnet', async () => {
      const { code, stderr } = await host.run('test', '-s', '/run/flannel/subnet.env')
      return code === 0 || new Pending(stderr)
    })
    expect(await host.exec('sh', '-c', commandsAfter('A network for the containers'))).toMatch(
      /^network overlay: 10\.5\.\d+\.0\/24$/m,
    )
    containers.push(await host.startContainer('c1', NETWORK))
  }
  await Promise.all([first, second].map(waitHealthy))
})

const pingBetween = async (from: number, to: number, count: number) => {
  const [source, target] = [containers[from], containers[to]]
  if (source === undefined || target === undefined) throw new Error('an earlier test failed')
  return ping(source.namespace, target.address, { count })
}

test.each([
  [0, 1],
  [1, 0],
])('container %i reaches container %i without loss', async (from, to) => {
  expect(await pingBetween(from, to, 20)).toMatchObject({ received: 20 })
})

test('a restart of the daemon loses no packet, and keeps the subnet', async () => {
  const host = lab.host(2)
  const before = await host.subnetEnv()
  const running = pingBetween(0, 1, 100)
  await host.exec('docker', 'restart', 'overlayd')
  await waitHealthy(host)
  expect(await running).toMatchObject({ received: 100 })
  expect(await host.subnetEnv()).toEqual(before)
})
