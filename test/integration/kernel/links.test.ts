import { createSocket } from 'node:dgram'
import { once } from 'node:events'
import type { Kernel } from '../../../src/kernel/kernel'
import { enableIpForward, ignoreRouterAdvertisements, readIpForward } from '../../../src/kernel/sysctl'
import { mac } from '../../../src/model/address'
import {
  address,
  existing,
  linkSpec,
  makeDevice,
  makeUnderlay,
  openKernel,
  PARENT,
  removeDevice,
  removeUnderlay,
  reported,
  requireSandbox,
  run,
  show,
} from './network'

let kernel: Kernel

beforeAll(async () => {
  requireSandbox()
  makeUnderlay()
  kernel = await openKernel()
})

afterEach(async () => {
  await removeDevice(kernel)
  expect(reported).toEqual([])
})

afterAll(() => {
  kernel?.close()
  removeUnderlay()
})

test('the host network: links, addresses, default routes in order of metric', async () => {
  run('ip route add default dev lo metric 50')
  run('ip route add default metric 60 nexthop via 192.0.2.253 dev under0 nexthop via 192.0.2.252 dev under0')
  try {
    const { links, addresses, defaultRoutes } = await kernel.hostNetwork()
    const parent = await existing(kernel, PARENT)
    expect(links.find(({ name }) => name === 'lo')).toMatchObject({
      index: 1,
      up: true,
      kind: undefined,
      mtu: 65536,
    })
    expect(parent).toMatchObject({ up: true, kind: 'veth', mtu: 1500, vxlan: undefined })
    expect(links).toContainEqual(parent)
    expect(addresses).toContainEqual(
      expect.objectContaining({
        linkIndex: parent.index,
        address: { address: address('192.0.2.1'), length: 24 },
        scope: 'global',
      }),
    )
    expect(addresses).toContainEqual(
      expect.objectContaining({
        linkIndex: 1,
        address: { address: address('127.0.0.1'), length: 8 },
        scope: 'host',
      }),
    )
    expect(defaultRoutes.map(({ linkIndex }) => linkIndex)).toEqual([parent.index, 1, undefined])
  } finally {
    run('ip route delete default metric 50')
    run('ip route delete default metric 60')
  }
})

test('a device is made as flannel makes it', async () => {
  const link = await makeDevice(kernel)
  expect(link).toEqual({
    index: link.index,
    name: 'flannel.1',
    mac: mac(0x020000000001),
    mtu: 1450,
    up: true,
    kind: 'vxlan',
    vxlan: {
      vni: 1,
      port: 8472,
      local: address('192.0.2.1'),
      parent: (await existing(kernel, PARENT)).index,
      group: undefined,
      learning: false,
      gbp: false,
      l2miss: false,
    },
  })
  const text = run('ip -d link show flannel.1')
  expect(text).toContain('link/ether 02:00:00:00:00:01')
  expect(text).toContain(
    `vxlan id 1 local 192.0.2.1 dev ${PARENT} srcport 0 0 dstport 8472 nolearning ttl auto ageing 300 udpcsum noudp6zerocsumtx noudp6zerocsumrx`,
  )
  expect(text).toContain('mtu 1450 qdisc noqueue')
  expect(await kernel.linkAddresses('IPv4', link.index)).toMatchObject([
    { linkIndex: link.index, address: { address: address('10.5.1.0'), length: 32 }, scope: 'global' },
  ])
})

test('port, learning and group policy when they are asked for', async () => {
  const link = await makeDevice(kernel, { port: 4790, learning: true, gbp: true, vni: 0xffffff })
  expect(link.vxlan).toMatchObject({ port: 4790, learning: true, gbp: true, vni: 0xffffff })
  expect(run('ip -d link show flannel.1')).toMatch(/dstport 4790 ttl.* gbp/)
})

test('a device of flannel is read in full', async () => {
  run(
    `ip link add flannel.1 address 02:00:00:00:00:09 mtu 1400 type vxlan id 1 dev ${PARENT} local 192.0.2.1 dstport 8472 nolearning`,
  )
  expect(await existing(kernel, 'flannel.1')).toMatchObject({
    mac: mac(0x020000000009),
    mtu: 1400,
    up: false,
    vxlan: { vni: 1, port: 8472, learning: false, l2miss: false },
  })
  run('ip link delete flannel.1')
  run('ip link add flannel.1 type vxlan id 1 group 239.1.1.1 dev under0 dstport 0 l2miss')
  expect((await existing(kernel, 'flannel.1')).vxlan).toMatchObject({
    group: address('239.1.1.1'),
    local: undefined,
    learning: true,
    l2miss: true,
  })
})

test('no such link is undefined, or ENODEV where an index is wanted', async () => {
  expect(await kernel.link('nothing')).toBeUndefined()
  await expect(kernel.linkAddresses('IPv4', 9999)).rejects.toMatchObject({ errnoName: 'ENODEV' })
  await expect(kernel.observe('IPv4', 9999)).rejects.toMatchObject({ errnoName: 'ENODEV' })
})

