/**
 * The Debian changelog, made from CHANGELOG.md (form: keepachangelog.com), which is the one that is written
 * by hand.
 */

export interface Release {
  /** `0.1.0` */
  readonly version: string
  /** `2026-01-31` */
  readonly date: string
  /** Each item in one line, in the order of the file. */
  readonly items: readonly string[]
}

/**
 * Columns of the Debian changelog: lintian's tag debian-changelog-line-too-long is for lines of more than 80.
 */
const WIDTH = 78

const MAINTAINER = 'overlayd maintainers <maintainers@overlayd.invalid>'

/** The releases of a CHANGELOG.md, the newest first. What is not released yet is left out. */
export function readReleases(text: string): Release[] {
  const [, ...sections] = text.split(/^## /m)
  return sections.flatMap((section) => {
    const [heading = '', ...lines] = section.split('\n')
    const [, version, date] = /^\[(\d\S*)\] - (\d{4}-\d{2}-\d{2})$/.exec(heading) ?? []
    return version === undefined || date === undefined ? [] : [{ version, date, items: readItems(lines) }]
  })
}

/** List items, whose further lines are indented; without their markup. */
function readItems(lines: readonly string[]): string[] {
  const items: string[] = []
  for (const line of lines) {
    if (line.startsWith('- ')) items.push(line.slice(2))
    else if (/^ {2,}\S/.test(line)) items.push(`${items.pop() ?? ''} ${line.trim()}`)
  }
  return items.map((item) => item.replaceAll(/\[([^\]]*)\]\([^)]*\)/g, '$1').replaceAll(/[*`]/g, ''))
}

/**
 * Seconds since 1970 of a release's noon in UTC.
 * @throws {Error} where the date is none
 */
export function dateOf({ version, date }: Release): number {
  const epoch = Date.parse(`${date}T12:00:00Z`) / 1000
  if (!Number.isSafeInteger(epoch)) throw new Error(`the date of ${version} in CHANGELOG.md is ${date}`)
  return epoch
}

/**
 * The text of /usr/share/doc/overlayd/changelog.Debian (Debian Policy 4.4).
 * @param revision that of the package, the part of the version after the dash
 */
export function debianChangelog(releases: readonly Release[], revision: string): string {
  const entries = releases.map((release) => {
    const items = release.items.map((item) => wrap(`  * ${item}`).join('\n    '))
    // As `date --rfc-email` writes it, with +0000 in place of GMT.
    const date = new Date(dateOf(release) * 1000).toUTCString().replace('GMT', '+0000')
    return `overlayd (${release.version}-${revision}) unstable; urgency=medium\n\n${items.join('\n')}\n\n -- ${MAINTAINER}  ${date}\n`
  })
  return entries.join('\n')
}

/**
 * The text of %changelog in the description of an RPM package.
 * @param revision that of the package, the part of the version after the dash
 */
export function rpmChangelog(releases: readonly Release[], revision: string): string {
  const entries = releases.map((release) => {
    const [weekday = '', day, month, year] = new Date(dateOf(release) * 1000).toUTCString().split(' ')
    // A percent sign begins a macro.
    const items = release.items.map((item) => `- ${wrap(item).join('\n  ')}`.replaceAll('%', '%%'))
    const heading = `* ${weekday.slice(0, 3)} ${month} ${day} ${year} ${MAINTAINER}`
    return `${heading} - ${release.version}-${revision}\n${items.join('\n')}\n`
  })
  return entries.join('\n')
}

/** Lines of at most {@link WIDTH} columns, the further ones four columns narrower. */
function wrap(text: string): string[] {
  const lines: string[] = []
  for (const word of text.split(/(?<=\S) /)) {
    const last = lines.pop()
    if (last === undefined) lines.push(word)
    else if (last.length + word.length + 1 <= WIDTH - (lines.length === 0 ? 0 : 4))
      lines.push(`${last} ${word}`)
    else lines.push(last, word)
  }
  return lines
}
