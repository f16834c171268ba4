import { usersOf } from '../../../../src/plan/host/block-users'
import { hw, ip, net, net6 } from '../support'

const BLOCK = net('10.5.243.0/24')
const NONE = { bridges: [], networks: [], announced: [] }

test('networks, links and announced prefixes in a block are its users', () => {
  const users = usersOf(BLOCK, {
    bridges: [
      {
        bridge: 'br-web',
        subnet: BLOCK,
        ports: ['v1', 'v2'],
        addresses: [{ address: ip('10.5.243.2'), mac: hw('02:00:00:00:00:02') }],
      },
      { bridge: 'br-idle', subnet: BLOCK, ports: [], addresses: [] },
    ],
    networks: [
      { name: 'the network web of Docker', subnets: [net('10.5.243.0/27'), net6('fd00:5::/64')] },
      { name: 'the network bridge of Docker', subnets: [net('10.5.1.0/27')] },
      { name: 'the network all of Docker', subnets: [net('10.5.242.0/23')] },
    ],
    announced: [
      { prefix: net('10.5.243.7/32'), host: '10.5.2.0-24' },
      { prefix: net('10.5.244.7/32'), host: '10.5.2.0-24' },
    ],
  })
  expect(users).toEqual([
    'the network web of Docker (10.5.243.0/27)',
    'the network all of Docker (10.5.242.0/23)',
    'the link br-web, which has an address in it (2 containers: 10.5.243.2)',
    'the link br-idle, which has an address in it',
    '10.5.243.7/32, which 10.5.2.0-24 announces',
  ])
})

test('what nothing uses has no users', () => {
  expect(usersOf(BLOCK, NONE)).toEqual([])
  const others = [{ name: 'x', subnets: [net('10.5.242.0/24'), net6('fd00:5::/48')] }]
  expect(usersOf(BLOCK, { ...NONE, networks: others })).toEqual([])
})

test('of many prefixes some are named', () => {
  const announced = Array.from({ length: 10 }, (_, place) => ({
    prefix: net(`10.5.243.${place}/32`),
    host: '10.5.2.0-24',
  }))
  const users = usersOf(BLOCK, { ...NONE, announced })
  expect(users).toHaveLength(9)
  expect(users.at(-1)).toBe('2 more announced prefixes')
})
