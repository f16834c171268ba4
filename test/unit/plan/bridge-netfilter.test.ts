import { bridgeNetfilterProblem } from '../../../src/plan/bridge-netfilter'

const both = ['IPv4', 'IPv6'] as const

test('the module that is not there, and a switch that is off, are named with what to do', () => {
  expect(bridgeNetfilterProblem({ present: false, ipv4: false, ipv6: false }, both)).toMatch(
    /^the kernel module br_netfilter is not loaded.*modprobe br_netfilter/,
  )
  expect(bridgeNetfilterProblem({ present: true, ipv4: true, ipv6: false }, both)).toMatch(
    /^net\.bridge\.bridge-nf-call-ip6tables is 0.*sysctl -w net\.bridge\.bridge-nf-call-ip6tables=1/,
  )
})

test('a family that is off does not matter', () => {
  expect(bridgeNetfilterProblem({ present: true, ipv4: true, ipv6: false }, ['IPv4'])).toBeUndefined()
  expect(bridgeNetfilterProblem({ present: true, ipv4: true, ipv6: true }, both)).toBeUndefined()
})
