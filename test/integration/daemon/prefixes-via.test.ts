/** Local delivery of announced prefixes: an address that follows its container from bridge to bridge. */
import { pingDocumentSchema, prefixesDocumentSchema, routesDocumentSchema } from '../../../src/api/documents'
import { ETCD_PREFIX, type Host, Lab } from '../../lab/lab'
import { execOk, ipBatch } from '../../lab/namespace'
import { patient } from '../../lab/patience'
import { ping } from '../../lab/ping'
import { run } from '../../lab/process'
import { Pending, waitFor } from '../../lab/wait'

jest.setTimeout(patient(120_000))

/** The network that exists on all hosts, as a user-defined network of Docker. */
const BRIDGE = 'moving'
const FOUR = '10.5.240.'
const SIX = 'fd00:9::'
const CONFIG = JSON.stringify({
  Network: '10.5.0.0/16',
  SubnetMax: '10.5.99.0',
  EnableIPv6: true,
  IPv6Network: 'fd00:5::/48',
  Prefixes: { Allowed: ['10.5.240.0/20', '198.51.100.0/24', 'fd00:9::/48'] },
  Backend: { Type: 'vxlan' },
})

let lab: Lab
const namespaces: string[] = []

beforeAll(async () => {
  lab = await Lab.create({ hosts: 3, config: CONFIG })
  await lab.startAll()
  await lab.host(3).addContainer()
})
afterAll(async () => {
  for (const name of namespaces) await run(['ip', 'netns', 'delete', name])
  await lab?.close()
})

async function addBridge(host: Host): Promise<void> {
  await ipBatch(host.namespace, [
    `link add ${BRIDGE} type bridge`,
    `address add ${FOUR}1/24 dev ${BRIDGE}`,
    `address add ${SIX}1/64 dev ${BRIDGE} nodad`,
    `link set ${BRIDGE} up`,
  ])
}

/** Adds a container with those addresses to the bridge of a host. @returns its namespace */
async function addMember(host: Host, last: number): Promise<string> {
  const name = `${host.name}-m${last}`
  namespaces.push(name)
  await ipBatch(undefined, [`netns add ${name}`])
  await ipBatch(host.namespace, [
    `link add m${last} type veth peer name eth0 netns ${name}`,
    `link set m${last} master ${BRIDGE} up`,
  ])
  await ipBatch(name, [
    `address add ${FOUR}${last}/24 dev eth0`,
    `address add ${SIX}${last}/64 dev eth0 nodad`,
    'link set eth0 up',
    `route add default via ${FOUR}1`,
    `route add ::/0 via ${SIX}1`,
  ])
  // Each end drops packets until the kernel has announced that it is up, which may take a second.
  const ends = async () =>
    [
      await host.exec('bridge', 'link', 'show', 'dev', `m${last}`),
      await host.exec('ip', 'link', 'show', 'dev', `m${last}`),
      await host.exec('ip', 'link', 'show', 'dev', BRIDGE),
      await execOk(name, ['ip', 'link', 'show', 'dev', 'eth0']),
    ].join('')
  await host.waitUntil(`${name} is connected`, async () => {
    const found = await ends()
    return found.includes(' state forwarding ') && found.match(/ state UP /g)?.length === 3
  })
  return name
}

async function overlayctl(host: Host, ...args: readonly string[]): Promise<string> {
  const { code, stdout, stderr } = await host.overlayctl(...args)
  if (code !== 0) throw new Error(`overlayctl ${args.join(' ')}: ${code}: ${stdout}${stderr}`)
  return stdout
}

async function removeMember(host: Host, last: number): Promise<void> {
  await host.exec('ip', 'link', 'delete', `m${last}`)
  await execOk(host.namespace, ['ip', 'netns', 'delete', `${host.name}-m${last}`])
}

const prefixesOf = (last: number): readonly string[] => [`${FOUR}${last}/32`, `${SIX}${last}/128`]

async function announce(host: Host, last: number, ...flags: readonly string[]): Promise<void> {
  for (const prefix of prefixesOf(last))
    await overlayctl(host, 'announce', prefix, `--via=${BRIDGE}`, ...flags)
}

async function claims(host: Host) {
  const { stdout } = await host.overlayctl('prefixes', '-o', 'json')
  return prefixesDocumentSchema.parse(JSON.parse(stdout)).prefixes
}

/** The routes of a host to both addresses, and the proxy neighbours of both. */
async function shown(host: Host, last: number): Promise<string> {
  const [four = '', six = ''] = prefixesOf(last)
  return [
    await host.exec('ip', '-4', 'route', 'show', four),
    await host.exec('ip', '-6', 'route', 'show', six),
    await host.exec('ip', '-4', 'neigh', 'show', 'proxy'),
    await host.exec('ip', '-6', 'neigh', 'show', 'proxy'),
  ].join('')
}

