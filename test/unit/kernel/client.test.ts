import { MessageCursor, type MessageWriter } from '../../../src/kernel/netlink/bytes'
import { NetlinkClient, type Question, type RequestFormat } from '../../../src/kernel/netlink/client'
import type { NetlinkHandlers, NetlinkSocket } from '../../../src/kernel/netlink/socket'
import { ACKNOWLEDGEMENT, DONE, ERROR_WITH_TEXT, NEXTHOP } from './captured'

/** One message of a sent datagram. */
interface Sent {
  readonly type: number
  readonly flags: number
  readonly sequence: number
}

/** A socket with a function in place of the kernel. */
class FakeSocket implements NetlinkSocket {
  readonly portId = 77
  readonly receiveBuffer = 0
  readonly sends: Sent[][] = []
  /** What was sent, as it is now. */
  readonly datagrams: Buffer[] = []
  closed = false

  constructor(
    private readonly handlers: NetlinkHandlers,
    private readonly kernel: (messages: Sent[], reply: (...datagrams: Buffer[]) => void) => void,
  ) {}

  send(datagram: Buffer, reading?: 'now'): void {
    const cursor = new MessageCursor(datagram)
    const messages: Sent[] = []
    while (cursor.next()) messages.push({ type: cursor.type, flags: cursor.flags, sequence: cursor.sequence })
    this.sends.push(messages)
    this.datagrams.push(datagram)
    this.kernel(messages, (...datagrams) => {
      for (const answer of datagrams) {
        if (reading === 'now') this.handlers.onDatagram(answer)
        else setImmediate(() => this.handlers.onDatagram(answer))
      }
    })
  }

  addMembership(): void {}
  drops(): number {
    return 0
  }
  close(): void {
    this.closed = true
  }
}

const reported: Error[] = []
let socket: FakeSocket
let handlers: NetlinkHandlers

async function client(kernel: ConstructorParameters<typeof FakeSocket>[1], deadline = 5000) {
  const connect = async (given: NetlinkHandlers) => {
    handlers = given
    socket = new FakeSocket(given, kernel)
    return socket
  }
  return NetlinkClient.open(connect, (error) => reported.push(error), { deadline })
}

/** A captured datagram, changed into the answer to the message. */
function answerTo({ sequence }: Sent, captured: Buffer, flags = 0): Buffer {
  const datagram = Buffer.from(captured)
  datagram.writeUInt32LE(sequence, 8)
  datagram.writeUInt16LE(datagram.readUInt16LE(6) | flags, 6)
  return datagram
}

function errnoTo(message: Sent, errno: number): Buffer {
  const datagram = answerTo(message, ACKNOWLEDGEMENT)
  datagram.writeInt32LE(-errno, 16)
  return datagram
}

const last = (messages: Sent[]): Sent => messages[messages.length - 1] ?? { type: 0, flags: 0, sequence: 0 }

const format: RequestFormat<number> = {
  encode(writer, item) {
    writer.begin(item, 1)
    writer.finish()
  },
  describe: (item) => `do ${item}`,
}

const question: Question<number> = {
  attempted: 'list things',
  encode(writer) {
    writer.begin(106, 1)
    writer.finish()
  },
  decode: (view, start) => view.getUint8(start),
}

const DUMP_INTR = 0x10
const EBUSY = 16

beforeEach(() => reported.splice(0))

