/**
 * Whatever etcd, the kernel or another host contains: output has no control or format characters except line
 * ends.
 */
import { Writable } from 'node:stream'
import fc from 'fast-check'
import type { RoutesDocument } from '../../../src/api/documents'
import { readPeerQuery } from '../../../src/cli/ask/peer-query'
import { columnsOf } from '../../../src/cli/show/columns'
import { formatDocument } from '../../../src/cli/show/output'
import { renderConfigPreview } from '../../../src/cli/show/render-config'
import { renderReport } from '../../../src/cli/show/render-doctor'
import { renderDrainPreview } from '../../../src/cli/show/render-drain'
import { renderRoutes } from '../../../src/cli/show/render-routes'
import { renderTeardown } from '../../../src/cli/show/render-teardown'
import { renderEvent } from '../../../src/cli/verbs/events'
import { leaseView, peersView, statusView } from '../../../src/cli/verbs/views'
import { EventLog } from '../../../src/daemon/tell/events'
import { createLogger } from '../../../src/daemon/tell/logger'
import { type DoctorReport, reportToJson } from '../../../src/doctor/report'
import { describeError, OverlayError } from '../../../src/model/errors'
import { toJson } from '../../../src/model/printable'
import { patient } from '../../lab/patience'
import { DOWN, DRAINED, DUAL_STACK, MULTICAST, plain, STATUS } from '../cli/fixtures'
import { net } from '../plan/support'
import { runs } from '../support/runs'
import { anyUnicode, UNSHOWABLE } from '../support/text'

const numRuns = runs(30, 2000)
jest.setTimeout(patient(60_000))

/** Fields whose schema allows only a few words, or a time. */
const WORDS = new Set([
  'state',
  'phase',
  'family',
  'mode',
  'kind',
  'severity',
  'verdict',
  'reach',
  'since',
  'time',
])

/** Plain data with every free text replaced by one of the given texts. */
function poisoned<T>(data: T, texts: readonly string[]): T {
  let next = 0
  const visit = (value: unknown, name: string): unknown => {
    if (typeof value === 'string') return WORDS.has(name) ? value : (texts[next++ % texts.length] ?? value)
    if (Array.isArray(value)) return value.map((each) => visit(each, name))
    if (typeof value !== 'object' || value === null) return value
    return Object.fromEntries(Object.entries(value).map(([key, each]) => [key, visit(each, key)]))
  }
  return visit(data, '') as T
}

/** Without `expect`, whose messages take most of the time of these tests. */
function clean(text: string): void {
  const found = UNSHOWABLE.exec(text.replaceAll('\n', ''))
  if (found !== null)
    throw new Error(`U+${found[0].codePointAt(0)?.toString(16)} is in: ${JSON.stringify(text)}`)
}
const inWidth = (text: string, width: number): void =>
  expect(Math.max(...text.split('\n').map(columnsOf))).toBeLessThanOrEqual(width)

const texts = fc.array(anyUnicode, { minLength: 1, maxLength: 12 })
/** @param cost divides the number of runs of a property whose run takes long */
const holds = (name: string, property: (texts: readonly string[]) => void, cost = 1): void =>
  test(name, () => fc.assert(fc.property(texts, property), { numRuns: Math.ceil(numRuns / cost) }))

const now = () => new Date('2026-11-28T18:45:12Z')

const STATUSES = [STATUS, DUAL_STACK, MULTICAST, DRAINED, DOWN]
const VIEWS = [
  statusView(undefined),
  statusView(readPeerQuery({})),
  peersView(readPeerQuery({})),
  leaseView(now),
]
/** Documents with the given texts in each free field: all views of all statuses. */
function* documents(some: readonly string[]) {
  for (const each of STATUSES) {
    const status = poisoned({ ...each, problems: ['one', 'two'] }, some)
    for (const view of VIEWS) yield { status, view, document: view.document(status) as unknown }
  }
}
/** One run puts its texts into each field of 20 documents, so that a quarter of the runs is enough. */
const COST = 4

