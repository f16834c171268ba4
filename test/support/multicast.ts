/** Containers that send to multicast groups, and containers that join groups and record what they receive. */
import { join } from 'node:path'
import type { Container, Host } from '../lab/host'
import { DUAL_STACK_CONFIG } from '../lab/lab'
import { execOk, inNamespace } from '../lab/namespace'
import { type Command, LongProcess, run } from '../lab/process'
import { Pending, waitFor } from '../lab/wait'

const MEMBER: Command = [process.execPath, join(__dirname, 'multicast-member.js')]

/** The VNI for multicast of a network with VNI 1: its highest bit inverted. */
export const VNI = 1 ^ 0x800000
/** The multicast device of a network with VNI 1. */
export const DEVICE = 'fl-mc.1'

/** A dual-stack config with these additional fields of `Backend`. */
export const multicastConfig = (backend: object = {}): string => {
  const { Backend, ...rest } = JSON.parse(DUAL_STACK_CONFIG)
  return JSON.stringify({ ...rest, Backend: { ...Backend, ...backend } })
}

/** Which objects for multicast exist on a host. `router` is the bridge's mcast_router value. */
export async function residue(host: Host) {
  return {
    device: (await run(inNamespace(host.namespace, ['ip', 'link', 'show', 'dev', DEVICE]))).code === 0,
    table: (await host.exec('nft', 'list', 'tables', 'netdev')).includes(`netdev ${DEVICE}`),
    router: Number(
      /mcast_router (\d)/.exec(await host.exec('ip', '-d', 'link', 'show', 'dev', 'docker0'))?.[1],
    ),
    qdisc: (await host.exec('tc', 'qdisc', 'show', 'dev', 'docker0')).includes('clsact'),
  }
}

/** The source address of a container's packets to a group. */
export async function sourceOf(
  { namespace, address, address6 = '' }: Container,
  group: string,
): Promise<string> {
  if (!group.includes(':')) return address
  if (!group.startsWith('ff02')) return address6
  const shown = await execOk(namespace, ['ip', '-6', '-o', 'address', 'show', 'dev', 'eth0', 'scope', 'link'])
  return /inet6 (fe80[^/]+)/.exec(shown)?.[1] ?? ''
}

/**
 * Sends packets `<text>-0`, `<text>-1`, ... to a group, `intervalMs` apart, and a last packet `<text>-end`.
 */
export async function sendTo(
  group: string,
  from: Container,
  text: string,
  { count = 20, intervalMs = 0 } = {},
): Promise<void> {
  await execOk(from.namespace, [...MEMBER, 'send', '5000', group, `${count}`, text, `${intervalMs}`])
}

/** A container that has joined groups. */
export class Listener {
  private constructor(
    readonly container: Container,
    private readonly process: LongProcess,
  ) {}

  static async start(container: Container, groups: readonly string[], port = 5000): Promise<Listener> {
    const command = inNamespace(container.namespace, [...MEMBER, 'join', `${port}`, ...groups])
    const process = new LongProcess(`the listener in ${container.name}`, command)
    await process.waitForOutput(/^joined$/m)
    return new Listener(container, process)
  }

  /** Received packets so far: `GROUP SOURCE TEXT`. */
  get received(): readonly string[] {
    return this.process.output.trimEnd().split('\n').slice(1)
  }

  /**
   * Waits for the packet `<text>-end`. Packets are not reordered, so no earlier packet or duplicate can
   * arrive after it.
   */
  async waitForEnd(text: string, timeoutMs = 5000): Promise<void> {
    await waitFor(
      `${this.container.name} to receive ${text}-end`,
      () =>
        this.received.some((line) => line.endsWith(` ${text}-end`)) ||
        new Pending(`${this.received.length} packets`),
      { timeoutMs },
    )
  }

  /** How often each packet of that text was received: `GROUP SOURCE TEXT` -> count. */
  countOf(text: string): Record<string, number> {
    const counts: Record<string, number> = {}
    for (const line of this.received) {
      if (line.includes(` ${text}-`)) counts[line] = (counts[line] ?? 0) + 1
    }
    return counts
  }

  async stop(): Promise<void> {
    await this.process.stop('SIGKILL')
  }
}

/** The result of {@link Listener.countOf} if each packet of {@link sendTo} was received exactly once. */
export const onceEach = (group: string, source: string, text: string, count = 20): Record<string, number> =>
  Object.fromEntries(
    [...Array(count).keys(), 'end'].map((number) => [`${group} ${source} ${text}-${number}`, 1]),
  )
