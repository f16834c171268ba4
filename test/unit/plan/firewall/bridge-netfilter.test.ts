import {
  bridgeNetfilterProblem,
  describeBridgeNetfilter,
} from '../../../../src/plan/firewall/bridge-netfilter'

const both = ['IPv4', 'IPv6'] as const

test('a missing module and a sysctl that is off are reported with a fix', () => {
  const missing = bridgeNetfilterProblem({ present: false, ipv4: false, ipv6: false }, both)
  expect(missing).toMatchObject({
    code: 'br-netfilter-missing',
    text: 'the kernel module br_netfilter is not loaded',
    commands: ['modprobe br_netfilter'],
  })
  expect(missing && describeBridgeNetfilter(missing)).toMatch(
    /^the kernel module br_netfilter is not loaded, so .*; run `modprobe br_netfilter`, and list it in \/etc/,
  )
  const off = bridgeNetfilterProblem({ present: true, ipv4: true, ipv6: false }, both)
  expect(off).toMatchObject({
    code: 'br-netfilter-off',
    text: 'net.bridge.bridge-nf-call-ip6tables is 0',
    commands: ['sysctl -w net.bridge.bridge-nf-call-ip6tables=1'],
  })
  expect(off && describeBridgeNetfilter(off)).toMatch(
    /is 0, so .*; run `sysctl -w net\.bridge\.bridge-nf-call-ip6tables=1`$/,
  )
})

test('a family that is off does not matter', () => {
  expect(bridgeNetfilterProblem({ present: true, ipv4: true, ipv6: false }, ['IPv4'])).toBeUndefined()
  expect(bridgeNetfilterProblem({ present: true, ipv4: true, ipv6: true }, both)).toBeUndefined()
})
