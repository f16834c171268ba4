import fc from 'fast-check'
import { Echoes } from '../../../../src/kernel/events/echoes'
import { ChangeStream, readChanges } from '../../../../src/kernel/events/events'
import { MalformedMessageError } from '../../../../src/kernel/netlink/errors'
import type { NetlinkHandlers } from '../../../../src/kernel/netlink/socket'
import { ipv4, mac } from '../../../../src/model/address'
import type { KernelChange } from '../../../../src/model/kernel/change'
import { remove, set, to } from '../../../support/operations'
import { FORWARDING, LINK, NEIGHBOUR, NEXTHOP, NEXTHOP_ROUTE, PLAIN_ROUTE } from '../captured'

const OURS = 4
const OWN_PORT = 4711
/** No link has this index: it is watched before our device exists. */
const NONE = 0
const DELETED = 1 // RTM_DEL* is RTM_NEW* + 1

/** A captured message, sent by another socket. */
function message(captured: Buffer, { type = 0, port = 1 } = {}): Buffer {
  const datagram = Buffer.from(captured)
  datagram.writeUInt16LE(datagram.readUInt16LE(4) + type, 4)
  datagram.writeUInt32LE(port, 12)
  return datagram
}

function changesIn(datagram: Buffer, watched = OURS, echoes = new Echoes()): KernelChange[] {
  const changes: KernelChange[] = []
  readChanges(
    datagram,
    { ownPortId: OWN_PORT, watched: new Set([watched]), allRoutes: false, networks: [], echoes },
    (change) => changes.push(change),
  )
  return changes
}

describe('a notification', () => {
  test('becomes a change with its kind and link', () => {
    expect(changesIn(message(LINK))).toEqual([{ kind: 'link', linkIndex: OURS, deleted: false }])
    expect(changesIn(message(NEIGHBOUR, { type: DELETED }))).toEqual([
      { kind: 'neighbour', linkIndex: OURS, deleted: true, family: 'IPv4' },
    ])
    expect(changesIn(message(FORWARDING))).toEqual([{ kind: 'neighbour', linkIndex: OURS, deleted: false }])
    expect(changesIn(message(NEXTHOP))).toEqual([
      { kind: 'nexthop', linkIndex: OURS, deleted: false, family: 'IPv4' },
    ])
    expect(changesIn(message(NEXTHOP_ROUTE, { type: DELETED }))).toEqual([
      { kind: 'route', linkIndex: OURS, deleted: true, family: 'IPv4' },
    ])
  })

  test('about another link matters only for links, addresses and default routes', () => {
    const defaultRoute = message(PLAIN_ROUTE)
    defaultRoute.writeUInt8(0, 17)
    for (const watched of [5, NONE]) {
      expect(changesIn(message(LINK), watched).length).toBe(1)
      expect(changesIn(defaultRoute, watched).length).toBe(1)
      for (const other of [NEIGHBOUR, FORWARDING, NEXTHOP, NEXTHOP_ROUTE, PLAIN_ROUTE]) {
        expect(changesIn(message(other), watched)).toEqual([])
      }
    }
  })

  test('of our own change is dropped after reading only its header', () => {
    const garbage = message(NEXTHOP_ROUTE, { port: OWN_PORT })
    garbage.fill(0xff, 28)
    expect(changesIn(garbage)).toEqual([])
    expect(() => changesIn(message(garbage))).toThrow(MalformedMessageError)
  })

  test('can be garbage', () => {
    fc.assert(
      fc.property(
        fc.constantFrom(NEIGHBOUR, FORWARDING, NEXTHOP, NEXTHOP_ROUTE),
        fc.uint8Array(),
        (sample, noise) => {
          const datagram = message(sample)
          datagram.set(noise.subarray(0, datagram.length - 16), 16)
          try {
            changesIn(datagram)
          } catch (error) {
            if (!(error instanceof MalformedMessageError)) throw error
          }
        },
      ),
    )
  })
})

