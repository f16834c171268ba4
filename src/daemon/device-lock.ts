/** One daemon to a device, whatever their prefixes and directories. */
import { createServer, type Server } from 'node:net'
import { OverlayError, systemErrorCode } from '../model/errors'

export class DeviceLocks {
  /** name -> what holds it */
  readonly #held = new Map<string, Server>()

  /**
   * Takes a device for this process, until it ends: an abstract socket belongs to one network namespace, as the device does, and cannot be
   * left behind (unix(7)). Taking it twice is taking it once.
   * @param name the device's
   * @throws {OverlayError} `already-running`
   */
  async take(name: string): Promise<void> {
    if (!this.#held.has(name)) this.#held.set(name, await listen(name))
  }
}

function listen(name: string): Promise<Server> {
  const server = createServer((socket) => socket.destroy())
  return new Promise((resolve, reject) => {
    server.once('error', (error) => {
      if (systemErrorCode(error) !== 'EADDRINUSE') return reject(error)
      reject(
        new OverlayError(
          'already-running',
          `another overlayd looks after ${name}`,
          'stop it, or give this network another Backend.VNI in its config',
          { cause: error },
        ),
      )
    })
    server.listen(`\0overlayd/${name}`, () => resolve(server.unref()))
  })
}
