/** The doctor's answer for a tired person: the verdict, then what is wrong and how to mend it, then what is right. */
import type { CheckResult } from '../../plan/doctor/diagnose'
import type { PingFact } from '../../plan/doctor/facts'
import { count, type Finding } from '../../plan/doctor/finding'
import type { Reach } from '../../plan/doctor/reach'
import { hang, mayColour, type Paint, painter, type Screen, type Style } from '../screen'
import type { DoctorReport, PeerReport } from './report'

/** Columns: narrower ones break words, and wider ones are hard to read. */
const WIDTHS = { least: 60, usual: 80, most: 120 }

/** What is written to. */
export const screenOf = (output: { isTTY?: boolean; columns?: number }): Screen => ({
  width: Math.min(WIDTHS.most, Math.max(WIDTHS.least, output.columns ?? WIDTHS.usual)),
  colour: mayColour(output),
})

const COLOURS = { ok: 'green', skip: 'gray', warn: 'yellow', fail: 'red' } as const
const WORDS = { ok: 'ok', skip: 'skip', warn: 'warn', fail: 'FAIL' } as const

/** Good peers that are shown; the bad ones all are. */
const MOST_GOOD_PEERS = 10
const INDENT = 11

export function renderReport(report: DoctorReport, screen: Screen): string {
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
  ]
  return `${lines.join('\n')}\n`
}

function verdict({ checks, verdict: state, subnets, seconds }: DoctorReport): string {
  const findings = checks.flatMap(({ findings }) => findings)
  const fails = findings.filter(({ severity }) => severity === 'fail').length
  const warnings = findings.length - fails
  const parts = [
    ...(fails > 0 ? [count(fails, 'problem')] : []),
    ...(warnings > 0 ? [count(warnings, 'warning')] : []),
  ]
  const skipped = checks.filter(({ state }) => state === 'skip').length
  const rest = `${count(checks.length - skipped, 'check')}${skipped > 0 ? `, ${skipped} skipped` : ''}, ${seconds} s`
  const host = subnets.length === 0 ? 'this host' : `the host of ${subnets.join(' and ')}`
  const word = state === 'ok' ? 'OK: nothing is wrong' : `${parts.join(' and ')}`
  return `${word} on ${host} (${rest})`
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
    // Never broken: they are to be copied.
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
  const widths = titles.map((title, i) => Math.max(title.length, ...rows.map((row) => row[i]?.length ?? 0)))
  const line = (row: readonly string[]): string =>
    row.map((cell, i) => cell.padEnd(widths[i] ?? 0)).join('  ')
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
  // Where large packets arrive small ones do too, and are not sent.
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
