/** `overlayctl announce`, `withdraw` and `prefixes`: what hosts announce besides their subnets. */

import type { PrefixesDocument } from '../../api/documents'
import { MOST_SECONDS } from '../../api/requests'
import { DOCUMENT_SCHEMA } from '../../api/words'
import { daemonIsDown, orderDaemon, readDaemon } from '../../client/daemon-socket'
import { print } from '../../host/streams'
import { commandsFor, networkOfRunDirectory } from '../../model/commands'
import { count } from '../../model/count'
import { MOST_PRIORITY, MOST_WEIGHT } from '../../model/prefixes'
import { printableData } from '../../model/printable'
import type { Options } from '../../options/schema'
import { UsageError } from '../../options/usage-error'
import { EXIT } from '../exit'
import { type Output, printDocument } from '../show/output'
import { type Column, hang, renderTable, type Screen, type Style, screenOf } from '../show/screen'

export interface AnnounceFlags {
  readonly priority: number
  /** As in `90s`, `10m`, `2h`, `1d`; empty for no end. */
  readonly for: string
  /** A link or an address; empty for none. */
  readonly via: string
  /** Whether it shares with other hosts. */
  readonly share: boolean
  /** Its part beside those of others; absent for 1. */
  readonly weight?: number | undefined
}

/** Milliseconds for the daemon's answer. It gives etcd ten seconds of them. */
const DEADLINE = 15_000

const SECONDS = { s: 1, m: 60, h: 3600, d: 86_400 } as const

/** @throws {UsageError} */
export function readSeconds(text: string): number | undefined {
  if (text === '') return undefined
  const [, digits = '', unit = ''] = /^(\d{1,9})([smhd])$/.exec(text) ?? []
  const seconds = Number(digits) * (SECONDS[unit as keyof typeof SECONDS] ?? Number.NaN)
  if (seconds >= 1 && seconds <= MOST_SECONDS) return seconds
  throw new UsageError(
    `the flag --for is "${text}": expected a time as in 90s, 10m, 2h or 1d, at most ten years`,
  )
}

/** The weight with which the host shares; `undefined` where it does not. @throws {UsageError} */
export function readShare({ share, weight }: Pick<AnnounceFlags, 'share' | 'weight'>): number | undefined {
  if (weight === undefined) return share ? 1 : undefined
  if (!share) throw new UsageError('the flag --weight says how much a host shares: give --share too')
  if (Number.isSafeInteger(weight) && weight >= 1 && weight <= MOST_WEIGHT) return weight
  throw new UsageError(`the flag --weight is ${weight}: expected a whole number from 1 to ${MOST_WEIGHT}`)
}

/**
 * @returns the exit code: 1 where it waits for its way on this host
 * @throws {OverlayError} the daemon's refusal; {UsageError}
 */
export async function runAnnounce(options: Options, prefix: string, flags: AnnounceFlags): Promise<number> {
  const { priority, via } = flags
  const forSeconds = readSeconds(flags.for)
  if (!Number.isSafeInteger(priority) || priority < 0 || priority > MOST_PRIORITY)
    throw new UsageError(
      `the flag --priority is ${priority}: expected a whole number from 0 to ${MOST_PRIORITY}`,
    )
  const share = readShare(flags)
  const runDirectory = options['run-dir']
  const body = {
    schema: 1,
    prefix,
    priority,
    ...(forSeconds !== undefined && { forSeconds }),
    ...(via !== '' && { via }),
    ...(share !== undefined && { share }),
  } as const
  const answer = await orderDaemon(runDirectory, 'announce', body, DEADLINE)
  if (answer === undefined) throw daemonIsDown(runDirectory)
  const { announced, waits, unaware } = answer
  if (waits !== undefined) {
    tell(runDirectory, `waits: ${announced}; it is announced as soon as it can: ${waits}`)
    return EXIT.degraded
  }
  tell(runDirectory, `announced: ${announced}; which host gets its packets: overlayctl prefixes`)
  if (via === '') tell(runDirectory, 'packets to it that arrive here follow the routes of this host')
  if (unaware !== undefined) tell(runDirectory, unaware)
  return EXIT.healthy
}

