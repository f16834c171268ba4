import { existsSync, readFileSync, writeFileSync } from 'node:fs'
import { bridgeNetfilter, enableIpForward, enableIpv6Forward } from '../../../src/kernel/sysctl'
import { requireSandbox, run } from './network'

const IPV6 = '/proc/sys/net/ipv6/conf'
const read = (path: string): string => readFileSync(path, 'latin1').trim()

beforeAll(() => {
  requireSandbox()
  run('ip link add listens type veth peer name listens-not')
  writeFileSync(`${IPV6}/all/forwarding`, '0')
  writeFileSync(`${IPV6}/listens/accept_ra`, '1')
  writeFileSync(`${IPV6}/listens-not/accept_ra`, '0')
})
afterAll(() => {
  run('ip link delete listens')
  writeFileSync(`${IPV6}/all/forwarding`, '0')
})

test('IPv6 forwarding is enabled once; a link that accepts router advertisements still does', async () => {
  expect(await enableIpv6Forward()).toBe(true)
  expect(read(`${IPV6}/all/forwarding`)).toBe('1')
  expect(read(`${IPV6}/listens/accept_ra`)).toBe('2')
  expect(read(`${IPV6}/listens-not/accept_ra`)).toBe('0')
  expect(await enableIpv6Forward()).toBe(false)
})

test('IPv4 forwarding is switched on once', async () => {
  writeFileSync('/proc/sys/net/ipv4/ip_forward', '0')
  expect(await enableIpForward()).toBe(true)
  expect(await enableIpForward()).toBe(false)
})

test('br_netfilter is told by its switches', async () => {
  const directory = '/proc/sys/net/bridge'
  if (!existsSync(directory)) {
    expect(await bridgeNetfilter()).toEqual({ present: false, ipv4: false, ipv6: false })
    return
  }
  const path = `${directory}/bridge-nf-call-ip6tables`
  const before = read(path)
  writeFileSync(path, '0')
  expect(await bridgeNetfilter()).toMatchObject({ present: true, ipv6: false })
  writeFileSync(path, '1')
  expect(await bridgeNetfilter()).toMatchObject({ present: true, ipv6: true })
  writeFileSync(path, before)
})
