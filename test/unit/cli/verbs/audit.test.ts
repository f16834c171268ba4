import { auditDocumentSchema } from '../../../../src/api/documents'
import { auditDocument, renderAudit } from '../../../../src/cli/verbs/audit'
import type { AuditEntry } from '../../../../src/etcd/audit'

const record = (what: string, etcdUser?: string): AuditEntry['record'] => ({
  value: {
    time: new Date('2026-01-31T12:00:00Z'),
    who: { user: 'alice', host: 'admin1', ...(etcdUser !== undefined && { etcdUser }) },
    verb: 'reserve',
    what,
    id: '0123456789abcdef',
  },
})
const ENTRIES: AuditEntry[] = [
  { number: 3, record: record('10.5.3.0/24\u001b[2J', 'root') },
  { number: 2, record: { reason: 'the value is not JSON' } },
  { number: 1, record: record('10.5.1.0/24') },
]
const SCREEN = { width: 100, colour: false }

test('the document has readable and unreadable records, the newest first', () => {
  const document = auditDocumentSchema.parse(auditDocument(ENTRIES))
  expect(document.records.map(({ number, etcdUser }) => [number, etcdUser])).toEqual([
    [3, 'root'],
    [1, undefined],
  ])
  expect(document.unreadable).toEqual([{ number: 2, reason: 'the value is not JSON' }])
})

test('the table says who, what and when, and lets no text control the terminal', () => {
  expect(renderAudit(auditDocument(ENTRIES), 7, SCREEN, false).split('\n')).toEqual([
    'NO  TIME                      WHO                 COMMAND  WHAT',
    '3   2026-01-31T12:00:00.000Z  root, alice@admin1  reserve  10.5.3.0/24\\x1b[2J',
    '1   2026-01-31T12:00:00.000Z  alice@admin1        reserve  10.5.1.0/24',
    'record 2 cannot be read: the value is not JSON',
    '7 older records: overlayctl audit --last=0',
    '',
  ])
  expect(renderAudit(auditDocument([]), 0, SCREEN, false)).toBe('no operator has written anything\n')
})
