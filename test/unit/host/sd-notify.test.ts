import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { notifySystemd } from '../../../src/host/sd-notify'
import { NotifySocket } from '../../lab/notify-socket'

test('foreign text cannot add a state, or make a datagram that systemd drops', () => {
  const directory = mkdtempSync(join(tmpdir(), 'overlayd-notify-'))
  const socket = new NotifySocket(join(directory, 'notify'))
  try {
    const status = `STATUS=key a\nMAINPID=1\u202e\u001b[2J ${'京'.repeat(5000)}`
    expect(notifySystemd(['READY=1', status], socket.path)).toBe(true)
    const received = socket.received()
    expect(received).toHaveLength(2)
    expect(received[0]).toBe('READY=1')
    expect(received[1]).toMatch(/^STATUS=key a\\x0aMAINPID=1\\u202e\\x1b\[2J 京+$/)
    expect(Buffer.byteLength(received.join('\n'))).toBeLessThan(4096)
  } finally {
    socket.close()
    rmSync(directory, { recursive: true })
  }
})
