import { MessageCursor, MessageWriter } from '../../../../src/kernel/netlink/bytes'
import { neighbourMessage, nexthopMessage, routeMessage } from '../../../../src/kernel/netlink/messages'
import { forwardingTargetOf } from '../../../../src/kernel/objects/fdb'
import { objectFormat } from '../../../../src/kernel/objects/operations'
import { ipv4, mac } from '../../../../src/model/address'
import { type ObjectOperation, UNKNOWN_TARGET } from '../../../../src/model/kernel/objects'
import type { Route } from '../../../../src/model/kernel/route'
import { describeOperation } from '../../../../src/model/kernel/words'
import { remove, removeRoute, set, setRoute, to } from '../../../support/operations'

const LINK = 9
const gateway = ipv4(0x0a050200)
const peerMac = mac(0x020000000002)
const destination = ipv4(0xc0000202)
const route: Route = {
  destination: { address: gateway, length: 24 },
  metric: 0,
  tos: 0,
  protocol: 79,
  target: { kind: 'nexthop', id: 7 },
  mtu: 0,
}
const plainRoute: Route = { ...route, metric: 5, target: { kind: 'gateway', gateway, onlink: true } }

function encode(operation: ObjectOperation): MessageCursor {
  const writer = new MessageWriter()
  objectFormat(LINK).encode(writer, operation)
  const cursor = new MessageCursor(writer.take())
  cursor.next()
  return cursor
}

const CREATE_REPLACE = 0x501
const CREATE_EXCL = 0x601

test.each<[ObjectOperation, type: number, flags: number, words: string]>([
  [set('neighbour', gateway, peerMac), 28, CREATE_REPLACE, 'set neighbour 10.5.2.0 to 02:00:00:00:00:02'],
  [remove('neighbour', gateway, peerMac), 29, 1, 'delete neighbour 10.5.2.0'],
  [
    set('fdb', peerMac, to(destination)),
    28,
    CREATE_REPLACE,
    'set the FDB entry of 02:00:00:00:00:02 to 192.0.2.2',
  ],
  [remove('fdb', peerMac, to(destination)), 29, 1, 'delete the FDB entry of 02:00:00:00:00:02 to 192.0.2.2'],
  [
    set('fdb', peerMac, to(destination, 7)),
    28,
    CREATE_REPLACE,
    'set the FDB entry of 02:00:00:00:00:02 to 192.0.2.2 via link 7',
  ],
  [
    remove('fdb', peerMac, to(destination, 7)),
    29,
    1,
    'delete the FDB entry of 02:00:00:00:00:02 to 192.0.2.2 via link 7',
  ],
  [set('nexthop', 7, gateway), 104, CREATE_EXCL, 'add nexthop 7 via 10.5.2.0'],
  [set('nexthop', 7, gateway, true), 104, CREATE_REPLACE, 'replace nexthop 7 via 10.5.2.0'],
  [remove('nexthop', 7, gateway), 105, 1, 'delete nexthop 7'],
  [setRoute(route), 24, CREATE_EXCL, 'add the route to 10.5.2.0/24 through nexthop 7 proto 79'],
  [setRoute(route, true), 24, CREATE_REPLACE, 'replace the route to 10.5.2.0/24 through nexthop 7 proto 79'],
  [removeRoute(plainRoute), 25, 1, 'delete the route to 10.5.2.0/24 via 10.5.2.0 metric 5 proto 79'],
])('%j', (operation, type, flags, words) => {
  const cursor = encode(operation)
  expect([cursor.type, cursor.flags]).toEqual([type, flags])
  expect(describeOperation(operation)).toBe(words)
})

test('neighbours and forwarding entries are permanent, the latter on the device itself', () => {
  const neighbour = encode(set('neighbour', gateway, peerMac))
  expect(neighbourMessage.decode(neighbour.view, neighbour.start, neighbour.end)).toMatchObject({
    family: 2,
    index: LINK,
    state: 0x80,
    flags: 0,
    destination: gateway,
    linkAddress: peerMac,
  })
  const entry = encode(set('fdb', peerMac, to(destination)))
  expect(neighbourMessage.decode(entry.view, entry.start, entry.end)).toMatchObject({
    family: 7,
    index: LINK,
    state: 0x80,
    flags: 2,
    destination,
    linkAddress: peerMac,
  })
})

describe('a forwarding entry with a link', () => {
  const decoded = (operation: ObjectOperation) => {
    const { view, start, end } = encode(operation)
    return neighbourMessage.decode(view, start, end)
  }

  test('names the link when it is set, and no link without one', () => {
    expect(decoded(set('fdb', peerMac, to(destination, 7)))).toMatchObject({ destination, link: 7 })
    expect(decoded(set('fdb', peerMac, to(destination)))).toMatchObject({ destination, link: undefined })
  })

  // The kernel refuses a message that names a link which is gone.
  test('is deleted by its MAC alone', () => {
    expect(decoded(remove('fdb', peerMac, to(destination, 7)))).toMatchObject({
      linkAddress: peerMac,
      destination: undefined,
      link: undefined,
    })
    expect(decoded(remove('fdb', peerMac, to(destination)))).toMatchObject({ destination, link: undefined })
  })

  test('is read with its link, and as unlike ours with a port or a VNI of its own', () => {
    const entry = decoded(set('fdb', peerMac, to(destination, 7)))
    expect(forwardingTargetOf(entry)).toEqual(to(destination, 7))
    expect(forwardingTargetOf({ ...entry, port: 4789 })).toEqual(UNKNOWN_TARGET)
    expect(forwardingTargetOf({ ...entry, vni: 5 })).toEqual(UNKNOWN_TARGET)
    expect(forwardingTargetOf({ ...entry, destination: undefined })).toEqual(UNKNOWN_TARGET)
  })
})

test('a nexthop is onlink, ours by protocol, and on our link', () => {
  const { view, start, end } = encode(set('nexthop', 7, gateway))
  expect(nexthopMessage.decode(view, start, end)).toMatchObject({
    family: 2,
    protocol: 79,
    flags: 4,
    id: 7,
    link: LINK,
    gateway,
  })
})

test('a route names its nexthop object alone, or gateway and link', () => {
  const named = encode(setRoute(route))
  expect(routeMessage.decode(named.view, named.start, named.end)).toMatchObject({
    table: 254,
    protocol: 79,
    scope: 0,
    type: 1,
    flags: 0,
    nexthop: 7,
    gateway: undefined,
    link: undefined,
    metric: undefined,
  })
  const plain = encode(setRoute(plainRoute))
  expect(routeMessage.decode(plain.view, plain.start, plain.end)).toMatchObject({
    flags: 4,
    nexthop: undefined,
    gateway,
    link: LINK,
    metric: 5,
  })
})
