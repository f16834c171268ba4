/** All network objects of a host, as iproute2 prints them, for a comparison of before and after. */
import type { Host } from '../lab/lab'
import type { Command } from '../lab/process'

const COMMANDS: Readonly<Record<string, Command>> = {
  link: ['ip', '-d', 'link', 'show'],
  address: ['ip', 'address', 'show'],
  route: ['ip', 'route', 'show', 'table', 'all'],
  route6: ['ip', '-6', 'route', 'show', 'table', 'all'],
  neighbour: ['ip', 'neigh', 'show', 'nud', 'permanent'],
  neighbour6: ['ip', '-6', 'neigh', 'show', 'nud', 'permanent'],
  nexthop: ['ip', 'nexthop', 'show'],
  rule: ['ip', 'rule', 'show'],
  rule6: ['ip', '-6', 'rule', 'show'],
  fdb: ['bridge', 'fdb', 'show'],
}

/**
 * Objects of other programs on a host.
 * @param isOurs whether a line shows an object of overlayd, which is left out
 * @returns kind of object -> lines, sorted
 */
export async function foreignState(
  host: Host,
  isOurs: (line: string) => boolean,
): Promise<Record<string, string[]>> {
  const entries = Object.entries(COMMANDS).map(async ([name, command]) => {
    const lines = joinContinued((await host.exec(...command)).split('\n'))
    return [name, lines.filter((line) => line !== '' && !isOurs(line)).sort()] as const
  })
  return Object.fromEntries(await Promise.all(entries))
}

/** Joins the indented lines with which iproute2 continues a link or a multipath route. */
function joinContinued(lines: readonly string[]): string[] {
  const joined: string[] = []
  for (const line of lines) {
    if (/^\s/.test(line) && joined.length > 0) joined.push(`${joined.pop()} ${line.trim()}`)
    else joined.push(line)
  }
  return joined
}
