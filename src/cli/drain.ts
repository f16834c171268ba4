/** `overlayctl drain`: has the daemon give this host's lease back, so that all others let go of its subnet, and keeps it from taking it again. */
import type { z } from 'zod'
import { type drainRequestSchema, refusalSchema } from '../daemon/control-socket'
import type { Options } from '../daemon/options'
import type { Status } from '../daemon/status'
import { Kernel } from '../kernel/kernel'
import { familyOf, type Prefix, parseIpv4Prefix, parseIpv6Prefix } from '../model/address'
import { OverlayError } from '../model/errors'
import { type BridgeUse, bridgesOf, useOf } from '../plan/usage'
import { confirm } from './confirm'
import { askDaemon, parseAnswer, readText } from './daemon-socket'
import { awaitChange, readDaemonStatus, type Seen } from './daemon-status'
import { EXIT } from './exit'
import { renderDrainPreview, subnetsText } from './render-drain'
import { screenOf } from './screen'

export interface DrainFlags {
  /** Takes the lease again. */
  readonly undo: boolean
  /** Only shows who uses the subnet. */
  readonly dryRun: boolean
  readonly yes: boolean
}

/** Milliseconds that the daemon has to answer: etcd has ten seconds of them. */
const DEADLINE = 15_000
/** Milliseconds to wait for the lease to be taken again. */
const UNDO_DEADLINE = 10_000

/**
 * Drains this host, or takes that back; answers the exit code.
 * @throws {OverlayError} `daemon-down`, `not-confirmed`, what the daemon refuses with
 */
export async function runDrain(options: Options, { undo, dryRun, yes }: DrainFlags): Promise<number> {
  const runDirectory = options['run-dir']
  const status = await readDaemonStatus(runDirectory, true)
  if (status === undefined) throw daemonDown(runDirectory)
  if (undo) return takeAgain(runDirectory, status)
  const { lease } = status
  if (lease?.state === 'drained') {
    process.stdout.write(`drained already, since ${lease.since ?? 'before'}\n`)
    return EXIT.healthy
  }
  const use = await readUse(subnetsOf(status)).catch(() => undefined)
  process.stdout.write(renderDrainPreview(status, use, screenOf()))
  if (dryRun) {
    process.stdout.write('nothing was done (--dry-run)\n')
    return EXIT.healthy
  }
  await confirm('Drain this host?', yes)
  await tell(runDirectory, true)
  process.stdout.write(
    `drained: ${subnetsText(status)} is given back; take it again with: overlayctl drain --undo\n`,
  )
  return EXIT.healthy
}

const daemonDown = (runDirectory: string): OverlayError =>
  new OverlayError(
    'daemon-down',
    `overlayd does not run (no answer at ${runDirectory})`,
    'to give the lease of a host that is stopped back: overlayctl teardown --lease',
  )

async function takeAgain(runDirectory: string, before: Status): Promise<number> {
  if (before.lease?.state !== 'drained') {
    process.stdout.write(`not drained: the lease is ${before.lease?.state ?? 'not there'}\n`)
    return before.lease?.state === 'held' ? EXIT.healthy : EXIT.degraded
  }
  await tell(runDirectory, false)
  const lease = await awaitLease(runDirectory)
  if (lease?.state === 'held') {
    process.stdout.write(`${subnetsText(before)} is this host's again\n`)
    return EXIT.healthy
  }
  throw new OverlayError(
    'drain',
    `${subnetsText(before)} is not this host's again: ${lease?.reason ?? lease?.state ?? 'the daemon has ended'}`,
    'overlayctl lease tells more; restarted, overlayd takes another subnet where this one is taken',
  )
}

/** The lease once it is no more being taken, or as it is when time is up. */
async function awaitLease(runDirectory: string): Promise<Status['lease']> {
  const signal = AbortSignal.timeout(UNDO_DEADLINE)
  let seen: Seen | undefined
  try {
    do seen = await awaitChange(runDirectory, true, seen, signal)
    while (seen?.status.lease?.state === 'lost' || seen?.status.lease?.state === 'drained')
  } catch (error) {
    if (!signal.aborted) throw error
  }
  return seen?.status.lease
}

async function tell(runDirectory: string, drained: boolean): Promise<void> {
  const body: z.infer<typeof drainRequestSchema> = { schema: 1, drained }
  const response = await askDaemon(runDirectory, '/drain', {
    method: 'POST',
    body,
    deadline: DEADLINE,
    answers: [409],
  })
  if (response === undefined) throw daemonDown(runDirectory)
  const text = await readText(response)
  if (response.statusCode === 200) return
  const { code, message, fix } = parseAnswer(runDirectory, text, refusalSchema)
  throw new OverlayError(code, message, fix)
}

function subnetsOf({ lease }: Status): Prefix[] {
  return [parseIpv4Prefix(lease?.subnet ?? ''), parseIpv6Prefix(lease?.ipv6Subnet ?? '')].filter(
    (subnet) => subnet !== undefined,
  )
}

async function readUse(subnets: readonly Prefix[]): Promise<BridgeUse[]> {
  const kernel = await Kernel.open({ report: () => undefined, readOnly: true })
  try {
    const { links, addresses } = await kernel.hostNetwork()
    const uses: BridgeUse[] = []
    for (const bridge of bridgesOf(subnets, links, addresses)) {
      const neighbours = await kernel.neighbours(familyOf(bridge.subnet.address), bridge.link.index)
      uses.push(useOf(bridge, links, neighbours))
    }
    return uses
  } finally {
    kernel.close()
  }
}
