import type { UnderlayRoute } from '../../../../src/model/kernel/route'
import { directLinkFinder } from '../../../../src/plan/reconcile/direct'
import { ip, ip6, net, net6 } from '../support'

const route = (
  destination: UnderlayRoute['destination'],
  fields: Partial<UnderlayRoute> = {},
): UnderlayRoute => ({
  destination,
  metric: 0,
  hasGateway: false,
  linkIndex: 2,
  ...fields,
})
const viaGateway = route(net('0.0.0.0/0'), { hasGateway: true })

test('an address on the link is direct, and any other goes to the gateway', () => {
  const find = directLinkFinder([viaGateway, route(net('192.168.77.0/24'))])
  expect(find(ip('192.168.77.12'))).toBe(2)
  expect(find(ip('192.168.78.12'))).toBeUndefined()
})

test('an address without any route is not direct', () => {
  expect(directLinkFinder([])(ip('192.168.77.12'))).toBeUndefined()
  expect(directLinkFinder([route(net('192.168.77.0/24'))])(ip6('fd77::12'))).toBeUndefined()
})

test('the longest prefix counts, in whatever order routes come', () => {
  const routes = [
    route(net('192.168.0.0/16')),
    route(net('192.168.77.0/24'), { hasGateway: true }),
    route(net('192.168.77.12/32'), { linkIndex: 7 }),
  ]
  for (const order of [routes, routes.toReversed()]) {
    const find = directLinkFinder(order)
    expect(find(ip('192.168.77.12'))).toBe(7)
    expect(find(ip('192.168.77.13'))).toBeUndefined()
    expect(find(ip('192.168.78.1'))).toBe(2)
  }
})

test('of two routes to one prefix the lower metric counts', () => {
  const find = directLinkFinder([
    route(net6('fd77::/64'), { metric: 1024, linkIndex: 3 }),
    route(net6('fd77::/64'), { metric: 256, linkIndex: 4 }),
  ])
  expect(find(ip6('fd77::12'))).toBe(4)
})
