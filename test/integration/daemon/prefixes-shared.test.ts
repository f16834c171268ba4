/**
 * Two hosts that share a prefix: both get packets, and one gets all while the other is gone or not reached.
 */
import { prefixesDocumentSchema } from '../../../src/api/documents'
import type { Container } from '../../lab/host'
import { ETCD_PREFIX, type Host, Lab } from '../../lab/lab'
import { leaseKey } from '../../lab/leases'
import { execOk } from '../../lab/namespace'
import { patient } from '../../lab/patience'
import type { RunningPing } from '../../lab/ping'
import { Pending, waitFor } from '../../lab/wait'

jest.setTimeout(patient(120_000))

const FOUR = '198.51.100.0/24'
const SIX = 'fd00:9:0:7::/64'
const BOTH = [FOUR, SIX] as const
const CONFIG = JSON.stringify({
  Network: '10.5.0.0/16',
  SubnetMax: '10.5.99.0',
  EnableIPv6: true,
  IPv6Network: 'fd00:5::/48',
  Prefixes: { Allowed: [FOUR, 'fd00:9::/48'] },
  Backend: { Type: 'vxlan' },
})

/** Remembers addresses behind a gateway to which packets have come. */
const SEEN = `table inet seen {
  set four { type ipv4_addr; flags dynamic; size 1000; }
  set six { type ipv6_addr; flags dynamic; size 1000; }
  chain in {
    type filter hook input priority 0;
    ip daddr ${FOUR} add @four { ip daddr }
    ip6 daddr ${SIX} add @six { ip6 daddr }
  }
}`

let lab: Lab

beforeAll(async () => {
  lab = await Lab.create({ hosts: 4, config: CONFIG })
  // Only the host that sends packets has to know who is reached.
  for (const host of lab.hosts) host.start({ flags: { probe: host === lab.host(4) ? 'on' : 'off' } })
  await lab.waitConverged()
  await lab.host(4).addContainer()
  for (const host of gateways()) {
    // Stands for a network behind the host: all of its addresses answer.
    await host.exec('ip', 'route', 'add', 'local', FOUR, 'dev', 'lo')
    await host.exec('ip', '-6', 'route', 'add', 'local', SIX, 'dev', 'lo')
    await execOk(host.namespace, ['nft', SEEN])
  }
})
afterEach(async () => {
  const unseeded = 'add table inet faults; delete table inet faults'
  for (const each of gateways()) await execOk(each.namespace, ['nft', unseeded])
})
afterAll(() => lab?.close())

const gateways = (): [Host, Host] => [lab.host(1), lab.host(2)]

async function overlayctl(host: Host, ...args: readonly string[]): Promise<void> {
  const { code, stdout, stderr } = await host.overlayctl(...args)
  if (code !== 0) throw new Error(`overlayctl ${args.join(' ')}: ${code}: ${stdout}${stderr}`)
}

const routesOf = (host: Host): Promise<readonly string[]> =>
  Promise.all(BOTH.map((prefix) => host.exec('ip', prefix === SIX ? '-6' : '-4', 'route', 'show', prefix)))

/** The addresses of the subnets of a host, which are the gateways of routes to it. */
async function gatewaysTo(host: Host): Promise<[four: string, six: string]> {
  const { subnet, ipv6Subnet } = await host.subnetEnv()
  return [subnet.replace('.1/24', '.0'), `${ipv6Subnet}`.replace(/1\/64$/, '')]
}

/** Waits until a host routes the prefixes of both families by these hosts and no others. */
async function routed(host: Host, by: readonly Host[]): Promise<void> {
  const all = await Promise.all(gateways().map(gatewaysTo))
  await waitFor(`${host.name} by ${by.map(({ name }) => name).join()}`, async () => {
    const found = await routesOf(host)
    const isRight = found.every((text, family) =>
      gateways().every((each, at) => text.includes(`via ${all[at]?.[family]} `) === by.includes(each)),
    )
    return isRight || new Pending(found.join())
  })
}