/** Waits until a host has the routes to both addresses over a device, and both proxy neighbours or none. */
const settled = (host: Host, last: number, device: 'flannel' | 'moving' | 'none', proxies = 0) =>
  waitFor(`${host.name} has ${last} by ${device}, ${proxies} proxies`, async () => {
    const lines = (await shown(host, last)).split('\n')
    const routes = lines.filter((line) => line.includes('proto 79') && !line.includes(' proxy '))
    const entries = lines.filter((line) => new RegExp(`[:.]${last} dev ${BRIDGE} .*proxy`).test(line))
    const isRight =
      device === 'none'
        ? routes.length === 0
        : routes.filter((line) => line.includes(` dev ${device}`)).length === 2
    return (isRight && entries.length === proxies) || new Pending(lines.join('; '))
  })

const reach = (from: string, address: string) =>
  waitFor(`${address} from ${from}`, async () => {
    const { received, output } = await ping(from, address)
    return received > 0 || new Pending(output)
  })

const container3 = (): string => {
  const [first] = lab.host(3).containers
  if (first === undefined) throw new Error('host3 has no container')
  return first.namespace
}

/** Pings both addresses from a container of the third host, once they answer. */
async function startPings() {
  const pings = []
  for (const address of [`${FOUR}7`, `${SIX}7`]) {
    await reach(container3(), address)
    pings.push(await lab.startPing({ namespace: container3() }, { address }))
  }
  return pings
}

test('a claim waits for its way, and other hosts hear of it as soon as it is there', async () => {
  const [first, third] = [lab.host(1), lab.host(3)]
  // Before any prefix is announced: nothing of this bridge matters yet.
  await addBridge(third)
  const { code, stdout } = await first.overlayctl('announce', `${FOUR}7/32`, `--via=${BRIDGE}`)
  expect({ code, stdout }).toEqual({ code: 1, stdout: expect.stringMatching(/^waits: .*no link moving/) })
  expect((await first.overlayctl('announce', `${SIX}7/128`, `--via=${BRIDGE}`)).code).toBe(1)
  expect(await overlayctl(first, 'announce', '198.51.100.0/24')).toMatch(
    /of 2 of 2 other hosts etcd does not tell whether they run flannel or overlayd: 10\.5\.\d+\.0\/24, 10\.5\./,
  )
  expect(await claims(first)).toContainEqual(
    expect.objectContaining({
      prefix: `${FOUR}7/32`,
      own: true,
      via: BRIDGE,
      state: 'waits',
      reason: expect.stringMatching(/not announced: there is no link moving/),
    }),
  )
  const { problemDetails } = await first.waitForStatus(
    'two problems',
    ({ problems }) => problems.length === 2,
  )
  expect(problemDetails?.map(({ part, code: each }) => [part, each])).toEqual([
    ['prefixes', 'via-missing'],
    ['prefixes', 'via-missing'],
  ])
  const { code: amiss, stdout: found } = await first.overlayctl('doctor', '--only=prefixes')
  expect({ amiss, found }).toEqual({ amiss: 1, found: expect.stringMatching(/there is no link moving/) })
  // Nothing else waits for it.
  await waitFor('198.51.100.0/24', async () => {
    const found = await third.exec('ip', 'route', 'show', '198.51.100.0/24')
    return found.includes('proto 79') || new Pending(found)
  })
  await overlayctl(first, 'withdraw', '198.51.100.0/24')
  await addBridge(first)
  await addMember(first, 7)
  await settled(first, 7, 'moving')
  await settled(third, 7, 'flannel', 2)
  await first.waitConverged(2)
  for (const address of [`${FOUR}7`, `${SIX}7`]) {
    await reach(container3(), address)
    // An address in no subnet: the claim says at which host it is.
    const { code, stdout } = await third.overlayctl('ping', address, '--count=2', '-o', 'json')
    const { probes, fails } = pingDocumentSchema.parse(JSON.parse(stdout))
    expect({ code, fails, parts: probes.map(({ part }) => part) }).toEqual({
      code: 0,
      fails: undefined,
      parts: ['underlay', 'overlay', 'full-size', 'container'],
    })
    expect(probes.at(-1)).toMatchObject({ address, received: 2 })
  }
})