describe('a batch', () => {
  test('is sent in order, 64 messages at a time, of which only the last is acknowledged', async () => {
    const requests = await client((messages, reply) => reply(answerTo(last(messages), ACKNOWLEDGEMENT)))
    const items = Array.from({ length: 150 }, (_, index) => 100 + index)
    expect(await requests.batch(items, format)).toEqual([])
    expect(socket.sends.map((messages) => messages.length)).toEqual([64, 64, 22])
    expect(socket.sends.flat().map(({ type }) => type)).toEqual(items)
    for (const messages of socket.sends) {
      expect(messages.map(({ flags }) => flags)).toEqual(messages.map((m) => (m === last(messages) ? 5 : 1)))
    }
    expect(new Set(socket.sends.flat().map(({ sequence }) => sequence)).size).toBe(150)
  })

  test('returns exactly the refused messages, including the last one', async () => {
    const requests = await client((messages, reply) =>
      reply(
        Buffer.concat(
          messages.filter(({ type }) => type % 10 === 3).map((m) => answerTo(m, ERROR_WITH_TEXT)),
        ),
        ...(last(messages).type % 10 === 3 ? [] : [answerTo(last(messages), ACKNOWLEDGEMENT)]),
      ),
    )
    const failures = await requests.batch([11, 12, 13, 14, 23], format)
    expect(failures.map(({ item }) => item)).toEqual([13, 23])
    expect(failures[0]?.error.message).toBe(
      'cannot do 13: Invalid flags for nexthop - PERVASIVE and ONLINK can not be set (EINVAL)',
    )
  })

  test('without items sends nothing', async () => {
    const requests = await client(() => undefined)
    expect(await requests.batch([], format)).toEqual([])
    expect(socket.sends).toEqual([])
  })

  test('fails at its deadline, and a late answer does not count for the next batch', async () => {
    let mute: Sent | undefined
    const requests = await client((messages, reply) => {
      if (mute === undefined) mute = last(messages)
      else reply(errnoTo(mute, 1), answerTo(last(messages), ACKNOWLEDGEMENT))
    }, 20)
    await expect(requests.batch([1], format)).rejects.toMatchObject({ code: 'netlink-timeout' })
    expect(await requests.batch([2], format)).toEqual([])
  })

  test('answers that are there at once keep nobody else from the event loop', async () => {
    const requests = await client((messages, reply) => reply(answerTo(last(messages), ACKNOWLEDGEMENT)))
    const controller = new AbortController()
    let changes = 0
    const many = async (): Promise<void> => {
      for (; changes < 1000; changes += 1) await requests.change(changes, format, controller.signal)
    }
    const running = many()
    setImmediate(() => controller.abort(new Error('enough')))
    await expect(running).rejects.toThrow('enough')
    expect(changes).toBeGreaterThan(0)
    expect(changes).toBeLessThan(10)
  })

  test('ends with its signal, after the current send', async () => {
    const controller = new AbortController()
    const requests = await client((messages, reply) => {
      setImmediate(() => {
        controller.abort(new Error('enough'))
        reply(answerTo(last(messages), ACKNOWLEDGEMENT))
      })
    })
    const running = requests.batch(Array(65).fill(1), format, controller.signal)
    const waiting = requests.batch([2], format, controller.signal)
    const ends = await Promise.allSettled([running, waiting])
    expect(ends.map((end) => end.status === 'rejected' && end.reason.message)).toEqual(['enough', 'enough'])
    expect(socket.sends.map((messages) => messages.length)).toEqual([64])
  })

  test('is rejected by malformed answers, errors of the socket and its closing', async () => {
    const requests = await client((messages, reply) => {
      if (last(messages).type === 1) reply(Buffer.alloc(7))
      if (last(messages).type === 2) setImmediate(() => handlers.onError(new Error('broken')))
    })
    await expect(requests.batch([1], format)).rejects.toMatchObject({ code: 'netlink-malformed' })
    await expect(requests.batch([2], format)).rejects.toThrow('broken')
    const running = requests.batch([3], format)
    setImmediate(() => requests.close())
    await expect(running).rejects.toMatchObject({
      code: 'netlink-closed',
      message: expect.stringContaining('do 3'),
    })
    expect(socket.closed).toBe(true)
  })

  test('an error of an idle socket is reported', async () => {
    await client(() => undefined)
    handlers.onError(new Error('broken'))
    expect(reported.map(({ message }) => message)).toEqual(['broken'])
  })
})

describe('a message with a secret', () => {
  const SECRET = 'the secret'
  /** What the writer's memory has when a message begins. */
  const memory: string[] = []
  const secret: RequestFormat<number> = {
    ...format,
    isSecret: true,
    encode(writer, item) {
      memory.push(Buffer.from(writer.view.buffer).toString('latin1'))
      writer.begin(item, 1)
      writer.text(writer.reserve(SECRET.length), SECRET)
      writer.finish()
    },
  }
  const isOverwritten = (datagram: Buffer | undefined) => datagram?.every((byte) => byte === 0)

  beforeEach(() => memory.splice(0))

  test('is overwritten once the kernel has answered, and not before', async () => {
    let sent: Buffer | undefined
    const requests = await client((messages, reply) => {
      sent = Buffer.from(socket.datagrams.at(-1) ?? [])
      reply(answerTo(last(messages), ACKNOWLEDGEMENT))
    })
    await requests.change(1, secret)
    expect(sent?.includes(SECRET)).toBe(true)
    expect(isOverwritten(socket.datagrams[0])).toBe(true)
    await requests.change(2, secret)
    expect(memory.map((content) => content.includes(SECRET))).toEqual([false, false])
    await requests.change(3, format)
    expect(isOverwritten(socket.datagrams[2])).toBe(false)
  })

  test('is overwritten when the kernel refuses, and when it does not answer', async () => {
    const requests = await client((messages, reply) => {
      if (last(messages).type === 1) reply(errnoTo(last(messages), 1))
    }, 20)
    await expect(requests.change(1, secret)).rejects.toMatchObject({ code: 'netlink-refused' })
    await expect(requests.change(2, secret)).rejects.toMatchObject({ code: 'netlink-timeout' })
    expect(socket.datagrams.map(isOverwritten)).toEqual([true, true])
  })
})