test('MAC, MTU and learning change in place, together or alone, while the device is up', async () => {
  const { index, name } = await makeDevice(kernel)
  await kernel.applyLink({
    kind: 'change-link',
    index,
    name,
    mac: mac(0x02000000000a),
    mtu: 1300,
    learning: true,
  })
  expect(await existing(kernel, name)).toMatchObject({
    index,
    mac: mac(0x02000000000a),
    mtu: 1300,
    up: true,
    vxlan: { learning: true, port: 8472 },
  })
  await kernel.applyLink({ kind: 'change-link', index, name, learning: false })
  await kernel.applyLink({ kind: 'change-link', index, name, mtu: 1450 })
  expect(await existing(kernel, name)).toMatchObject({ mtu: 1450, vxlan: { learning: false } })
  await expect(kernel.applyLink({ kind: 'change-link', index, name, mtu: 20 })).rejects.toMatchObject({
    errnoName: 'EINVAL',
    message: expect.stringContaining('cannot correct the device flannel.1 (MTU 20): '),
  })
  await expect(kernel.applyLink({ kind: 'change-link', index, name, mtu: 1451 })).rejects.toMatchObject({
    code: 'mtu-refused',
    message: expect.stringMatching(
      /cannot give flannel.1 the MTU 1451: .+ below it has 1500, which leaves 1450/,
    ),
  })
})

test('everything but creation may be done twice', async () => {
  const { index, name } = await makeDevice(kernel)
  const extra = { address: address('10.5.2.0'), length: 32 }
  for (const kind of ['add-address', 'delete-address'] as const) {
    await kernel.applyLink({ kind, index, address: extra })
    await kernel.applyLink({ kind, index, address: extra })
  }
  await kernel.applyLink({ kind: 'set-link-up', index, name })
  await kernel.applyLink({ kind: 'delete-link', index, name })
  await kernel.applyLink({ kind: 'delete-link', index, name })
  await kernel.applyLink({ kind: 'delete-address', index, address: extra })
  expect(show('ip -j link show').map((link) => link['ifname'])).not.toContain(name)
})

test('a name that is taken is said so, with what has it', async () => {
  run('ip link add flannel.1 type bridge')
  await expect(kernel.applyLink({ kind: 'create-link', link: await linkSpec(kernel) })).rejects.toMatchObject(
    {
      code: 'name-taken',
      message: 'cannot create flannel.1: there is a device of kind bridge of that name',
      fix: expect.stringContaining('ip link delete flannel.1'),
    },
  )
})

test.each([undefined, 8472])(
  'a VNI in use on its port (%s) is said so, with the device that uses it',
  async (port) => {
    run(`ip link add rival type vxlan id 1 dev ${PARENT} local 192.0.2.1 dstport 8472`)
    try {
      await expect(
        kernel.applyLink({ kind: 'create-link', link: await linkSpec(kernel, { port }) }),
      ).rejects.toMatchObject({
        code: 'vni-in-use',
        message: 'cannot create flannel.1: the device rival already uses VNI 1 on UDP port 8472',
        fix: expect.stringContaining('Backend.VNI'),
      })
    } finally {
      run('ip link delete rival')
    }
  },
)

test('a UDP port in use shows when the device goes up, and is said so', async () => {
  const program = createSocket('udp4')
  program.bind(8472)
  await once(program, 'listening')
  try {
    await expect(makeDevice(kernel)).rejects.toMatchObject({
      code: 'port-in-use',
      message: 'cannot set flannel.1 up: its UDP port 8472 is in use by another program',
      fix: expect.stringContaining('8472'),
    })
  } finally {
    program.close()
  }
})

test('a UDP port that another device holds with other options names that device', async () => {
  run(`ip link add rival type vxlan id 2 dev ${PARENT} local 192.0.2.1 dstport 8472 gbp`)
  run('ip link set rival up')
  try {
    await expect(makeDevice(kernel)).rejects.toMatchObject({
      code: 'port-in-use',
      message: expect.stringContaining('in use by the device rival'),
    })
  } finally {
    run('ip link delete rival')
  }
})

test('another refusal is told in the words of the kernel', async () => {
  await expect(
    kernel.applyLink({ kind: 'create-link', link: await linkSpec(kernel, { parent: 9999 }) }),
  ).rejects.toMatchObject({ code: 'netlink-refused', errnoName: 'ENODEV' })
})

test('sysctls', async () => {
  await makeDevice(kernel)
  await enableIpForward()
  await enableIpForward()
  expect(await readIpForward()).toBe(true)
  expect(run('cat /proc/sys/net/ipv4/ip_forward')).toBe('1\n')
  expect(await ignoreRouterAdvertisements('flannel.1')).toBe(true)
  expect(run('cat /proc/sys/net/ipv6/conf/flannel.1/accept_ra')).toBe('0\n')
  expect(await ignoreRouterAdvertisements('nothing')).toBe(false)
})
