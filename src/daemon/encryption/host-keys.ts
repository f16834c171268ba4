/** Reads this host's keys, and makes and changes them. A host without encryption does not load this file. */
import { type HostKeys, readHostKeys, writeHostKeys } from '../../host/wireguard-keys'
import { slotOf } from '../../model/lease'
import { PrivateKey } from '../../model/wireguard-secret'
import type { RotationStep } from '../../plan/encryption/rotation'
import type { Logger } from '../tell/logger'

/** Milliseconds that the time of a file may be ahead of the wall clock. */
const CLOCK_SLACK = 2000

/**
 * The keys of the state directory. New ones are made where there are none, where the file is unusable, and
 * where the clock of this host was set back: other hosts refuse handshakes of the former keys then.
 * @throws {OverlayError} `key-file`
 */
export async function openKeys(directory: string, log: Logger): Promise<HostKeys> {
  const found = await readHostKeys(directory)
  const isSetBack = found.kind === 'found' && Date.now() < found.clock - CLOCK_SLACK
  if (found.kind === 'found' && !isSetBack) return found.keys
  const why =
    found.kind === 'refused'
      ? `: ${found.reason}`
      : isSetBack
        ? ': the clock was set back, and other hosts refuse handshakes of the former keys'
        : ''
  const keys: HostKeys = {
    keys: [PrivateKey.generate(), PrivateKey.generate()],
    turn: found.kind === 'found' ? found.keys.turn : 0,
    since: Date.now(),
    isLeaving: false,
  }
  await writeHostKeys(directory, keys)
  log.log(why === '' ? 'info' : 'warn', `encryption: this host has new keys${why}`, {
    kind: 'encryption-key',
  })
  return keys
}

/**
 * Takes a step of a change of keys.
 * @throws {OverlayError} `key-file`; nothing has changed then
 */
export async function changeKeys(
  directory: string,
  before: HostKeys,
  step: RotationStep,
  log: Logger,
): Promise<HostKeys> {
  const after = step.kind === 'move' ? moved(before, step.turn) : retired(before)
  await writeHostKeys(directory, after)
  log.info(
    step.kind === 'move'
      ? 'encryption: other hosts move to the next key of this host'
      : 'encryption: the former key of this host is deleted, and the next one is made',
    { kind: 'encryption-key' },
  )
  return after
}

const moved = ({ keys }: HostKeys, turn: number): HostKeys => ({
  keys,
  turn,
  since: Date.now(),
  isLeaving: true,
})

function retired({ keys: [first, second], ...rest }: HostKeys): HostKeys {
  const next = PrivateKey.generate()
  return { ...rest, keys: slotOf(rest.turn) === 0 ? [first, next] : [next, second], isLeaving: false }
}