test('the route is put right when somebody deletes it, and when its link was down', async () => {
  const first = lab.host(1)
  for (const prefix of prefixesOf(7)) await first.exec('ip', 'route', 'delete', prefix)
  await settled(first, 7, 'moving')
  await first.exec('ip', 'link', 'set', BRIDGE, 'down')
  await settled(lab.host(3), 7, 'none')
  expect(await claims(first)).toContainEqual(
    expect.objectContaining({ state: 'waits', reason: expect.stringMatching(/the link moving is down/) }),
  )
  await first.exec('ip', 'link', 'set', BRIDGE, 'up')
  // The kernel removed the IPv6 address with the link.
  await first.exec('ip', 'address', 'replace', `${SIX}1/64`, 'dev', BRIDGE, 'nodad')
  await settled(first, 7, 'moving')
  await settled(lab.host(3), 7, 'flannel', 2)
})

test('an address moves to the bridge of another host, and no packet of a ping is lost', async () => {
  const [first, second, third] = [lab.host(1), lab.host(2), lab.host(3)]
  await addBridge(second)
  const pings = await startPings()
  await addMember(second, 7)
  await announce(second, 7, '--priority=200')
  await settled(second, 7, 'moving')
  await settled(first, 7, 'flannel', 2)
  for (const prefix of prefixesOf(7)) await overlayctl(first, 'withdraw', prefix)
  await removeMember(first, 7)
  await settled(third, 7, 'flannel', 2)
  for (const each of pings) expect(await each.stop()).toMatchObject({ lost: 0 })
})

test('containers of the bridge that the address has left reach it, and the kernel keeps answering them', async () => {
  const first = lab.host(1)
  const member = await addMember(first, 9)
  await announce(first, 9)
  await settled(lab.host(2), 9, 'flannel', 2)
  for (const address of [`${FOUR}7`, `${SIX}7`]) await reach(member, address)
  for (const address of [`${FOUR}7`, `${SIX}7`])
    await first.exec('ip', 'neigh', 'delete', 'proxy', address, 'dev', BRIDGE)
  await settled(first, 7, 'flannel', 2)
})

test('a restart writes nothing where all is right', async () => {
  const first = lab.host(1)
  const monitor = await lab.monitor(first)
  await first.restart()
  await first.waitConverged(2)
  expect(await monitor.changes()).toEqual([])
  await settled(first, 9, 'moving')
  await settled(first, 7, 'flannel', 2)
})

test('a host that boots while etcd is away has its routes of before', async () => {
  const [first, third] = [lab.host(1), lab.host(3)]
  // Written within seconds of the last change, and at the end.
  for (const host of [first, third]) await host.stop()
  const plan = await overlayctl(first, 'teardown', '--dry-run')
  for (const line of [
    /route 10\.5\.240\.9\/32 on interface \d+ proto 79/,
    /route fd00:9::9\/128 on interface \d+ metric 1024 proto 79/,
    /proxy neighbour 10\.5\.240\.7 on interface \d+/,
    /proxy neighbour fd00:9::7 on interface \d+/,
  ])
    expect(plan).toMatch(line)
  await lab.etcd.kill()
  for (const device of ['flannel.1', 'flannel-v6.1']) await third.exec('ip', 'link', 'delete', device)
  for (const prefix of prefixesOf(9)) await first.exec('ip', 'route', 'delete', prefix)
  await settled(third, 9, 'none', 2)
  for (const host of [first, third]) host.start()
  await settled(third, 9, 'flannel', 2)
  await settled(first, 9, 'moving')
  await settled(first, 7, 'flannel', 2)
  await lab.etcd.restart()
  for (const host of [first, third]) await host.waitConverged(2)
  await settled(third, 9, 'flannel', 2)
  await settled(first, 9, 'moving')
})

test('a host that is killed loses its address to a higher priority, and nothing is lost', async () => {
  const [first, second, third] = [lab.host(1), lab.host(2), lab.host(3)]
  const pings = await startPings()
  await second.stop('SIGKILL')
  // Without a daemon overlayctl decides by itself what should be there.
  const { stdout } = await second.overlayctl('routes', '-o', 'json')
  const { objects, daemonRunning } = routesDocumentSchema.parse(JSON.parse(stdout))
  const shown = objects.filter(({ object }) => /^(10\.5\.240\.|fd00:9::)[79]\b/.test(object))
  expect(daemonRunning).toBe(false)
  // Both addresses of both families, and that the bridge answers for two of them.
  expect(shown.map(({ kind, state }) => `${kind} ${state}`).sort()).toEqual([
    ...['proxy in-sync', 'proxy in-sync', 'route in-sync', 'route in-sync', 'route in-sync', 'route in-sync'],
  ])
  expect(objects.filter(({ state }) => state !== 'in-sync' && state !== 'foreign')).toEqual([])
  await addMember(first, 7)
  await announce(first, 7, '--priority=300')
  await settled(first, 7, 'moving')
  await settled(third, 7, 'flannel', 2)
  for (const each of pings) expect(await each.stop()).toMatchObject({ lost: 0 })
  // The killed one hears of it when it is back.
  second.start()
  await settled(second, 7, 'flannel', 2)
})

