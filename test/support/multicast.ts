/** Containers that send to groups and listen to them, and what of them arrives. */
import { join } from 'node:path'
import type { Container, Host } from './host'
import { DUAL_STACK_CONFIG } from './lab'
import { execOk, inNamespace } from './namespace'
import { type Command, LongProcess, run } from './process'
import { Pending, waitFor } from './wait'

const MEMBER: Command = [process.execPath, join(__dirname, 'multicast-member.js')]

/** The VNI of multicast in a network of VNI 1, and its device. */
export const VNI = 1 ^ 0x800000
export const DEVICE = 'fl-mc.1'

/** A dual-stack config, with more for its backend. */
export const multicastConfig = (backend: object = {}): string => {
  const { Backend, ...rest } = JSON.parse(DUAL_STACK_CONFIG)
  return JSON.stringify({ ...rest, Backend: { ...Backend, ...backend } })
}

/** What there is of it on a host. */
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

/** The address a container sends from to a group. */
export async function sourceOf(
  { namespace, address, address6 = '' }: Container,
  group: string,
): Promise<string> {
  if (!group.includes(':')) return address
  if (!group.startsWith('ff02')) return address6
  const shown = await execOk(namespace, ['ip', '-6', '-o', 'address', 'show', 'dev', 'eth0', 'scope', 'link'])
  return /inet6 (fe80[^/]+)/.exec(shown)?.[1] ?? ''
}

/** Sends packets to a group, numbered, so many milliseconds apart, and a last one that says so. */
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

  /** What it has heard so far: `GROUP SOURCE TEXT`. */
  get heard(): readonly string[] {
    return this.process.output.trimEnd().split('\n').slice(1)
  }

  /** Waits for the last packet of that text: all before it, and their duplicates, have come then or never will. */
  async waitForEnd(text: string, timeoutMs = 5000): Promise<void> {
    await waitFor(
      `${this.container.name} to hear the end of ${text}`,
      () =>
        this.heard.some((line) => line.endsWith(` ${text}-end`)) ||
        new Pending(`${this.heard.length} packets`),
      { timeoutMs },
    )
  }

  /** How often each packet of that text was heard, with its group and source. */
  countOf(text: string): Record<string, number> {
    const counts: Record<string, number> = {}
    for (const line of this.heard) {
      if (line.includes(` ${text}-`)) counts[line] = (counts[line] ?? 0) + 1
    }
    return counts
  }

  async stop(): Promise<void> {
    await this.process.stop('SIGKILL')
  }
}

/** What {@link Listener.countOf} has to say of packets that came once each. */
export const onceEach = (group: string, source: string, text: string, count = 20): Record<string, number> =>
  Object.fromEntries(
    [...Array(count).keys(), 'end'].map((number) => [`${group} ${source} ${text}-${number}`, 1]),
  )
