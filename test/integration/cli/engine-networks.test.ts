/**
 * `overlayctl cni` and `overlayctl podman-network`: the real plugins of CNI and the real netavark make
 * networks of the files, on two hosts, beside each other. The containers of both reach each other with their
 * own addresses, and leave the overlay with the address of their host.
 */
import {
  cpSync,
  existsSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  rmSync,
  statSync,
  writeFileSync,
} from 'node:fs'
import { join } from 'node:path'
import { DUAL_STACK_CONFIG, type Host, Lab } from '../../lab/lab'
import { execOk, inNamespace } from '../../lab/namespace'
import { patient } from '../../lab/patience'
import { run } from '../../lab/process'
import { codesOf, cureOf, readReport } from '../../support/doctor'
import { addCniNetwork, addPodmanNetwork, overlayctlWithEtc } from '../../support/engines'

jest.setTimeout(patient(60_000))

const CNI = '/etc/cni/net.d/30-overlayd.conflist'
const PODMAN = '/etc/containers/networks/overlay.json'
/** The lab's own address on the underlay. It has no route to the overlay. */
const OUTSIDE = '192.168.77.1'

interface EngineContainer {
  readonly engine: 'cni' | 'podman'
  readonly host: Host
  readonly namespace: string
  readonly address: string
  readonly address6: string
}

let lab: Lab
let containers: readonly EngineContainer[]

const etcOf = (host: Host): string => join(lab.directory, `${host.name}-etc`)
const fileOf = (host: Host, path: string): string => join(etcOf(host), path.replace('/etc/', ''))
const overlayctl = (host: Host, ...args: readonly string[]) => overlayctlWithEtc(host, etcOf(host), args)

beforeAll(async () => {
  lab = await Lab.create({ hosts: 2, config: DUAL_STACK_CONFIG })
  for (const host of lab.hosts) host.start({ flags: { 'ip-masq': 'true' } })
  await lab.waitConverged()
  const perHost = await Promise.all(lab.hosts.map(addContainers))
  containers = perHost.flat()
})
afterAll(() => lab?.close())

