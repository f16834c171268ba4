import { MessageWriter } from '../../../src/kernel/netlink/bytes'
import {
  NETLINK_GENERIC,
  NETLINK_NETFILTER,
  NETLINK_ROUTE,
  NLM_F_DUMP,
  NLM_F_REQUEST,
  RTM_GETROUTE,
} from '../../../src/kernel/netlink/constants'
import { linkMessage, routeMessage } from '../../../src/kernel/netlink/messages'
import type { NetlinkHandlers, NetlinkSocket } from '../../../src/kernel/netlink/socket'
import { traceTo } from '../../../src/kernel/netlink/trace'
import { objectFormat } from '../../../src/kernel/objects/operations'
import { ipv4, mac } from '../../../src/model/address'
import type { ObjectOperation } from '../../../src/model/kernel/objects'
import { remove, set, setRoute, to } from '../../support/operations'
import { LINK, NEIGHBOUR } from './captured'
import { CONFIGURE, DEVICE, PRIVATE_KEY } from './wireguard/captured'

const gateway = ipv4(0x0a050200)

/** A traced socket, the lines that were written, and what went through it. */
function traced(protocol = NETLINK_ROUTE) {
  const lines: string[] = []
  const sent: Buffer[] = []
  const received: Buffer[] = []
  let inner: NetlinkHandlers | undefined
  const open = (handlers: NetlinkHandlers): NetlinkSocket => {
    inner = handlers
    return {
      portId: 4711,
      receiveBuffer: 1,
      send: (datagram) => void sent.push(datagram),
      addMembership: () => undefined,
      drops: () => 0,
      close: () => undefined,
    }
  }
  const onDatagram = (datagram: Buffer) => void received.push(datagram)
  const socket = traceTo((line) => lines.push(line), protocol)({ onDatagram, onError: () => undefined }, open)
  return { socket, lines, sent, received, deliver: (datagram: Buffer) => inner?.onDatagram(datagram) }
}

/** Operations as one datagram, with sequence numbers from 1. */
function datagramOf(...operations: ObjectOperation[]): Buffer {
  const writer = new MessageWriter()
  for (const [index, operation] of operations.entries()) {
    objectFormat(9).encode(writer, operation)
    writer.stamp(index + 1, 0)
  }
  return writer.take()
}

test('each message that is sent is a line with the names of its table, and is sent as it is', () => {
  const { socket, lines, sent } = traced()
  const datagram = datagramOf(
    set('fdb', mac(0x020000000002), to(ipv4(0xc0000202))),
    set('nexthop', 7, gateway),
    setRoute({
      destination: { address: gateway, length: 24 },
      metric: 0,
      tos: 0,
      protocol: 79,
      target: { kind: 'nexthop', id: 7 },
      mtu: 0,
    }),
    remove('neighbour', gateway, mac(0x020000000002)),
  )
  socket.send(datagram)
  expect(lines).toEqual([
    'nl 4711 > RTM_NEWNEIGH replace|create #1: family=7 index=9 state=128 flags=2 ' +
      'destination=192.0.2.2 linkAddress=02:00:00:00:00:02',
    'nl 4711 > RTM_NEWNEXTHOP excl|create #2: family=2 protocol=79 flags=4 id=7 link=9 gateway=10.5.2.0',
    'nl 4711 > RTM_NEWROUTE excl|create #3: family=2 destinationLength=24 table=254 protocol=79 type=1 ' +
      'destination=10.5.2.0 nexthop=7',
    'nl 4711 > RTM_DELNEIGH #4: family=2 index=9 destination=10.5.2.0',
  ])
  expect(sent).toEqual([datagram])
})

test('a dump is told apart from a change, and nested attributes are shown', () => {
  const { socket, lines } = traced()
  const writer = new MessageWriter()
  routeMessage.encode(writer, RTM_GETROUTE, NLM_F_REQUEST | NLM_F_DUMP, { family: 2 })
  linkMessage.encode(writer, 16, NLM_F_REQUEST, {
    index: 9,
    info: { kind: 'vxlan', vxlan: { id: 1, learning: false } },
  })
  socket.send(writer.take())
  expect(lines).toEqual([
    'nl 4711 > RTM_GETROUTE dump #0: family=2',
    'nl 4711 > RTM_NEWLINK #0: index=9 info={kind=vxlan vxlan={id=1 learning=false}}',
  ])
})

test('each message that arrives is a line, with the socket whose request caused it, and is delivered', () => {
  const { lines, received, deliver } = traced()
  deliver(NEIGHBOUR)
  deliver(LINK)
  expect(lines[0]).toMatch(
    /^nl 4711 < RTM_NEWNEIGH #\d+ by \d+: family=2 index=\d+ state=128 .*destination=[\d.]+ linkAddress=/,
  )
  expect(lines[1]).toMatch(/^nl 4711 < RTM_NEWLINK .* name=\S+ mtu=\d+ .*info=\{kind=vxlan vxlan=\{id=/)
  expect(received).toEqual([NEIGHBOUR, LINK])
})

test('a verdict is shown with its errno; what is no message is, too, and is delivered', () => {
  const { lines, received, deliver } = traced()
  const verdict = Buffer.alloc(36)
  verdict.writeUInt32LE(36, 0)
  verdict.writeUInt16LE(2, 4)
  verdict.writeInt32LE(-17, 16)
  deliver(verdict)
  deliver(Buffer.from([1, 2, 3]))
  expect(lines).toEqual([
    'nl 4711 < NLMSG_ERROR #0 by 0: errno=17',
    expect.stringContaining('malformed netlink message'),
  ])
  expect(received).toHaveLength(2)
})

test('messages of another protocol are shown by type and length', () => {
  const { lines, deliver } = traced(NETLINK_NETFILTER)
  deliver(NEIGHBOUR)
  expect(lines).toEqual([expect.stringMatching(/^nl 4711 < type 28 .*: \d+ bytes$/)])
})

test('no key of WireGuard is shown, neither one that is sent nor one that arrives', () => {
  const { socket, lines, deliver } = traced(NETLINK_GENERIC)
  socket.send(Buffer.from(CONFIGURE))
  deliver(DEVICE)
  const key = CONFIGURE.subarray(PRIVATE_KEY.at, PRIVATE_KEY.at + 32)
  expect(DEVICE.includes(key.subarray(1, 31))).toBe(true)
  expect(lines).toEqual([
    'nl 4711 > type 32 #7: 56 bytes',
    expect.stringMatching(/^nl 4711 < type 32 #7 by \d+: 544 bytes$/),
  ])
})
