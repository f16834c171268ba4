import type { Status } from '../../api/status'
import { readFurtherSubnets, readSubnets } from '../../api/status-parts'
import { orderDaemon } from '../../client/daemon-socket'
import { awaitChange, readDaemonStatus, type Seen } from '../../client/daemon-status'
import { print } from '../../host/streams'
import type { Prefix } from '../../model/address'
import { commandsFor, networkOfRunDirectory } from '../../model/commands'
import { OverlayError } from '../../model/errors'
import type { Options } from '../../options/schema'
import { ownSubnets } from '../../plan/host/own-subnets'
import { readBridgeUse } from '../ask/bridge-use'
import { EXIT } from '../exit'
import { confirm } from '../show/confirm'
import { renderDrainPreview, subnetsText } from '../show/render-drain'
import { screenOf } from '../show/screen'

export interface DrainFlags {
  /** Takes the lease again. */
  readonly undo: boolean
  /** Only shows who uses the subnet. */
  readonly dryRun: boolean
  readonly yes: boolean
}

/** Milliseconds for the daemon's answer. It gives etcd ten seconds of them. */
const DEADLINE = 15_000
/** Milliseconds to wait until the lease is taken again. */
const UNDO_DEADLINE = 10_000

/**
 * Drains this host, or undoes that.
 * @returns the exit code
 * @throws {OverlayError} `daemon-down`, `not-confirmed`, or the daemon's refusal
 */
export async function runDrain(options: Options, { undo, dryRun, yes }: DrainFlags): Promise<number> {
  const runDirectory = options['run-dir']
  const status = await readDaemonStatus(runDirectory, true)
  if (status === undefined) throw daemonDown(runDirectory)
  if (undo) return takeAgain(runDirectory, status)
  const { lease } = status
  if (lease?.state === 'drained') {
    print(`drained already, since ${lease.since ?? 'before'}\n`)
    return EXIT.healthy
  }
  if (lease === undefined) {
    const why = status.daemon.waiting?.reason ?? status.problems[0] ?? status.daemon.phase
    throw new OverlayError('drain', `this host has no lease to give back: ${why}`, 'see overlayctl status')
  }
  const use = await readBridgeUse(subnetsOf(status)).catch(() => undefined)
  print(renderDrainPreview(status, use, screenOf()))
  if (dryRun) {
    print('nothing was done (--dry-run)\n')
    return EXIT.healthy
  }
  await confirm('Drain this host?', yes)
  await setDrained(runDirectory, true)
  print(
    commandsFor(
      networkOfRunDirectory(runDirectory),
      `drained: ${subnetsText(status)} is given back; take it again with: overlayctl drain --undo\n`,
    ),
  )
  return EXIT.healthy
}

const daemonDown = (runDirectory: string): OverlayError =>
  new OverlayError(
    'daemon-down',
    `overlayd does not run (no answer at ${runDirectory})`,
    'to give back the lease of a host that is stopped: overlayctl teardown --lease',
  )

async function takeAgain(runDirectory: string, before: Status): Promise<number> {
  if (before.lease?.state !== 'drained') {
    print(`not drained: the lease is ${before.lease?.state ?? 'not there'}\n`)
    return before.lease?.state === 'held' ? EXIT.healthy : EXIT.degraded
  }
  await setDrained(runDirectory, false)
  const lease = await awaitLease(runDirectory)
  if (lease?.state === 'held') {
    print(`${subnetsText(before)} is this host's again\n`)
    return EXIT.healthy
  }
  const reason = lease?.reason ?? lease?.state ?? 'the daemon has ended'
  throw new OverlayError(
    'drain',
    `${subnetsText(before)} could not be taken again: ${reason}`,
    'see overlayctl lease; when restarted, overlayd takes another subnet if this one is taken',
  )
}

/** The lease once its state is final, or as it is at the deadline. */
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

async function setDrained(runDirectory: string, drained: boolean): Promise<void> {
  const answer = await orderDaemon(runDirectory, 'drain', { schema: 1, drained }, DEADLINE)
  if (answer === undefined) throw daemonDown(runDirectory)
}

function subnetsOf({ lease }: Status): Prefix[] {
  const { ipv4, ipv6 } = readSubnets(lease)
  const leased = [ipv4, ipv6].filter((subnet) => subnet !== undefined)
  return [...ownSubnets(leased, readFurtherSubnets(lease?.further))]
}
