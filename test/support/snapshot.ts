/** All that iproute2 shows of a host, for comparing before and after, byte by byte. */
import type { Host } from './lab'
import type { Command } from './process'

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
 * Kind of object -> what the host has of it.
 * @param isOurs which lines are not the strangers'
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

/** A link or a multipath route goes on in indented lines. */
function joinContinued(lines: readonly string[]): string[] {
  const joined: string[] = []
  for (const line of lines) {
    if (/^\s/.test(line) && joined.length > 0) joined.push(`${joined.pop()} ${line.trim()}`)
    else joined.push(line)
  }
  return joined
}