async function addContainers(host: Host): Promise<readonly EngineContainer[]> {
  await host.subnetEnv()
  mkdirSync(etcOf(host))
  const made: EngineContainer[] = []
  for (const engine of ['cni', 'podman'] as const) {
    const [verb, path] = engine === 'cni' ? (['cni', CNI] as const) : (['podman-network', PODMAN] as const)
    const { code, stdout, stderr } = await overlayctl(host, verb, '--size=25', `--output=${path}`)
    expect({ code, stderr }).toEqual({ code: 0, stderr: '' })
    expect(stdout).toMatch(/^network overlay: 10\.5\.\d+\.\d+\/25 and fd00:5:.*\/65, in \/etc\//)
    const namespace = `${host.name}-${engine}`
    await lab.addNamespace(namespace)
    const add = engine === 'cni' ? addCniNetwork : addPodmanNetwork
    const directory = join(lab.directory, namespace)
    const [address = '', address6 = ''] = await add(
      host,
      namespace,
      readFileSync(fileOf(host, path), 'utf8'),
      directory,
    )
    made.push({ engine, host, namespace, address, address6 })
  }
  // IPv6 works only once the kernel has found that nobody else has the addresses.
  for (const { namespace, address6 } of made) {
    const answers = () => run(inNamespace(host.namespace, ['ping', '-n', '-c1', '-W1', address6]))
    await host.waitUntil(`${namespace} answers over IPv6`, async () => (await answers()).code === 0)
  }
  return made
}

/** Every container with every container of the other host. */
const pairs = (): (readonly [EngineContainer, EngineContainer])[] =>
  containers.flatMap((from) =>
    containers.filter((to) => to.host !== from.host).map((to) => [from, to] as const),
  )

/** Counts pings that arrive, by whether they have the address. */
const count = (namespace: string, from: string, protocol: string): Promise<string> => {
  const [family, icmp] = protocol === 'IPv4' ? ['ip', 'icmp'] : ['ip6', 'icmpv6']
  const table = `inet seen_${from.replace(/[.:]/g, '_')}`
  const rule = (words: string): string => `${words}${icmp} type echo-request counter`
  return execOk(namespace, [
    'nft',
    `table ${table} { chain input { type filter hook input priority 0; ` +
      `${rule(`${family} saddr ${from} `)}; ${rule(`${family} saddr != ${from} `)}; }; }`,
  ])
}
const counted = async (namespace: string, from: string): Promise<number[]> => {
  const listing = await execOk(namespace, [
    'nft',
    'list',
    'table',
    'inet',
    `seen_${from.replace(/[.:]/g, '_')}`,
  ])
  return [...listing.matchAll(/counter packets (\d+)/g)].map(([, packets]) => Number(packets))
}

test('the two engines of a host have parts of the lease that do not overlap', async () => {
  for (const host of lab.hosts) {
    const { subnet } = await host.subnetEnv()
    const base = subnet.replace(/1\/24$/, '')
    const [cni, podman] = containers.filter((each) => each.host === host)
    expect([cni?.address, podman?.address]).toEqual([`${base}130`, `${base}2`])
  }
})

test('the containers, and their bridges, have FLANNEL_MTU', async () => {
  for (const { engine, host, namespace } of containers) {
    const { mtu } = await host.subnetEnv()
    expect(await execOk(namespace, ['ip', 'link', 'show', 'dev', 'eth0'])).toContain(` mtu ${mtu} `)
    const bridges = await host.exec('ip', '-o', 'link', 'show', 'type', 'bridge')
    expect(bridges).toMatch(new RegExp(`: ${engine === 'cni' ? 'cni' : 'pod'}-0a05\\w{4}: .* mtu ${mtu} `))
  }
})

test('containers on two hosts reach each other with their own addresses', async () => {
  for (const host of lab.hosts) {
    for (const save of ['iptables-save', 'ip6tables-save']) {
      const isAhead = async (): Promise<boolean> => {
        const rules = (await host.exec(save, '-t', 'nat')).split('\n')
        const ours = rules.findIndex((line) => /^-A POSTROUTING -s \S+ -d \S+ .*-j ACCEPT$/.test(line))
        return (
          ours !== -1 &&
          ours < rules.findIndex((line) => /^-A POSTROUTING .*-j NETAVARK-[0-9A-F]+$/.test(line))
        )
      }
      await host.waitUntil(`a rule ahead of netavark's in ${save}`, isAhead)
    }
  }
  for (const [from, to] of pairs()) {
    for (const [protocol, source, target] of [
      ['IPv4', from.address, to.address],
      ['IPv6', from.address6, to.address6],
    ] as const) {
      await count(to.namespace, source, protocol)
      expect(await lab.ping(from, { address: target })).toMatchObject({ lost: 0 })
      const [own, other] = await counted(to.namespace, source)
      expect({ from: from.namespace, to: to.namespace, own, other }).toMatchObject({ own: 3, other: 0 })
    }
  }
})

test('what leaves the overlay has the address of the host', async () => {
  // Without that address nothing would come back: OUTSIDE has no route to the overlay.
  for (const from of containers) expect(await lab.ping(from, { address: OUTSIDE })).toMatchObject({ lost: 0 })
})

test('made again the files stay as they are', async () => {
  const host = lab.host(1)
  const before = statSync(fileOf(host, CNI))
  const { code, stdout } = await overlayctl(host, 'cni', `--output=${CNI}`)
  expect({ code, stdout }).toEqual({ code: 0, stdout: expect.stringMatching(/as .* says already\n$/) })
  expect(statSync(fileOf(host, CNI))).toMatchObject({ ino: before.ino, mtimeMs: before.mtimeMs })
})

test('a file of somebody else is kept, and set aside with --force', async () => {
  const host = lab.host(1)
  const path = '/etc/cni/net.d/10-own.conflist'
  writeFileSync(fileOf(host, path), '{"name":"own","plugins":[]}')
  const flags = ['cni', '--name=third', `--output=${path}`]
  expect(await overlayctl(host, ...flags)).toMatchObject({
    code: 1,
    stderr: expect.stringContaining('is a file of your own'),
  })
  // Both halves of the lease are taken.
  expect(await overlayctl(host, ...flags, '--force', '--size=27')).toMatchObject({
    code: 1,
    stderr: expect.stringMatching(/no part of \/27 .* is free/),
  })
  expect(readFileSync(fileOf(host, path), 'utf8')).toBe('{"name":"own","plugins":[]}')
  // Half of what Podman had.
  expect(await overlayctl(host, 'podman-network', '--size=26', `--output=${PODMAN}`)).toMatchObject({
    code: 0,
  })
  expect(await overlayctl(host, ...flags, '--force', '--size=27')).toMatchObject({ code: 0 })
  expect(readdirSync(fileOf(host, '/etc/cni/net.d')).sort()).toEqual([
    '10-own.conflist',
    '10-own.conflist.before-overlayd',
    '30-overlayd.conflist',
  ])
})

test('the doctor names networks of the engines outside of the lease, and files that fit no more', async () => {
  const host = lab.host(2)
  cpSync(host.defaultsDirectory, join(etcOf(host), 'default'), { recursive: true })
  const examine = async () => {
    const { code, stdout, stderr } = await overlayctl(host, 'doctor', '-o', 'json', '--only=engines')
    return readReport(code, stdout, stderr)
  }
  expect(await examine()).toMatchObject({
    verdict: 'ok',
    checks: [{ summary: '2 networks in the overlay: overlay, overlay' }],
  })
  // What the engines make without overlayctl, with a container of theirs.
  const others = fileOf(host, '/etc/cni/net.d/20-other.conflist')
  const list = JSON.parse(readFileSync(fileOf(host, CNI), 'utf8'))
  const [bridge] = list.plugins
  const other = { ...bridge, bridge: 'other0', ipam: { type: 'host-local', subnet: '10.88.0.0/16' } }
  const { overlayd: _, ...foreign } = { ...list, name: 'other', plugins: [other] }
  writeFileSync(others, JSON.stringify(foreign))
  await lab.addNamespace('other')
  await addCniNetwork(host, 'other', JSON.stringify(foreign), join(lab.directory, 'other'))
  writeFileSync(fileOf(host, '/etc/cni/net.d/90-broken.conf'), '{')
  const before = readFileSync(fileOf(host, PODMAN), 'utf8')
  writeFileSync(fileOf(host, PODMAN), before.replaceAll('10.5.', '10.6.'))
  const report = await examine()
  expect(codesOf(report)).toEqual(['engine-network-file', 'engine-network-stale', 'engine-network-outside'])
  expect(cureOf(report, 'engine-network-outside')).toEqual(['overlayctl cni'])
  const [cure = ''] = cureOf(report, 'engine-network-stale')
  expect(await overlayctl(host, ...cure.split(' ').slice(1), '--size=25')).toMatchObject({ code: 0 })
  expect(readFileSync(fileOf(host, PODMAN), 'utf8')).toBe(before)
  rmSync(others)
  rmSync(fileOf(host, '/etc/cni/net.d/90-broken.conf'))
  expect(codesOf(await examine())).toEqual([])
})

test('refusals say what to do, and write nothing', async () => {
  const host = lab.host(2)
  const refused = async (...args: readonly string[]): Promise<string> => {
    const { code, stderr } = await overlayctl(host, ...args)
    expect(code).toBe(1)
    return stderr
  }
  expect(await refused('cni', '--output=/etc/cni/net.d/30-overlayd')).toMatch(/does not end in \.conflist/)
  expect(await refused('podman-network', '--output=/etc/containers/networks/x.json')).toMatch(
    /only from a file with the name overlay\.json/,
  )
  expect(await refused('cni', '--output=/etc/cni/net.d/40-x.conflist')).toMatch(/has a network with the name/)
  expect(await refused('cni', '--name=x', '--subnet=10.9.0.0/24')).toMatch(/not in this host's subnet/)
  expect(await refused('cni', '--subnet=x')).toMatch(/not a prefix/)
  expect(existsSync(fileOf(host, '/etc/cni/net.d/40-x.conflist'))).toBe(false)
})