holds(
  'status, peers and lease, as JSON and YAML',
  (some) => {
    for (const { document } of documents(some)) {
      const [json = '', yaml = ''] = (['json', 'yaml'] as const).map((output) =>
        formatDocument(document, output, () => ''),
      )
      clean(json)
      clean(yaml)
      expect(JSON.parse(json)).toEqual(JSON.parse(JSON.stringify(document)))
    }
  },
  COST,
)

describe.each([60, 80, 120, Number.POSITIVE_INFINITY])('in %d columns', (width) => {
  const screen = plain(width)

  holds(
    'status, peers and lease, as text and wide',
    (some) => {
      for (const { status, view, document } of documents(some)) {
        for (const output of ['text', 'wide'] as const) {
          const text = formatDocument(document, output, (wide) => view.render(status, screen, wide))
          clean(text)
          if (output === 'text') inWidth(text, width)
        }
      }
    },
    COST,
  )

  holds('routes, teardown, config and drain', (some) => {
    const routes: RoutesDocument = poisoned(
      {
        schema: 1,
        daemonRunning: true,
        counts: { wrong: 1 },
        objects: [{ kind: 'route', object: 'o', state: 'wrong', found: 'f' }],
      } as const,
      some,
    ) as RoutesDocument
    for (const wide of [false, true]) clean(renderRoutes(routes, screen, wide))
    inWidth(renderRoutes(routes, screen), width)
    const removals = [{ what: some, remove: async () => undefined }]
    const teardown = renderTeardown({ removals, notes: some }, true, screen)
    clean(teardown)
    inWidth(teardown, width)
    const [text = ''] = some
    const effect = {
      kind: 'restart' as const,
      reason: text,
      changes: some,
      leases: 2,
      misfits: [{ subnet: text, publicIp: text, reason: text }],
      lossy: some,
      room: text,
      unencryptable: [{ subnet: text, publicIp: text, reason: text }],
      encryptionRoom: text,
    }
    const preview = renderConfigPreview(effect, some, some, screen)
    clean(preview)
    inWidth(preview, width)
    const bridge = { bridge: text, subnet: net('10.5.12.0/24'), ports: some, addresses: [] }
    const drain = renderDrainPreview(poisoned(STATUS, some), [bridge], screen)
    clean(drain)
    inWidth(drain, width)
  })

  holds('doctor', (some) => {
    const report = poisoned<DoctorReport>(
      {
        schema: 1,
        verdict: 'fail',
        subnets: ['s'],
        seconds: 1,
        checks: [
          {
            name: 'n',
            state: 'fail',
            summary: 's',
            findings: [
              {
                code: 'c',
                severity: 'fail',
                what: 'w',
                evidence: ['e', 'f'],
                breaks: 'b',
                fix: 'f',
                commands: ['c'],
              },
            ],
          },
        ],
        peers: [{ subnet: 's', publicIp: 'p', reach: 'ok' }],
      },
      some,
    )
    clean(renderReport(report, screen))
    clean(reportToJson(report))
    expect(JSON.parse(reportToJson(report))).toEqual(JSON.parse(JSON.stringify(report)))
  })
})

holds('the log, and events as text and as JSON', (some) => {
  for (const underJournald of [true, false]) {
    let written = ''
    const stream = new Writable({
      write(chunk, _encoding, done) {
        written += String(chunk)
        done()
      },
    })
    const events = new EventLog()
    const log = createLogger(3, { underJournald, stream }, events)
    for (const text of some) {
      log.info(text, { kind: 'peer-joined', about: some })
      log.silly(() => text)
      log.error(describeError(new OverlayError('x', text, text)))
    }
    clean(written)
    expect(written.split('\n')).toHaveLength(some.length * 3 + 1)
    for (const event of events.past()) {
      clean(renderEvent(event, false))
      clean(toJson(event))
    }
  }
})
