/**
 * Holds each device for one daemon, whatever the prefixes, directories, users and versions of Node.js of
 * others.
 */
import { OverlayError } from '../model/errors'
import { bindAbstract, listensAbstract } from '../native/abstract-socket'
import { OwnedTables } from './nftables/owned-tables'

/** The name of the program in the command line of an older version, which locks by an abstract socket. */
const PROGRAM = 'overlayd'

export class DeviceLocks {
  readonly #held = new Set<string>()
  #tables: Promise<OwnedTables> | undefined

  /**
   * Locks a device for this process, until it ends. The lock is a name in the network namespace that only a
   * process with the right to change the network can take, and that the kernel frees with the process. A
   * kernel without such names is served by an abstract socket alone. Taking a device again has no effect.
   * @param name of the device
   * @throws {OverlayError} `already-running`
   */
  async take(name: string): Promise<void> {
    if (this.#held.has(name)) return
    this.#tables ??= OwnedTables.open()
    const taking = await (await this.#tables).take(`overlayd-lock-${name}`)
    if (taking === 'held') throw alreadyRunning(name)
    // An older version holds this socket, and has to find it bound. A socket of any other program does not
    // count.
    const isFree = bindAbstract(`overlayd/${name}`)
    if (!isFree && (taking === 'unsupported' || listensAbstract(`overlayd/${name}`, PROGRAM)))
      throw alreadyRunning(name)
    this.#held.add(name)
  }
}

const alreadyRunning = (name: string): OverlayError =>
  new OverlayError(
    'already-running',
    `another overlayd looks after ${name}`,
    'stop it, or give this network another Backend.VNI in its config',
  )