/** The addresses behind a gateway to which it has got packets. */
async function seenBy(host: Host): Promise<string[]> {
  const lists = ['four', 'six'].map((set) => host.exec('nft', '-j', 'list', 'set', 'inet', 'seen', set))
  const texts = await Promise.all(lists)
  return texts.flatMap((text) => text.match(/198\.51\.100\.\d+|fd00:9:0:7::[0-9a-f]+/g) ?? [])
}

/** Pings addresses behind the gateways until each has got packets of both families. */
async function spread(): Promise<Map<Host, string[]>> {
  let last = 0
  return waitFor('packets at both gateways', async () => {
    for (const end of [1, 2, 3, 4]) {
      last = (last % 200) + 1
      for (const address of [`198.51.100.${last}`, `fd00:9:0:7::${last.toString(16)}${end}`])
        await lab.ping(client(), { address }, { count: 1 })
    }
    const seen = new Map<Host, string[]>()
    for (const host of gateways()) seen.set(host, await seenBy(host))
    const isSpread = [...seen.values()].every((all) =>
      [/^198/, /^fd00/].every((family) => all.some((each) => family.test(each))),
    )
    return isSpread ? seen : new Pending(JSON.stringify([...seen.values()]))
  })
}

const client = (): Container => {
  const [container] = lab.host(4).containers
  if (container === undefined) throw new Error('it has a container')
  return container
}

/** Pings two addresses of each family behind each gateway each 5 ms. */
async function pings(seen: ReadonlyMap<Host, string[]>): Promise<RunningPing[]> {
  const chosen = [...seen.values()].flatMap((all) =>
    [/^198/, /^fd00/].flatMap((family) => all.filter((each) => family.test(each)).slice(0, 1)),
  )
  const running = []
  for (const address of chosen) running.push(await lab.startPing(client(), { address }))
  return running
}

const lostBy = async (running: readonly RunningPing[]): Promise<number> =>
  (await Promise.all(running.map((each) => each.stop()))).reduce((sum, { lost }) => sum + lost, 0)

const rows = async (host: Host) => {
  const { stdout } = await host.overlayctl('prefixes', '-o', 'json')
  return prefixesDocumentSchema.parse(JSON.parse(stdout)).prefixes
}

test('both get packets, and the routes of all hosts lead to both', async () => {
  const [first, second] = gateways()
  for (const prefix of BOTH) await overlayctl(first, 'announce', prefix, '--share')
  await routed(lab.host(4), [first])
  const running = [await lab.startPing(client(), { address: '198.51.100.9' })]
  running.push(await lab.startPing(client(), { address: 'fd00:9:0:7::9' }))
  for (const prefix of BOTH) await overlayctl(second, 'announce', prefix, '--share', '--weight=2')
  for (const host of [lab.host(3), lab.host(4)]) await routed(host, [first, second])
  const [four = '', six = ''] = await routesOf(lab.host(4))
  expect(four).toMatch(/weight 2/)
  expect(six).toMatch(/weight 2/)
  await spread()
  expect(await lostBy(running)).toBe(0)
  expect(await rows(lab.host(3))).toEqual(
    [...BOTH].flatMap((prefix) => [
      expect.objectContaining({ prefix, state: 'shares', share: 1 }),
      expect.objectContaining({ prefix, state: 'shares', share: 2 }),
    ]),
  )
  const { stdout } = await lab.host(3).overlayctl('status')
  expect(stdout).toMatch(/2 routed, 4 sharing/)
  const metrics = await lab.host(3).metrics()
  expect(metrics).toMatch(/^overlayd_prefixes\{state="sharing"\} 4$/m)
})

test('a route that somebody changes is put right, and a restart changes nothing', async () => {
  const host = lab.host(4)
  const [four, six] = await gatewaysTo(lab.host(1))
  await host.exec('ip', 'route', 'replace', FOUR, 'via', four, 'dev', 'flannel.1', 'onlink', 'proto', '79')
  await host.exec('ip', '-6', 'route', 'delete', SIX, 'via', six)
  await routed(host, gateways())
  const monitor = await lab.monitor(host)
  await host.restart()
  await host.waitConverged(3)
  const changes = await monitor.changes()
  expect(changes.filter((line) => line.includes('198.51.100') || line.includes('fd00:9'))).toEqual([])
})

