/** The rule and routes by which IPv6 packets to a device leave by it, with a device of any kind. */
import type { Kernel } from '../../../src/kernel/kernel'
import { ensureRule6, removeRule6 } from '../../../src/kernel/wireguard/rules'
import { openKernel, reported, requireSandbox, run, show } from './network'

const NAME = 'tunnel0'
const TABLE = 51_820
let kernel: Kernel
let index: number

beforeAll(async () => {
  requireSandbox()
  kernel = await openKernel()
})

beforeEach(() => {
  run(`ip link add ${NAME} type veth peer name tunnel1`)
  for (const name of [NAME, 'tunnel1']) run(`ip link set ${name} up`)
  index = show(`ip -j link show dev ${NAME}`)[0]?.['ifindex'] as number
})

afterEach(async () => {
  await remove()
  run(`ip link delete ${NAME}`)
  expect(rules()).toEqual([])
})

afterAll(() => {
  kernel.close()
  expect(reported).toEqual([])
})

const ensure = (table = TABLE) => ensureRule6(kernel.clients, { index, name: NAME }, table)
const remove = (table = TABLE) => removeRule6(kernel.clients, NAME, table)
const lines = (text: string) =>
  text
    .trim()
    .split('\n')
    .filter((line) => line !== '')
    .map((line) => line.trim())
/** All rules but the kernel's own. */
const rules = () => lines(run('ip -6 rule')).filter((line) => !/^(0|32766):/.test(line))
const routes = (table = TABLE) => lines(run(`ip -6 route show table ${table}`))

const RULE = `79:\tfrom all oif ${NAME} lookup ${TABLE} proto 79`
const ROUTES = [
  `default dev ${NAME} proto 79 metric 1024 pref medium`,
  'unreachable default dev lo proto 79 metric 4294967295 pref medium',
]

test.each([TABLE, 99])('are made once, in table %d, and removed', async (table) => {
  expect(await ensure(table)).toBe(true)
  expect(rules()).toEqual([RULE.replace(`${TABLE}`, `${table}`)])
  expect(routes(table)).toEqual(ROUTES)
  expect(await ensure(table)).toBe(false)
  await remove(table)
  await remove(table)
  expect([...rules(), ...routes(table)]).toEqual([])
})

test.each([
  ['the rule', `ip -6 rule delete oif ${NAME} lookup ${TABLE}`],
  ['the route over the device', `ip -6 route delete default dev ${NAME} table ${TABLE}`],
  ['the route that refuses', `ip -6 route delete unreachable default metric 4294967295 table ${TABLE}`],
  ['all routes', `ip -6 route flush table ${TABLE}`],
])('get %s back when it is lost', async (_what, command) => {
  await ensure()
  run(command)
  expect(await ensure()).toBe(true)
  expect(rules()).toEqual([RULE])
  expect(routes()).toEqual(ROUTES)
  expect(await ensure()).toBe(false)
})

test('replace rules of ours that lead elsewhere, and leave those of others', async () => {
  const strangers = [
    `78:\tfrom all oif ${NAME} lookup main`,
    `79:\tfrom all oif other lookup 7 proto 79`,
    `79:\tfrom all oif ${NAME} lookup ${TABLE}`,
  ]
  run(`ip -6 rule add pref 78 oif ${NAME} lookup main`)
  run(`ip -6 rule add pref 79 oif ${NAME} lookup ${TABLE}`)
  run('ip -6 rule add pref 79 oif other lookup 7 protocol 79')
  run(`ip -6 rule add pref 79 oif ${NAME} lookup 8 protocol 79`)
  run(`ip -6 rule add pref 500 oif ${NAME} lookup ${TABLE} protocol 79`)
  try {
    expect(await ensure()).toBe(true)
    const there = rules().map((line) => line.replace(' [detached]', ''))
    expect(there.sort()).toEqual([...strangers, RULE].sort())
    await remove()
    expect(
      rules()
        .map((line) => line.replace(' [detached]', ''))
        .sort(),
    ).toEqual(strangers.sort())
  } finally {
    for (const pref of [78, 79, 79]) run(`ip -6 rule delete pref ${pref}`)
  }
})

test('are not made in a table where another program has a route', async () => {
  run(`ip -6 route add fd99::/64 dev ${NAME} table ${TABLE}`)
  await expect(ensure()).rejects.toMatchObject({ code: 'table-taken' })
  expect(rules()).toEqual([])
  await remove()
  expect(routes()).toEqual([`fd99::/64 dev ${NAME} metric 1024 pref medium`])
})

test('refuse packets while the device is down, and need one that is up for the rest', async () => {
  run(`ip link set ${NAME} down`)
  await expect(ensure()).rejects.toMatchObject({ errnoName: 'ENETDOWN' })
  expect([...rules(), ...routes()]).toEqual([RULE, ...ROUTES.slice(1)])
  run(`ip link set ${NAME} up`)
  expect(await ensure()).toBe(true)
  expect(routes()).toEqual(ROUTES)
})
