/** `overlayctl evict` removes the leftovers of a host that is gone, and refuses to remove a live host. */
import { peersDocumentSchema } from '../../../src/api/documents'
import { ETCD_PREFIX, type Host, Lab } from '../../lab/lab'
import { fakePeer, leaseKey, leaseValue } from '../../lab/leases'
import { patient } from '../../lab/patience'

jest.setTimeout(patient(90_000))

const GONE = fakePeer(0)
const KEPT = fakePeer(1)

let lab: Lab
beforeAll(async () => {
  lab = await Lab.create({ hosts: 3 })
  await lab.startAll()
  await lab.putPeers(GONE, KEPT)
  await lab.waitConverged(2)
})
afterAll(() => lab?.close())

const evict = (...words: string[]) => lab.host(1).overlayctl('evict', ...words)
const keys = async () => (await lab.client.getAll().prefix(`${ETCD_PREFIX}/subnets/`).keys()).sort()
const subnetOf = async (host: Host) => (await host.subnetEnv()).subnet.replace(/\d+\/24$/, '0/24')

test('the lease of a host that is gone is deleted, and nothing else; its peers let go', async () => {
  const before = await keys()
  const subnet = GONE.subnet.replace('-', '/')
  expect(await evict(subnet)).toMatchObject({ code: 1, stderr: expect.stringContaining('give --yes') })
  expect((await evict(subnet, '--dry-run')).code).toBe(0)
  expect(await keys()).toEqual(before)
  const answer = await evict(subnet, '--yes')
  expect(answer).toMatchObject({ code: 0, stderr: '' })
  expect(answer.stdout).toContain('nobody renewed its etcd lease')
  expect(answer.stdout).toMatch(/^deleted .*10\.5\.150\.0-24/m)
  expect(await keys()).toEqual(before.filter((key) => key !== leaseKey(ETCD_PREFIX, GONE.subnet)))
  await lab.waitConverged(1)
})

test('a host that lives is refused, by its daemon or by its device, and says what to do', async () => {
  const [two, three] = [lab.host(2), lab.host(3)]
  await three.stop('SIGKILL')
  const before = await keys()
  for (const [host, sign] of [
    [two, 'its etcd lease was renewed'],
    [three, 'its VXLAN device answers over the overlay'],
  ] as const) {
    const answer = await evict(await subnetOf(host), '--yes', '--force')
    expect(answer).toMatchObject({
      code: 1,
      stderr: expect.stringContaining('is alive, and uses the subnet'),
    })
    expect(answer.stdout).toContain(sign)
  }
  // The machine is up, and the device of the machine is not.
  await three.exec('ip', 'link', 'del', 'flannel.1')
  const subnet = await subnetOf(three)
  expect(await evict(subnet, '--yes')).toMatchObject({
    code: 1,
    stderr: expect.stringContaining(`overlayctl evict --force ${subnet}`),
  })
  expect(await keys()).toEqual(before)
  expect((await evict(subnet, '--yes', '--force')).code).toBe(0)
  expect(await keys()).toHaveLength(before.length - 1)
  three.start()
  await lab.waitConverged(1)
})

test('the own lease, a reservation and what nobody has are refused with what to do', async () => {
  expect(await evict(await subnetOf(lab.host(1)), '--yes')).toMatchObject({
    code: 1,
    stderr: expect.stringContaining('overlayctl drain'),
  })
  await lab.host(1).stop()
  expect(await evict(await subnetOf(lab.host(1)), '--yes')).toMatchObject({
    code: 1,
    stderr: expect.stringContaining("this host's own lease"),
  })
  lab.host(1).start()
  const reserved = { ...fakePeer(2), subnet: '10.5.249.0-24' }
  await lab.client.put(leaseKey(ETCD_PREFIX, reserved.subnet)).value(leaseValue(reserved))
  expect(await evict('10.5.249.0/24', '--yes')).toMatchObject({
    code: 1,
    stderr: expect.stringContaining('overlayctl release 10.5.249.0/24'),
  })
  const free = `${await lab.freeSubnet()}/24`
  expect(await evict(free, '--yes')).toMatchObject({
    code: 1,
    stderr: expect.stringContaining(`nobody has "${free}"`),
  })
  await lab.client.delete().key(leaseKey(ETCD_PREFIX, reserved.subnet))
  await lab.waitConverged(1)
})

test('of two with one PublicIP the one that is gone can go, though the address answers', async () => {
  const two = lab.host(2)
  const stale = { ...fakePeer(3), publicIp: two.address }
  await lab.putPeers(stale)
  const answer = await evict(stale.subnet.replace('-', '/'), '--yes')
  expect(answer).toMatchObject({ code: 0, stderr: '' })
  expect(answer.stdout).toContain('which another lease has too')
  expect(await keys()).not.toContain(leaseKey(ETCD_PREFIX, stale.subnet))
})

test('keys that cannot be read are called as peers shows them, whatever is in them', async () => {
  const names = ['garbage', 'a b\'c"d', '\u001b[31mred\u202e', '10.5.12.1-24', 'x'.repeat(600)]
  const odd = [...names.map((name) => Buffer.from(name)), Buffer.from([0x66, 0xff, 0xfe])]
  for (const name of odd) {
    const key = Buffer.concat([Buffer.from(leaseKey(ETCD_PREFIX, '')), name])
    await lab.client.kv.put({ key, value: Buffer.from('{}') })
  }
  const before = await keys()
  await lab
    .host(1)
    .waitForStatus(
      'all are rejected',
      ({ peers }) => peers.filter(({ state }) => state === 'rejected').length === odd.length,
    )
  const { stdout } = await lab.host(1).overlayctl('peers', '--state=rejected', '-o', 'json')
  for (const { subnet } of peersDocumentSchema.parse(JSON.parse(stdout)).peers) {
    expect(await evict('--yes', '--', subnet)).toMatchObject({ code: 0, stderr: '' })
  }
  expect(await keys()).toHaveLength(before.length - odd.length)
})