describe('notifications of FDB entries, which do not name the sender of the change,', () => {
  const entry = { mac: mac(0x020000000002), destination: ipv4(0xc0000202) }
  const added = message(FORWARDING, { port: 0 })
  const removed = message(FORWARDING, { port: 0, type: DELETED })

  test('are dropped if they match our own operation', () => {
    const echoes = new Echoes()
    echoes.expect([set('fdb', entry.mac, to(entry.destination))])
    expect(changesIn(added, OURS, echoes)).toEqual([])
    expect(changesIn(removed, OURS, echoes).length).toBe(1)
    echoes.expect([remove('fdb', entry.mac, to(entry.destination))])
    expect(changesIn(removed, OURS, echoes)).toEqual([])
    expect(changesIn(removed, OURS, echoes).length).toBe(1)
  })

  test('are reported if another program changed the link of the entry', () => {
    const echoes = new Echoes()
    echoes.expect([set('fdb', entry.mac, to(entry.destination, 7))])
    expect(changesIn(added, OURS, echoes).length).toBe(1)
  })

  test('are dropped if we deleted all destinations of the MAC, whatever they were', () => {
    const echoes = new Echoes()
    echoes.expect([set('fdb', entry.mac, to(entry.destination)), remove('fdb', entry.mac, to(ipv4(1), 7))])
    expect(changesIn(removed, OURS, echoes)).toEqual([])
  })

  test('are reported if another program changed the entry', () => {
    const echoes = new Echoes()
    echoes.expect([set('fdb', entry.mac, to(ipv4(1)))])
    expect(changesIn(added, OURS, echoes).length).toBe(1)
    expect(changesIn(removed, OURS, echoes).length).toBe(1)
  })

  test('of the new destination match our operations, even if the old one is deleted last', () => {
    const echoes = new Echoes()
    echoes.expect([set('fdb', entry.mac, to(entry.destination)), remove('fdb', entry.mac, to(ipv4(1)))])
    expect(changesIn(added, OURS, echoes)).toEqual([])
    expect(changesIn(removed, OURS, echoes).length).toBe(1)
  })
})

test('our deletion of a neighbour is dropped, unless the neighbour was added again', () => {
  const echoes = new Echoes()
  const removed = message(NEIGHBOUR, { port: 0, type: DELETED })
  const gone = remove('neighbour', ipv4(0x0a050200), mac(1))
  expect(changesIn(removed, OURS, echoes).length).toBe(1)
  echoes.expect([gone])
  expect(changesIn(removed, OURS, echoes)).toEqual([])
  expect(changesIn(removed, OURS, echoes).length).toBe(1)
  echoes.expect([gone, set('neighbour', ipv4(0x0a050200), mac(1))])
  expect(changesIn(removed, OURS, echoes).length).toBe(1)
})

describe('the stream', () => {
  const reported: Error[] = []
  let drops = 0
  let handlers: NetlinkHandlers | undefined
  let groups: number[] = []
  let stream: ChangeStream

  beforeEach(async () => {
    jest.useFakeTimers()
    reported.splice(0)
    drops = 0
    groups = []
    const connect = async (given: NetlinkHandlers) => {
      handlers = given
      return {
        portId: 1,
        receiveBuffer: 123,
        send: () => undefined,
        addMembership: (group: number) => void groups.push(group),
        drops: () => drops,
        close: () => undefined,
      }
    }
    stream = await ChangeStream.open(connect, OWN_PORT, (error) => reported.push(error))
  })

  afterEach(() => {
    stream.close()
    jest.useRealTimers()
  })

  test('joins the groups of links, neighbours, addresses, routes, nexthops and settings', () => {
    expect(groups.toSorted((a, b) => a - b)).toEqual([1, 3, 5, 7, 9, 11, 24, 25, 32])
    expect(stream.receiveBuffer).toBe(123)
  })

  test('reports an overrun once per loss, soon after a burst or when checked', () => {
    const changes: KernelChange[] = []
    stream.onChange((change) => changes.push(change))
    drops = 3
    handlers?.onDatagram(message(NEIGHBOUR, { port: OWN_PORT }))
    expect(changes).toEqual([])
    jest.advanceTimersByTime(100)
    expect(changes).toEqual([{ kind: 'overrun' }])
    stream.checkOverruns()
    expect(changes.length).toBe(1)
    drops = 4
    stream.checkOverruns()
    expect(changes.length).toBe(2)
  })

  test('reports an error of a listener, and calls the others', () => {
    const changes: KernelChange[] = []
    stream.onChange(() => {
      throw new Error('listener')
    })
    const stop = stream.onChange((change) => changes.push(change))
    handlers?.onDatagram(message(LINK))
    expect(reported.map((error) => error.message)).toEqual(['listener'])
    expect(changes.length).toBe(1)
    stop()
    handlers?.onDatagram(message(LINK))
    expect(changes.length).toBe(1)
  })

  test('reports neighbours of the watched link only', () => {
    const changes: KernelChange[] = []
    stream.onChange((change) => changes.push(change))
    handlers?.onDatagram(message(NEIGHBOUR))
    stream.watchLink(OURS)
    handlers?.onDatagram(message(NEIGHBOUR))
    expect(changes.length).toBe(1)
  })
})