/** @throws {OverlayError} the daemon's refusal */
export async function runWithdraw(options: Options, prefix: string): Promise<void> {
  const runDirectory = options['run-dir']
  const answer = await orderDaemon(runDirectory, 'withdraw', { schema: 1, prefix }, DEADLINE)
  if (answer === undefined) throw daemonIsDown(runDirectory)
  tell(runDirectory, `withdrawn: ${answer.withdrawn}`)
}

function tell(runDirectory: string, text: string): void {
  print(`${commandsFor(networkOfRunDirectory(runDirectory), text)}\n`)
}

/**
 * Lists what hosts announce.
 * @returns the exit code: 1 where a claim is refused or cannot be read
 */
export async function runPrefixes(options: Options, output: Output): Promise<number> {
  const runDirectory = options['run-dir']
  const document = await readDaemon(runDirectory, 'prefixes')
  if (document === undefined) throw daemonIsDown(runDirectory)
  printDocument({ ...document, schema: DOCUMENT_SCHEMA }, output, (wide) =>
    renderPrefixes(document, screenOf(), wide),
  )
  const isAmiss = document.prefixes.some(({ state }) => state === 'refused' || state === 'unreadable')
  return isAmiss || document.problem !== undefined ? EXIT.degraded : EXIT.healthy
}

type Row = PrefixesDocument['prefixes'][number]

const STYLES: Readonly<Record<Row['state'], Style>> = {
  wins: 'green',
  shares: 'green',
  waits: 'yellow',
  refused: 'red',
  unreadable: 'red',
}

const COLUMNS: readonly Column<Row>[] = [
  { title: 'PREFIX', cell: ({ prefix }) => prefix },
  { title: 'HOST', cell: ({ host = '-', own }) => (own ? `${host} (this host)` : host) },
  { title: 'PRIORITY', cell: ({ priority }) => (priority === undefined ? '-' : `${priority}`), spare: true },
  { title: 'UNTIL', cell: ({ until = '-' }) => until, spare: true },
  { title: 'STATE', cell: ({ state }) => state, style: ({ state }) => STYLES[state] },
  {
    title: 'REASON',
    cell: ({ reason, silence }) => [reason, silence].filter((each) => each !== undefined).join('; '),
  },
]

const VIA: Column<Row> = { title: 'VIA', cell: ({ via = '-' }) => via, spare: true }

const WEIGHT: Column<Row> = {
  title: 'WEIGHT',
  cell: ({ share }) => (share === undefined ? '-' : `${share}`),
  spare: true,
}

export function renderPrefixes(document: PrefixesDocument, screen: Screen, wide: boolean): string {
  const { allowed, prefixes, more = 0, problem } = printableData(document)
  const width = wide ? Number.POSITIVE_INFINITY : screen.width
  const hasVia = prefixes.some(({ via }) => via !== undefined)
  const hasShare = prefixes.some(({ share }) => share !== undefined)
  const further = [...(hasShare ? [WEIGHT] : []), ...(hasVia ? [VIA] : [])]
  const columns = COLUMNS.toSpliced(3, 0, ...further)
  const table =
    prefixes.length === 0
      ? ['no host announces a prefix']
      : renderTable(columns, prefixes, { ...screen, width, wide })
  const notes = [
    allowed.length === 0
      ? 'the network config allows none (Prefixes.Allowed)'
      : `allowed by the network config: ${allowed.join(', ')}`,
    ...(more > 0 ? [`${count(more, 'further key')} in etcd: too many to be followed`] : []),
    ...(problem === undefined ? [] : [`NOT in etcd as wanted: ${problem}`]),
  ]
  return [...table, ...notes.flatMap((note) => hang('', note, width, 0)), ''].join('\n')
}
