/** The doctor's report for a tired person: the verdict, then each finding with its fix, then all checks. */

import type { DoctorReport, PeerReport } from '../../doctor/report'
import { mayColour } from '../../host/streams'
import type { Reach } from '../../judge/checks/reach'
import type { CheckResult } from '../../judge/diagnose'
import type { PingFact } from '../../judge/facts'
import type { Finding } from '../../judge/finding'
import { count } from '../../model/count'
import { printableData } from '../../model/printable'
import { columnsOf, padTo } from './columns'
import { hang, type Paint, painter, type Screen, type Style } from './screen'

/** Columns of the text: narrower ones break words, and wider ones are hard to read. */
const WIDTHS = { least: 60, usual: 80, most: 120 }

/** The terminal, or a pipe. */
export const screenOf = (output: { isTTY?: boolean; columns?: number }): Screen => ({
  width: Math.min(
    WIDTHS.most,
    Math.max(WIDTHS.least, Number(process.env['COLUMNS']) || (output.columns ?? WIDTHS.usual)),
  ),
  colour: mayColour(output),
})

const COLOURS = { ok: 'green', skip: 'gray', incomplete: 'yellow', warn: 'yellow', fail: 'red' } as const
const WORDS = { ok: 'ok', skip: 'skip', warn: 'warn', fail: 'FAIL' } as const

/** The most good peers that are shown. All bad ones are. */
const MOST_GOOD_PEERS = 10
const INDENT = 11

export function renderReport(told: DoctorReport, screen: Screen): string {
  const report = printableData(told)
  const { width } = screen
  const paint = painter(screen)
  const findings = report.checks.flatMap(({ name, findings }) =>
    findings.map((finding) => ({ name, finding })),
  )
  findings.sort((a, b) => Number(b.finding.severity === 'fail') - Number(a.finding.severity === 'fail'))
  const lines = [
    paint('bold', paint(COLOURS[report.verdict], verdict(report))),
    ...findings.flatMap(({ name, finding }) => ['', ...renderFinding(name, finding, width, paint)]),
    '',
    ...report.checks.flatMap((check) => renderCheck(check, width, paint)),
    ...renderPeers(report.peers, width, paint),
    ...(report.sought === undefined ? [] : ['', ...hang('', report.sought, width, 0)]),
  ]
  return `${lines.join('\n')}\n`
}

const AS_ROOT = ': run as root (sudo overlayctl doctor)'

function verdict({ checks, verdict: state, subnets, seconds }: DoctorReport): string {
  const findings = checks.flatMap(({ findings }) => findings)
  const fails = findings.filter(({ severity }) => severity === 'fail').length
  const warnings = findings.length - fails
  const parts = [
    ...(fails > 0 ? [count(fails, 'problem')] : []),
    ...(warnings > 0 ? [count(warnings, 'warning')] : []),
  ]
  const skipped = checks.filter(({ state }) => state === 'skip').length
  const made = count(checks.length - skipped, 'check')
  const rest = [made, ...(skipped > 0 ? [`${skipped} skipped`] : []), `${seconds} s`].join(', ')
  const unmade = checks.filter((check) => check.unmade !== undefined)
  const isDenied = unmade.some((check) => check.unmade === 'rights')
  const left =
    unmade.length === 0 ? '' : `; ${count(unmade.length, 'check')} not made${isDenied ? AS_ROOT : ''}`
  const host = subnets.length === 0 ? 'this host' : `the host of ${subnets.join(' and ')}`
  const words = {
    // What was skipped does not concern this host, and is no part of the all-clear.
    ok: skipped === 0 ? 'OK: nothing is wrong' : 'Nothing is wrong in what was checked',
    incomplete: 'Nothing wrong was found',
    warn: parts.join(' and '),
    fail: parts.join(' and '),
  }
  return `${words[state]} on ${host} (${rest})${left}`
}

