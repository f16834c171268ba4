/**
 * Counts UDP datagrams that pass an interface, to prove which way packets take: in clear by VXLAN, or by
 * WireGuard. nftables counts them at the device itself, so also those that no socket takes and those that a
 * rule drops later. A packet that the kernel cuts into several after the device's queue counts once.
 */
import { execOk } from './namespace'

/** Default port of VXLAN in Linux (drivers/net/vxlan/vxlan_core.c), which flannel uses. */
export const VXLAN_PORT = 8472

/** How many datagrams to one port passed. */
export interface Datagrams {
  readonly in: number
  readonly out: number
}

/** The directions, by their hooks of the netdev family. The egress hook exists since Linux 5.16. */
const HOOKS = { in: 'ingress', out: 'egress' } as const

type Direction = keyof typeof HOOKS
const DIRECTIONS = Object.keys(HOOKS) as readonly Direction[]

interface Counter {
  readonly name: string
  readonly packets: number
}

export class DatagramCounter {
  readonly #table: string

  /**
   * Begins to count in a namespace.
   * @param ports destination ports
   */
  static async start(namespace: string, device: string, ports: readonly number[]): Promise<DatagramCounter> {
    const counter = new DatagramCounter(namespace, device, ports)
    await counter.reset()
    return counter
  }

  private constructor(
    private readonly namespace: string,
    private readonly device: string,
    private readonly ports: readonly number[],
  ) {
    this.#table = `netdev datagrams-${device}`
  }

  /** Sets all counts to 0. */
  async reset(): Promise<void> {
    const counters = DIRECTIONS.flatMap((direction) =>
      this.ports.map((port) => `counter ${nameOf(direction, port)} {}`),
    )
    const chains = DIRECTIONS.map((direction) =>
      [
        `chain ${direction} {`,
        `type filter hook ${HOOKS[direction]} device "${this.device}" priority -500;`,
        ...this.ports.map((port) => `udp dport ${port} counter name ${nameOf(direction, port)}`),
        '}',
      ].join('\n'),
    )
    const table = ['{', ...counters, ...chains, '}'].join('\n')
    // The first line makes the second succeed when there is no table yet.
    await this.#nft(`table ${this.#table}\ndelete table ${this.#table}\ntable ${this.#table} ${table}\n`)
  }

  /** The counts since the start or the last {@link reset}. @throws {Error} for a port that is not counted */
  async read(port: number): Promise<Datagrams> {
    const text = await execOk(this.namespace, ['nft', '-j', 'list', 'table', ...this.#tableWords])
    const { nftables } = JSON.parse(text) as { readonly nftables: readonly { readonly counter?: Counter }[] }
    const packets = (direction: Direction): number => {
      const found = nftables.find(({ counter }) => counter?.name === nameOf(direction, port))?.counter
      if (found === undefined) throw new Error(`datagrams to port ${port} are not counted on ${this.device}`)
      return found.packets
    }
    return { in: packets('in'), out: packets('out') }
  }

  async stop(): Promise<void> {
    await this.#nft(`delete table ${this.#table}\n`)
  }

  get #tableWords(): readonly [string, string] {
    const [family = '', name = ''] = this.#table.split(' ')
    return [family, name]
  }

  async #nft(script: string): Promise<void> {
    await execOk(this.namespace, ['nft', '-f', '-'], { input: script })
  }
}

const nameOf = (direction: Direction, port: number): string => `${direction}-${port}`
