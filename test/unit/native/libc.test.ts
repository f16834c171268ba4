import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { NotifySocket } from '../../lab/notify-socket'

test('the C library is opened once for all modules, on the first use', () => {
  const directory = mkdtempSync(join(tmpdir(), 'overlayd-libc-'))
  const systemd = new NotifySocket(join(directory, 'notify'))
  try {
    jest.isolateModules(() => {
      const load = jest.spyOn(require('koffi') as { load: () => unknown }, 'load')
      const { notifySystemd } = require('../../../src/host/sd-notify')
      const { bindAbstract, listensAbstract } = require('../../../src/native/abstract-socket')
      const { socketOptions } = require('../../../src/kernel/netlink/socket-options')
      expect(load).not.toHaveBeenCalled()
      for (let beat = 0; beat < 3; beat++) expect(notifySystemd(['WATCHDOG=1'], systemd.path)).toBe(true)
      const name = `overlayd-test-${process.pid}`
      expect(bindAbstract(name)).toBe(true)
      expect(bindAbstract(name)).toBe(false)
      expect(listensAbstract(name, 'node')).toBe(false)
      // Not a valid file descriptor.
      expect(socketOptions().get(-1, 1, 8)).toBeUndefined()
      expect(load).toHaveBeenCalledTimes(1)
    })
    expect(systemd.received()).toEqual(['WATCHDOG=1', 'WATCHDOG=1', 'WATCHDOG=1'])
  } finally {
    systemd.close()
    rmSync(directory, { recursive: true })
  }
})
