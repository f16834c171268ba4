/** Makes the archive of a bundle from its parts: within bounds, without secrets, and with a README. */
import { count } from '../../model/count'
import { printableLines } from '../../model/printable'
import type { Redactor } from '../../model/redact'
import { describeProblem, type Result } from '../../model/result'
import { type ArchivedFile, writeUstar } from './ustar'

/** Bytes of one part, and of all parts together, before compression. */
const MOST_OF_PART = 2 * 1024 * 1024
const MOST_OF_ALL = 16 * 1024 * 1024

/** A part as it was gathered. */
export interface GatheredPart {
  /** File name in the archive. */
  readonly name: string
  /** What it is, for people. */
  readonly about: string
  /** JSON data, or text. */
  readonly content: Result<unknown>
  /** Which end of a text that is too long is kept. */
  readonly keep: 'first' | 'last'
}

/** A part as it is in the archive, for the listing. */
export interface ListedPart {
  readonly name: string
  readonly about: string
  readonly bytes: number
  /** Why it is not there. */
  readonly missing?: string
  /** Bytes that were left out of the file. */
  readonly cut?: number
}

export interface Bundle {
  /** Not compressed. */
  readonly archive: Buffer
  readonly parts: readonly ListedPart[]
}

export interface BundleTitle {
  /** Directory in the archive. */
  readonly directory: string
  readonly at: Date
  readonly version: string
}

export function makeBundle(
  gathered: readonly GatheredPart[],
  redactor: Redactor,
  title: BundleTitle,
): Bundle {
  let room = MOST_OF_ALL
  const files: ArchivedFile[] = []
  const parts = gathered.map(({ name, about, content, keep }): ListedPart => {
    if (!content.ok)
      return { name, about, bytes: 0, missing: redactor.text(describeProblem(content.problem)) }
    const whole = Buffer.from(textOf(content.value, redactor))
    const { bytes, cut } = cutTo(whole, Math.min(MOST_OF_PART, room), keep)
    room -= bytes.length
    files.push({ name: `${title.directory}/${name}`, content: bytes })
    return { name, about, bytes: bytes.length, ...(cut > 0 && { cut }) }
  })
  const readme = { name: `${title.directory}/README`, content: Buffer.from(readmeOf(parts, title)) }
  return { archive: writeUstar([readme, ...files], title.at), parts }
}

/** Secrets are taken out of the whole text, so that no cut hides how one begins. */
function textOf(value: unknown, redactor: Redactor): string {
  if (typeof value === 'string') return redactor.text(value.endsWith('\n') ? value : `${value}\n`)
  return `${JSON.stringify(redactor.data(plain(value)), undefined, 2)}\n`
}

/** The data as JSON has it: without methods, and with 64-bit numbers as texts. */
const plain = (value: unknown): unknown =>
  JSON.parse(
    JSON.stringify(value, (_, each) =>
      typeof each === 'bigint' ? String(each) : each instanceof Set ? [...each] : each,
    ) ?? 'null',
  )

/** Cuts at a line's end, and says so in the place of what is gone. */
function cutTo(whole: Buffer, most: number, keep: GatheredPart['keep']): { bytes: Buffer; cut: number } {
  if (whole.length <= most) return { bytes: whole, cut: 0 }
  const mark = (cut: number): Buffer => Buffer.from(`[${cut} bytes left out]\n`)
  const room = Math.max(0, most - 64)
  if (keep === 'first') {
    const end = whole.lastIndexOf(0x0a, room) + 1
    const cut = whole.length - end
    return { bytes: Buffer.concat([whole.subarray(0, end), mark(cut)]), cut }
  }
  const at = whole.indexOf(0x0a, whole.length - room)
  const begin = at === -1 ? whole.length : at + 1
  return { bytes: Buffer.concat([mark(begin), whole.subarray(begin)]), cut: begin }
}

function readmeOf(parts: readonly ListedPart[], { directory, at, version }: BundleTitle): string {
  const width = Math.max(...parts.map(({ name }) => name.length))
  const line = ({ name, about, bytes, missing, cut }: ListedPart): string => {
    const what = missing === undefined ? sizeOf(bytes) : 'missing'
    const left = cut === undefined ? '' : ` (${sizeOf(cut)} left out)`
    const why = missing === undefined ? '' : `\n${' '.repeat(width + 13)}why: ${printableLines(missing)}`
    return `${name.padEnd(width)}  ${what.padStart(9)}  ${about}${left}${why}`
  }
  return `${[
    directory,
    '',
    `Made by overlayctl bundle of overlayd ${version} at ${at.toISOString()}.`,
    'Passwords, tokens, private keys and user names in URLs are left out: [removed] stands in their place.',
    '[key 1a2b3c4d] stands for a WireGuard key: the same key has the same name in all files.',
    'Addresses, names of hosts and interfaces, firewall rules and log lines are in here as they are.',
    '',
    ...parts.map(line),
  ].join('\n')}\n`
}

/** `812 B`, `4.1 kB`, `2.0 MB` */
export function sizeOf(bytes: number): string {
  if (bytes < 1000) return `${bytes} B`
  return bytes < 1_000_000 ? `${(bytes / 1000).toFixed(1)} kB` : `${(bytes / 1_000_000).toFixed(1)} MB`
}

/** The listing on the terminal. */
export function listingOf({ parts }: Bundle, path: string, compressed: number): string[] {
  const missing = parts.filter((part) => part.missing !== undefined)
  const there = parts.length - missing.length
  const width = Math.max(...parts.map(({ name }) => name.length))
  return [
    `${path}: ${sizeOf(compressed)}, ${count(there, 'part')}` +
      (missing.length > 0 ? `, ${missing.length} missing` : ''),
    ...parts.map(({ name, bytes, missing: why, cut }) =>
      why === undefined
        ? `  ${name.padEnd(width)}  ${sizeOf(bytes)}${cut === undefined ? '' : `, ${sizeOf(cut)} left out`}`
        : `  ${name.padEnd(width)}  missing: ${why.replaceAll('\n', ' ')}`,
    ),
    'Passwords, tokens and private keys are left out. Addresses, names and log lines are in it: look before',
    `you send it (tar xzf ${path}).`,
  ]
}
