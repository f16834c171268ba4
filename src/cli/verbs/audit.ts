/** `overlayctl audit`: lists the writes of operators. */

import { type AuditDocument, auditDocumentSchema } from '../../api/documents'
import { DOCUMENT_SCHEMA } from '../../api/words'
import type { AuditEntry } from '../../etcd/audit'
import { count } from '../../model/count'
import { printable, printableData } from '../../model/printable'
import type { Options } from '../../options/schema'
import { UsageError } from '../../options/usage-error'
import { withRegistry } from '../ask/with-registry'
import { type Output, printDocument, printSchema } from '../show/output'
import { type Column, hang, renderTable, type Screen, screenOf } from '../show/screen'

export interface AuditFlags {
  readonly output: Output
  /** How many records are shown; 0 for all. */
  readonly last: number
}

export const printAuditSchema = (): Promise<void> =>
  printSchema(auditDocumentSchema, 'overlayctl audit -o json')

/** @throws {EtcdError}; {UsageError} for a number that cannot be */
export async function runAudit(options: Options, { output, last }: AuditFlags): Promise<void> {
  if (!Number.isSafeInteger(last) || last < 0)
    throw new UsageError(`the flag --last is ${last}: expected a whole number from 0`)
  const entries = await withRegistry(options, (registry, signal) => registry.audit.list(signal))
  const document = auditDocument(last === 0 ? entries : entries.slice(0, last))
  const more = entries.length - document.records.length - document.unreadable.length
  printDocument(document, output, (wide) => renderAudit(document, more, screenOf(), wide))
}

export function auditDocument(entries: readonly AuditEntry[]): AuditDocument {
  const document: AuditDocument = { schema: DOCUMENT_SCHEMA, records: [], unreadable: [] }
  for (const { number, record } of entries) {
    if (record.reason !== undefined) document.unreadable.push({ number, reason: record.reason })
    else {
      const { time, who, verb, what } = record.value
      document.records.push({ number, time: time.toISOString(), ...who, verb, what })
    }
  }
  return document
}

type AuditRow = AuditDocument['records'][number]

const COLUMNS: readonly Column<AuditRow>[] = [
  { title: 'NO', cell: ({ number }) => String(number), spare: true },
  { title: 'TIME', cell: ({ time }) => time },
  {
    title: 'WHO',
    cell: ({ etcdUser, user, host }) => `${etcdUser === undefined ? '' : `${etcdUser}, `}${user}@${host}`,
  },
  { title: 'COMMAND', cell: ({ verb }) => verb },
  { title: 'WHAT', cell: ({ what }) => what },
]

/** @param more how many records are not shown */
export function renderAudit(
  { records, unreadable }: AuditDocument,
  more: number,
  screen: Screen,
  wide: boolean,
): string {
  const width = wide ? Number.POSITIVE_INFINITY : screen.width
  const notes = [
    ...unreadable.map(({ number, reason }) => `record ${number} cannot be read: ${printable(reason)}`),
    ...(more > 0 ? [`${count(more, 'older record')}: overlayctl audit --last=0`] : []),
  ]
  const table =
    records.length === 0
      ? ['no operator has written anything']
      : renderTable(COLUMNS, printableData([...records]), { ...screen, width, wide })
  return [...table, ...notes.flatMap((note) => hang('', note, width, 0)), ''].join('\n')
}