test('when one withdraws, the other has all packets, and none is lost', async () => {
  const [first, second] = gateways()
  const running = await pings(await spread())
  for (const prefix of BOTH) await overlayctl(first, 'withdraw', prefix)
  await routed(lab.host(4), [second])
  for (const prefix of BOTH) await overlayctl(first, 'announce', prefix, '--share')
  await routed(lab.host(4), [first, second])
  expect(await lostBy(running)).toBe(0)
})

test('one that is not reached gets no packets until it is reached again', async () => {
  const [first, second] = gateways()
  const host = lab.host(4)
  const table = 'table inet faults { chain in { type filter hook input priority 0; udp dport 8472 drop; }; }'
  await execOk(first.namespace, ['nft', table])
  await routed(host, [second])
  const { code, stdout } = await host.overlayctl('prefixes')
  expect(code).toBe(0)
  expect(stdout).toMatch(/shares +this host does not reach it/)
  const running = [await lab.startPing(client(), { address: '198.51.100.9' })]
  running.push(await lab.startPing(client(), { address: 'fd00:9:0:7::9' }))
  await execOk(first.namespace, ['nft', 'delete table inet faults'])
  await routed(host, [first, second])
  expect(await lostBy(running)).toBe(0)
})

test('where none is reached, none is left out, and packets get through again with the first that is', async () => {
  const [first, second] = gateways()
  const host = lab.host(4)
  const table = 'table inet faults { chain in { type filter hook input priority 0; udp dport 8472 drop; }; }'
  for (const each of [first, second]) await execOk(each.namespace, ['nft', table])
  // Both families of both gateways.
  await host.waitForStatus('both to be unreachable', ({ mesh }) => mesh?.peers.unreachable === 4)
  await routed(host, [first, second])
  expect((await rows(host)).filter(({ reason }) => reason !== undefined)).toEqual([])
  await execOk(second.namespace, ['nft', 'delete table inet faults'])
  await routed(host, [second])
  // Without its daemon, nobody knows that the first one was left out for a reason.
  await host.stop()
  const { stdout } = await host.overlayctl('routes')
  for (const prefix of BOTH) expect(stdout).toMatch(new RegExp(`^unknown +route +${prefix} .*found:`, 'm'))
  expect(stdout.replaceAll(/\s+/g, ' ')).toContain(
    `what probing has found is not known without overlayd, which leaves hosts out that it does not reach: ${FOUR}, ${SIX}`,
  )
  await execOk(first.namespace, ['nft', 'delete table inet faults'])
  host.start({ flags: { probe: 'on' } })
  await routed(host, [first, second])
})

test('one that is killed with its lease leaves all packets to the other', async () => {
  const [first, second] = gateways()
  const host = lab.host(4)
  // Only the end of the lease may take the dead one out.
  await host.stop()
  host.start({ flags: { probe: 'off' } })
  await routed(host, [first, second])
  // What each has seen before may have come by another way then.
  for (const each of gateways())
    for (const set of ['four', 'six']) await each.exec('nft', 'flush', 'set', 'inet', 'seen', set)
  const seen = await spread()
  const stays = new Map([[second, seen.get(second) ?? []]])
  const running = await pings(stays)
  const own = (await rows(first)).find((row) => row.own)?.host ?? ''
  await first.stop('SIGKILL')
  await first.exec('ip', 'link', 'set', 'eth0', 'down')
  const { kvs } = await lab.client.kv.range({ key: Buffer.from(leaseKey(ETCD_PREFIX, own)) })
  await lab.client.leaseClient.leaseRevoke({ ID: kvs[0]?.lease ?? '' })
  for (const each of [lab.host(3), host]) await routed(each, [second])
  running.push(...(await pings(seen)))
  for (const prefix of ['198.51.100.', 'fd00:9:0:7::'])
    for (const end of [201, 202, 203, 204])
      expect(await lab.ping(client(), { address: `${prefix}${end}` }, { count: 1 })).toMatchObject({
        received: 1,
      })
  expect(await lostBy(running)).toBe(0)
  expect((await rows(host)).map(({ state }) => state)).toEqual(['wins', 'wins'])
})