describe('a transaction', () => {
  const frame = {
    begin: (writer: MessageWriter) => format.encode(writer, 16),
    end: (writer: MessageWriter) => format.encode(writer, 17),
    what: 'do it all',
  }

  test('is one send with begin and end, of which the message before the end is acknowledged', async () => {
    const requests = await client((messages, reply) => {
      const asked = messages.find(({ flags }) => flags === 5)
      if (asked !== undefined) reply(answerTo(asked, ACKNOWLEDGEMENT))
    })
    await requests.transaction([1, 2], format, frame)
    expect(socket.sends.map((messages) => messages.map(({ type }) => type))).toEqual([[16, 1, 2, 17]])
  })

  test.each<[string, (messages: Sent[]) => Sent | undefined, string]>([
    ['one of its messages', (messages) => messages[1], 'do 1'],
    ['the last', (messages) => messages[2], 'do 2'],
    ['all of it', (messages) => messages[0], 'do it all'],
  ])('of which the kernel refuses %s fails with a matching text', async (_, refused, words) => {
    const requests = await client((messages, reply) => {
      const [, , final] = messages
      const message = refused(messages)
      if (message === undefined || final === undefined) return
      reply(
        answerTo(message, ERROR_WITH_TEXT),
        ...(message === final ? [] : [answerTo(final, ACKNOWLEDGEMENT)]),
      )
    })
    await expect(requests.transaction([1, 2], format, frame)).rejects.toThrow(`cannot ${words}: `)
  })
})

describe('a dump', () => {
  test('collects all parts up to its end, and ignores answers to other requests', async () => {
    const requests = await client((messages, reply) => {
      const message = last(messages)
      const part = answerTo(message, NEXTHOP)
      reply(
        answerTo({ ...message, sequence: 999 }, DONE),
        Buffer.concat([part, part]),
        part,
        answerTo(message, DONE),
      )
    })
    expect(await requests.dump(question)).toEqual([2, 2, 2])
    expect(last(socket.sends.flat()).flags).toBe(0x301)
  })

  test('is repeated if the tables changed meanwhile, or if another dump is under way', async () => {
    let attempts = 0
    const requests = await client((messages, reply) => {
      attempts++
      const message = last(messages)
      if (attempts === 1) reply(answerTo(message, NEXTHOP, DUMP_INTR), answerTo(message, DONE))
      else if (attempts === 2) reply(errnoTo(message, EBUSY))
      else reply(answerTo(message, NEXTHOP), answerTo(message, DONE))
    })
    expect(await requests.dump(question)).toEqual([2])
    expect(attempts).toBe(3)
  })

  test('is repeated a bounded number of times', async () => {
    const requests = await client((messages, reply) => reply(answerTo(last(messages), DONE, DUMP_INTR)))
    await expect(requests.dump(question)).rejects.toMatchObject({ code: 'netlink-dump-interrupted' })
    expect(socket.sends.length).toBe(3)
  })

  test('fails with the errno at its end, or of its refusal', async () => {
    const failed = Buffer.from(DONE)
    failed.writeInt32LE(-19, 16)
    const requests = await client((messages, reply) =>
      reply(socket.sends.length === 1 ? answerTo(last(messages), failed) : errnoTo(last(messages), 95)),
    )
    await expect(requests.dump(question)).rejects.toMatchObject({ errnoName: 'ENODEV' })
    await expect(requests.dump(question)).rejects.toMatchObject({ errnoName: 'EOPNOTSUPP' })
  })

  test('with unreadable parts is read to its end before it fails', async () => {
    let ended = false
    const requests = await client((messages, reply) => {
      reply(answerTo(last(messages), NEXTHOP))
      setImmediate(() => {
        ended = true
        reply(answerTo(last(messages), DONE))
      })
    })
    const unreadable = { ...question, decode: () => JSON.parse('{') }
    await expect(requests.dump(unreadable)).rejects.toThrow(SyntaxError)
    expect(ended).toBe(true)
  })

  test('waits until the dump before has ended', async () => {
    let under = 0
    const requests = await client((messages, reply) => {
      expect(++under).toBe(1)
      setImmediate(() => {
        under--
        reply(answerTo(last(messages), DONE))
      })
    })
    await Promise.all([requests.dump(question), requests.dump(question), requests.dump(question)])
    expect(socket.sends.length).toBe(3)
  })
})

describe('a request for one object', () => {
  test('returns the answer that comes before the acknowledgement', async () => {
    const requests = await client((messages, reply) =>
      reply(answerTo(last(messages), NEXTHOP), answerTo(last(messages), ACKNOWLEDGEMENT)),
    )
    expect(await requests.get(question)).toBe(2)
  })

  test('fails with the errno of the kernel', async () => {
    const requests = await client((messages, reply) => reply(errnoTo(last(messages), 19)))
    await expect(requests.get(question)).rejects.toMatchObject({
      errnoName: 'ENODEV',
      attempted: 'list things',
    })
  })
})
