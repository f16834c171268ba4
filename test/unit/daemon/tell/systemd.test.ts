import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import type { Logger } from '../../../../src/daemon/tell/logger'
import { Systemd } from '../../../../src/daemon/tell/systemd'
import { NotifySocket } from '../../../lab/notify-socket'

const VARIABLES = ['NOTIFY_SOCKET', 'WATCHDOG_USEC'] as const

let directory: string
let socket: NotifySocket
let errors: string[]
let worded: number
let line: string

beforeEach(() => {
  directory = mkdtempSync(join(tmpdir(), 'overlayd-notify-'))
  socket = new NotifySocket(join(directory, 'notify'))
  process.env['NOTIFY_SOCKET'] = socket.path
  errors = []
  worded = 0
  line = 'starting'
  jest.useFakeTimers()
})

afterEach(() => {
  jest.useRealTimers()
  for (const name of VARIABLES) delete process.env[name]
  socket.close()
  rmSync(directory, { recursive: true })
})

function systemd(): Systemd {
  const log = { error: (text: string) => errors.push(text) } as unknown as Logger
  const summary = () => {
    worded += 1
    return line
  }
  return new Systemd(summary, log)
}

test('the first status line is sent at once, and of those that follow closely the last one, once', () => {
  const notifier = systemd()
  notifier.changed()
  expect(socket.received()).toEqual(['STATUS=starting'])
  for (let peers = 1; peers <= 100; peers += 1) {
    line = `${peers} peers`
    notifier.alive()
  }
  expect(socket.received()).toEqual(['STATUS=starting'])
  jest.advanceTimersByTime(200)
  expect(socket.received()).toEqual(['STATUS=starting', 'STATUS=100 peers'])
  expect(worded).toBe(2)
  jest.advanceTimersByTime(10_000)
  notifier.changed()
  expect(socket.received()).toHaveLength(2)
})

test('READY=1 waits for nothing, and has the status line that was due', () => {
  const notifier = systemd()
  notifier.changed()
  line = '3 peers, healthy'
  notifier.changed()
  notifier.ready()
  expect(socket.received()).toEqual(['STATUS=starting', 'READY=1', 'STATUS=3 peers, healthy'])
  jest.advanceTimersByTime(10_000)
  expect(socket.received()).toHaveLength(3)
})

test('the watchdog gets its sign of life where systemd expects one, and only after one was given', () => {
  process.env['WATCHDOG_USEC'] = '3000000'
  const notifier = systemd()
  expect(notifier.beat).toBe(1000)
  notifier.alive()
  expect(socket.received()).toEqual(['WATCHDOG=1', 'STATUS=starting'])
  notifier.changed()
  jest.advanceTimersByTime(200)
  expect(socket.received()).toHaveLength(2)
  notifier.alive()
  notifier.alive()
  jest.advanceTimersByTime(200)
  expect(socket.received().slice(2)).toEqual(['WATCHDOG=1'])
})

test('a socket that accepts nothing is logged, and tried again with the next news', () => {
  const notifier = systemd()
  socket.close()
  notifier.changed()
  expect(errors).toHaveLength(1)
  socket = new NotifySocket(socket.path)
  line = 'healthy'
  notifier.changed()
  jest.advanceTimersByTime(200)
  expect(socket.received()).toEqual(['STATUS=healthy'])
  expect(errors).toHaveLength(1)
})
