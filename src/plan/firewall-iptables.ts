/** What brings iptables from what it has to what it shall have: input of one `iptables-restore --noflush`, which applies a table at a time or not at all. */
import { OverlayError } from '../model/errors'
import {
  type DesiredIptables,
  HOOK_COMMENT,
  type HookRule,
  type IptablesListing,
  type IptablesTable,
  type OwnChain,
} from '../model/firewall'

/** Of both; what Docker's hooks come first in is last in the way of a packet that was never accepted. */
const TABLES: readonly IptablesTable[] = ['raw', 'nat', 'filter']

/**
 * Compares content and order of our chains, that each is called exactly once wherever in its parent that is, and that our rules in chains of others
 * are in force. Nothing of anyone else is touched.
 * @param links our devices: rules in chains of others are ours when they have our comment and name one of these
 * @returns `undefined` when there is nothing to do
 * @throws {OverlayError} `iptables-foreign-table` when something is wanted in a table that iptables cannot read
 */
export function diffIptables(
  { chains, hooks }: DesiredIptables,
  links: readonly string[],
  observed: IptablesListing,
): string | undefined {
  const blocks = TABLES.flatMap((table) => {
    const own = chains.filter((chain) => chain.table === table)
    const wanted = hooks.filter((hook) => hook.table === table)
    const lines = observed.get(table) ?? []
    if (lines === 'foreign') {
      refuseForeign(table, own, wanted)
      return []
    }
    const changes = [
      ...own.flatMap((chain) => diffOwnChain(chain, lines)),
      ...diffHooks(wanted, links, lines),
    ]
    return changes.length === 0 ? [] : [`*${table}`, ...changes, 'COMMIT']
  })
  return blocks.length === 0 ? undefined : `${blocks.join('\n')}\n`
}

function refuseForeign(table: IptablesTable, own: readonly OwnChain[], hooks: readonly HookRule[]): void {
  if (hooks.length === 0 && own.every(({ rules }) => rules === undefined)) return
  throw new OverlayError(
    'iptables-foreign-table',
    `table ${table} holds rules that iptables cannot read, and so does not let us add ours`,
    'move the rules that were added to it by nft to a table of another name, or set EnableNFTables in the network config',
  )
}

function diffOwnChain(chain: OwnChain, lines: readonly string[]): string[] {
  return chain.rules === undefined ? removeChain(chain, lines) : fillChain(chain, chain.rules, lines)
}

/** In `iptables-restore` a line `:CHAIN` makes a chain, or empties it when it is there; packets see only the end of the transaction. */
const declare = (name: string): string => `:${name} - [0:0]`

const hasChain = (name: string, lines: readonly string[]): boolean =>
  lines.some((line) => line.startsWith(`:${name} `))

const remove = (line: string): string => line.replace('-A', '-D')

function fillChain(chain: OwnChain, rules: readonly string[], lines: readonly string[]): string[] {
  const { name, jump } = chain
  const present = lines.filter((line) => line.startsWith(`-A ${name} `))
  const same = hasChain(name, lines) && present.join('\n') === rules.join('\n')
  const calls = lines.filter((line) => isOwnCall(line, chain))
  return [
    ...(same ? [] : [declare(name), ...rules]),
    // A removal takes the first of several equal rules.
    ...calls.slice(1).map(remove),
    ...(calls.length === 0 ? [jump] : []),
  ]
}

/** By its comment, not by its whole text: were it printed otherwise by some version, we would add one each time. */
function isOwnCall(line: string, { parent, name, jump }: OwnChain): boolean {
  const comment = /"(.*)"/.exec(jump)?.[1] ?? ''
  return line.startsWith(`-A ${parent} `) && line.includes(comment) && line.endsWith(` -j ${name}`)
}

/** A chain that is still called, by whomever, cannot be removed. */
function removeChain({ name }: OwnChain, lines: readonly string[]): string[] {
  if (!hasChain(name, lines)) return []
  const calls = lines.filter((line) => line.startsWith('-A ') && new RegExp(` -[jg] ${name}$`).test(line))
  const others = calls.filter((line) => !line.startsWith(`-A ${name} `))
  return [declare(name), ...others.map(remove), `-X ${name}`]
}

function diffHooks(
  wanted: readonly HookRule[],
  links: readonly string[],
  lines: readonly string[],
): string[] {
  const standing = wanted.filter((hook) => isInForce(hook, lines))
  const standingLines = new Set(standing.map(lineOf))
  const missing = wanted.filter((hook) => !standing.includes(hook))
  const chains = new Set(missing.map(({ chain }) => chain).filter((chain) => !BUILT_IN.has(chain)))
  return [
    ...[...chains].filter((chain) => !hasChain(chain, lines)).map((chain) => `-N ${chain}`),
    ...lines.filter((line) => isOurs(line, links) && !standingLines.has(line)).map(remove),
    ...missing.map(({ chain, text }) => `-I ${chain} ${text}`),
  ]
}

/** Chains that exist although their table may not. */
const BUILT_IN: ReadonlySet<string> = new Set(['PREROUTING', 'FORWARD', 'POSTROUTING'])

const lineOf = ({ chain, text }: HookRule): string => `-A ${chain} ${text}`

function isOurs(line: string, links: readonly string[]): boolean {
  if (!line.startsWith('-A ') || !line.includes(` --comment ${HOOK_COMMENT} `)) return false
  const words = line.split(' ')
  return links.some((link) => words.includes(link))
}

/** Once, and not behind a rule that drops where that matters. */
function isInForce(hook: HookRule, lines: readonly string[]): boolean {
  const place = lines.indexOf(lineOf(hook))
  if (place === -1 || place !== lines.lastIndexOf(lineOf(hook))) return false
  const drop = lines.findIndex((line) => line.startsWith(`-A ${hook.chain} `) && line.endsWith(' -j DROP'))
  return !hook.beforeDrops || drop === -1 || drop > place
}