test('a gateway that does not answer is told of, and no more once it does', async () => {
  const [first, third] = [lab.host(1), lab.host(3)]
  const [four, six] = ['198.51.100.0/25', 'fd00:9:0:7::/64']
  await overlayctl(first, 'announce', four, `--via=${FOUR}77`)
  await overlayctl(first, 'announce', six, `--via=${SIX}77`)
  const details = (): Promise<string[]> =>
    first
      .waitForStatus('an answer of etcd', ({ etcd }) => etcd.connected)
      .then(({ problemDetails = [] }) => problemDetails.map(({ code, text }) => `${code} ${text}`).sort())
  // Nobody has asked for them yet.
  expect(await details()).toEqual([])
  const [container] = third.containers
  if (container === undefined) throw new Error('host3 has no container')
  await waitFor('both to be silent', async () => {
    for (const to of ['198.51.100.1', 'fd00:9:0:7::1']) await ping(container.namespace, to, { count: 1 })
    const said = await details()
    return said.length === 2 || new Pending(said.join())
  })
  const silence = [
    `gateway-silent ${four}: the gateway ${FOUR}77 on moving does not answer`,
    `gateway-silent ${six}: the gateway ${SIX}77 on moving does not answer`,
  ]
  expect(await details()).toEqual(silence)
  // The kernel forgets that it has asked, as it does where it has many neighbours.
  const addresses = [`${FOUR}77`, `${SIX}77`]
  const known = async (to: string) => first.exec('ip', 'neigh', 'show', 'to', to, 'dev', 'moving')
  for (const to of addresses) await first.exec('ip', 'neigh', 'del', to, 'dev', 'moving')
  for (const to of addresses)
    await first.waitUntil('the kernel to ask again', async () => (await known(to)) !== '')
  expect(await details()).toEqual(silence)
  expect(first.daemon.output).not.toContain('this is over')
  const { code, stdout } = await first.overlayctl('doctor', '--only=prefixes')
  expect({ code, stdout }).toEqual({ code: 1, stdout: expect.stringContaining('prefix-gateway-silent') })
  expect(await overlayctl(first, 'prefixes')).toContain(`the gateway ${FOUR}77 on moving does not answer`)
  // It comes, and says nothing by itself: the daemon has the kernel ask again.
  const member = await addMember(first, 77)
  await waitFor('both to answer', async () => {
    const said = await details()
    return said.length === 0 || new Pending(said.join())
  })
  expect((await first.overlayctl('doctor', '--only=prefixes')).code).toBe(0)
  for (const prefix of [four, six]) await overlayctl(first, 'withdraw', prefix)
  await removeMember(first, 77)
  namespaces.splice(namespaces.indexOf(member), 1)
})

test('a gateway on a link is a way too, and a withdrawal leaves nothing behind', async () => {
  const [first, second, third] = [lab.host(1), lab.host(2), lab.host(3)]
  await overlayctl(first, 'announce', '198.51.100.0/25', `--via=${FOUR}9`)
  await overlayctl(first, 'announce', 'fd00:9:0:7::/64', `--via=${SIX}9`)
  const gateways = async () =>
    (await first.exec('ip', '-4', 'route', 'show', '198.51.100.0/25')) +
    (await first.exec('ip', '-6', 'route', 'show', 'fd00:9:0:7::/64'))
  expect(await gateways()).toMatch(
    /^198\.51\.100\.0\/25 via 10\.5\.240\.9 dev moving proto 79 \nfd00:9:0:7::\/64 via fd00:9::9 dev moving proto 79/,
  )
  const { stdout } = await first.overlayctl('announce', '198.51.100.128/25', '--via=203.0.113.9')
  expect(stdout).toMatch(/^waits: .*in no network of this host's links/)
  for (const prefix of ['198.51.100.0/25', '198.51.100.128/25', 'fd00:9:0:7::/64'])
    await overlayctl(first, 'withdraw', prefix)
  for (const last of [7, 9])
    for (const prefix of prefixesOf(last)) await overlayctl(first, 'withdraw', prefix)
  for (const prefix of prefixesOf(7)) await overlayctl(second, 'withdraw', prefix)
  for (const last of [7, 9]) for (const host of [first, second, third]) await settled(host, last, 'none')
  await waitFor('no gateway', async () => (await gateways()) === '' || new Pending(await gateways()))
  expect(await lab.client.getAll().prefix(`${ETCD_PREFIX}/overlay/prefixes/`).keys()).toEqual([])
})
