import { MessageCursor, MessageWriter } from '../../../src/kernel/netlink/bytes'
import { NetlinkError } from '../../../src/kernel/netlink/errors'
import { neighbourMessage, nexthopMessage, routeMessage } from '../../../src/kernel/netlink/messages'
import { isAlreadyGone, objectFormat } from '../../../src/kernel/operations'
import { ipv4, mac } from '../../../src/model/address'
import { describeOperation } from '../../../src/model/describe-operation'
import type { ObjectOperation, Route } from '../../../src/model/kernel'

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
  [
    { kind: 'set-neighbour', address: gateway, mac: peerMac },
    28,
    CREATE_REPLACE,
    'set neighbour 10.5.2.0 to 02:00:00:00:00:02',
  ],
  [{ kind: 'delete-neighbour', address: gateway }, 29, 1, 'delete neighbour 10.5.2.0'],
  [
    { kind: 'set-fdb', mac: peerMac, destination },
    28,
    CREATE_REPLACE,
    'set the FDB entry of 02:00:00:00:00:02 to 192.0.2.2',
  ],
  [
    { kind: 'delete-fdb', mac: peerMac, destination },
    29,
    1,
    'delete the FDB entry of 02:00:00:00:00:02 to 192.0.2.2',
  ],
  [{ kind: 'set-nexthop', id: 7, gateway, replace: false }, 104, CREATE_EXCL, 'add nexthop 7 via 10.5.2.0'],
  [
    { kind: 'set-nexthop', id: 7, gateway, replace: true },
    104,
    CREATE_REPLACE,
    'replace nexthop 7 via 10.5.2.0',
  ],
  [{ kind: 'delete-nexthop', id: 7 }, 105, 1, 'delete nexthop 7'],
  [
    { kind: 'set-route', route, replace: false },
    24,
    CREATE_EXCL,
    'add the route to 10.5.2.0/24 through nexthop 7 proto 79',
  ],
  [
    { kind: 'set-route', route, replace: true },
    24,
    CREATE_REPLACE,
    'replace the route to 10.5.2.0/24 through nexthop 7 proto 79',
  ],
  [
    { kind: 'delete-route', route: plainRoute },
    25,
    1,
    'delete the route to 10.5.2.0/24 via 10.5.2.0 metric 5 proto 79',
  ],
])('%j', (operation, type, flags, words) => {
  const cursor = encode(operation)
  expect([cursor.type, cursor.flags]).toEqual([type, flags])
  expect(describeOperation(operation)).toBe(words)
})

test('neighbours and forwarding entries are permanent, the latter on the device itself', () => {
  const neighbour = encode({ kind: 'set-neighbour', address: gateway, mac: peerMac })
  expect(neighbourMessage.decode(neighbour.view, neighbour.start, neighbour.end)).toMatchObject({
    family: 2,
    index: LINK,
    state: 0x80,
    flags: 0,
    destination: gateway,
    linkAddress: peerMac,
  })
  const entry = encode({ kind: 'set-fdb', mac: peerMac, destination })
  expect(neighbourMessage.decode(entry.view, entry.start, entry.end)).toMatchObject({
    family: 7,
    index: LINK,
    state: 0x80,
    flags: 2,
    destination,
    linkAddress: peerMac,
  })
})

test('a nexthop is onlink, ours by protocol, and on our link', () => {
  const { view, start, end } = encode({ kind: 'set-nexthop', id: 7, gateway, replace: false })
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
  const named = encode({ kind: 'set-route', route, replace: false })
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
  const plain = encode({ kind: 'set-route', route: plainRoute, replace: false })
  expect(routeMessage.decode(plain.view, plain.start, plain.end)).toMatchObject({
    flags: 4,
    nexthop: undefined,
    gateway,
    link: LINK,
    metric: 5,
  })
})

test('only a deletion can find its work done', () => {
  const missing = new NetlinkError(2, 'x')
  expect(isAlreadyGone({ kind: 'delete-fdb' }, missing)).toBe(true)
  expect(isAlreadyGone({ kind: 'set-fdb' }, missing)).toBe(false)
  expect(isAlreadyGone({ kind: 'delete-fdb' }, new NetlinkError(1, 'x'))).toBe(false)
})