function renderFinding(name: string, finding: Finding, width: number, paint: Paint): string[] {
  const { severity, what, evidence, breaks, fix, commands = [] } = finding
  const field = (title: string, text: string): string[] => hang(`  ${title}`, text, width, INDENT)
  const [head = '', ...more] = hang(WORDS[severity], `${name}: ${what}`, width, 6)
  return [
    paint('bold', paint(COLOURS[severity], head)),
    ...more.map((line) => paint('bold', paint(COLOURS[severity], line))),
    ...evidence.flatMap((line, i) => field(i === 0 ? 'evidence' : '', line)),
    ...field('breaks', breaks),
    ...field('fix', fix),
    // Never broken into lines: an operator copies them.
    ...commands.map((command) => `${' '.repeat(INDENT)}${paint('bold', `$ ${command}`)}`),
  ]
}

function renderCheck({ name, state, summary, findings }: CheckResult, width: number, paint: Paint): string[] {
  const text = findings.length === 0 ? summary : findings.map(({ code }) => code).join(', ')
  const [head = '', ...more] = hang(`${WORDS[state].padEnd(5)} ${name}`, text, width, 20)
  const word = paint(COLOURS[state], head.slice(0, 5))
  return [word + head.slice(5), ...more]
}

const REACH: Readonly<Record<Reach, { readonly text: string; readonly style: Style }>> = {
  ok: { text: 'ok', style: 'green' },
  loss: { text: 'packets get lost', style: 'yellow' },
  mtu: { text: 'large packets are lost', style: 'red' },
  'no-ping': { text: 'answers TCP, no ping', style: 'yellow' },
  unreached: { text: 'not through the overlay', style: 'red' },
  silent: { text: 'no answer at all', style: 'red' },
  unprobed: { text: 'not probed', style: 'gray' },
}

function renderPeers(peers: readonly PeerReport[], width: number, paint: Paint): string[] {
  if (peers.length === 0) return []
  const bad = peers.filter(({ reach }) => reach !== 'ok')
  const good = peers.filter(({ reach }) => reach === 'ok')
  const shown = [...bad, ...good.slice(0, MOST_GOOD_PEERS)]
  const wide = width >= 100
  const rows = shown.map((peer) => cells(peer, wide))
  const titles = [
    'PEER',
    'PUBLIC IP',
    wide ? 'OVERLAY 64 B' : 'OVERLAY',
    ...(wide ? ['FULL SIZE'] : []),
    'UNDERLAY',
  ]
  const widths = titles.map((title, i) =>
    Math.max(title.length, ...rows.map((row) => columnsOf(row[i] ?? ''))),
  )
  const line = (row: readonly string[]): string =>
    row.map((cell, i) => padTo(cell, widths[i] ?? 0)).join('  ')
  const more = peers.length - shown.length
  return [
    '',
    paint('bold', `${line(titles)}  STATE`),
    ...rows.map((row, i) => {
      const { text, style } = REACH[shown[i]?.reach ?? 'unprobed']
      return `${line(row)}  ${paint(style, text)}`
    }),
    ...(more > 0 ? [`and ${more} more that are ok (-o json lists all)`] : []),
  ]
}

function cells(
  { subnet, publicIp, overlayFull, overlaySmall, underlaySmall }: PeerReport,
  wide: boolean,
): string[] {
  // Where large packets arrive, small ones do too, and are not sent.
  const small = score(overlaySmall ?? overlayFull)
  return [subnet, publicIp, small, ...(wide ? [score(overlayFull)] : []), score(underlaySmall)]
}

/** `0.31 ms`, `33 % lost, 2.1 ms`, `lost` */
function score(ping: PingFact | undefined): string {
  if (ping === undefined) return '-'
  const { sent, received, rttMs } = ping
  if (received === 0) return 'lost'
  const time = rttMs === undefined ? '' : `${rttMs < 10 ? rttMs.toFixed(2) : rttMs.toFixed(0)} ms`
  const loss = Math.round((1 - received / sent) * 100)
  return loss === 0 ? time || 'ok' : [`${loss} % lost`, time].filter(Boolean).join(', ')
}
