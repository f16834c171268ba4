/** Captures frames on an interface by tcpdump, to read what is in them. To count them, see datagrams.ts. */
import { existsSync, mkdtempSync, readFileSync, rmSync } from 'node:fs'
import { join } from 'node:path'
import { inNamespace } from './namespace'
import { LongProcess } from './process'

/** Sizes of the headers of a file and of a frame (https://www.tcpdump.org/manpages/pcap-savefile.5.html). */
const FILE_HEADER = 24
const FRAME_HEADER = 16
/** Offset of a frame's captured length in its header. */
const LENGTH_OFFSET = 8

export class Capture {
  readonly #directory = mkdtempSync('/run/capture-')
  readonly #file = join(this.#directory, 'frames.pcap')
  readonly #process: LongProcess

  /**
   * Starts it and waits until it captures.
   * @param filter in tcpdump's language, such as `udp port 8472`; all frames without one
   */
  static async start(namespace: string, device: string, filter = ''): Promise<Capture> {
    const capture = new Capture(namespace, device, filter)
    try {
      await capture.#process.waitForOutput(/listening on/)
      return capture
    } catch (error) {
      await capture.stop()
      throw error
    }
  }

  private constructor(namespace: string, device: string, filter: string) {
    // As root, because tcpdump's own user may not exist. With -U, tcpdump writes each frame at once, and with
    // --immediate-mode the kernel gives it each frame at once.
    const options = ['-Z', 'root', '-U', '--immediate-mode', '-i', device, '-w', this.#file]
    const command = inNamespace(namespace, ['tcpdump', ...options, filter])
    this.#process = new LongProcess(`tcpdump on ${device} of ${namespace}`, command)
  }

  /** Ends it. @returns the frames, from their link layer's header on */
  async stop(): Promise<readonly Buffer[]> {
    try {
      await this.#process.stop('SIGINT')
      return existsSync(this.#file) ? framesOf(readFileSync(this.#file)) : []
    } finally {
      rmSync(this.#directory, { recursive: true, force: true })
    }
  }
}

/** @throws {RangeError} for a file that ends within a frame's header */
function framesOf(file: Buffer): Buffer[] {
  const frames: Buffer[] = []
  for (let at = FILE_HEADER; at < file.length; ) {
    const end = at + FRAME_HEADER + file.readUInt32LE(at + LENGTH_OFFSET)
    frames.push(file.subarray(at + FRAME_HEADER, end))
    at = end
  }
  return frames
}
