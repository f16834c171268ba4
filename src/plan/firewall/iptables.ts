/**
 * Computes the changes from iptables' present to its desired state, as input for one `iptables-restore
 * --noflush`, which changes each table atomically or not at all.
 */
import { OverlayError } from '../../model/errors'
import {
  type DesiredIptables,
  type FirewallNetwork,
  HOOK_COMMENT,
  type HookRule,
  type IptablesListing,
  type IptablesTable,
  type OwnChain,
} from '../../model/firewall'
import { DROPS, findObstacle, MASQUERADES } from './iptables-way'

/**
 * Order of the tables, for adding and removing alike. Docker's hooks run first in FORWARD; a packet they did
 * not accept reaches ours last.
 */
const TABLES: readonly IptablesTable[] = ['raw', 'nat', 'filter']

/**
 * Checks that our chains have the right content and order, that each is called exactly once and before any
 * rule that drops all packets of containers, and that our rules in chains of others are effective. Nobody
 * else's rules are touched.
 * @param links our devices: a rule in someone else's chain is ours if it has our comment and names one of
 *   them
 * @returns `undefined` if there is nothing to do
 * @throws {OverlayError} `iptables-foreign-table` if a rule is needed in a table that iptables cannot read
 */
export function diffIptables(
  desired: DesiredIptables,
  links: readonly string[],
  observed: IptablesListing,
): string | undefined {
  const { chains, network } = desired
  const hooks = wantedHooks(desired, links, observed)
  const blocks = TABLES.flatMap((table) => {
    const own = chains.filter((chain) => chain.table === table)
    const wanted = hooks.filter((hook) => hook.table === table)
    const lines = observed.get(table) ?? []
    if (lines === 'foreign') {
      refuseForeign(table, own, wanted)
      return []
    }
    const changes = [
      ...own.flatMap((chain) => diffOwnChain(chain, lines, network)),
      ...diffHooks(wanted, links, lines, network),
    ]
    return changes.length === 0 ? [] : [`*${table}`, ...changes, 'COMMIT']
  })
  return blocks.length === 0 ? undefined : `${blocks.join('\n')}\n`
}

function refuseForeign(table: IptablesTable, own: readonly OwnChain[], hooks: readonly HookRule[]): void {
  if (hooks.length === 0 && own.every(({ rules }) => rules === undefined)) return
  throw new OverlayError(
    'iptables-foreign-table',
    `table ${table} contains rules that iptables cannot read, so ours cannot be added`,
    'move the rules that nft added there to another table, or set EnableNFTables in the network config',
  )
}

function diffOwnChain(
  chain: OwnChain,
  lines: readonly string[],
  network: FirewallNetwork | undefined,
): string[] {
  return chain.rules === undefined ? removeChain(chain, lines) : fillChain(chain, chain.rules, lines, network)
}

/** The rules that are needed in chains of others, depending on their content. */
function wantedHooks(
  { hooks, network, docker }: DesiredIptables,
  links: readonly string[],
  observed: IptablesListing,
): HookRule[] {
  if (network === undefined) return []
  const rulesIn = (table: IptablesTable): readonly string[] => {
    const lines = observed.get(table) ?? []
    return lines === 'foreign' ? [] : lines.filter((line) => !isOurs(line, links))
  }
  const hasDocker =
    docker || rulesIn('filter').some((line) => line.startsWith(':DOCKER ') || / -j DOCKER-USER$/.test(line))
  return hooks.filter(({ table, chain, where }) => {
    const lines = rulesIn(table)
    if (where === 'docker') return hasDocker || (table === 'raw' && lines.some((line) => isDrop(line, chain)))
    // With Docker, its jump to DOCKER-USER comes first in FORWARD, so the policy never decides.
    const isPolicy =
      where === 'dropped' && !hasDocker && lines.some((line) => line.startsWith(`:${chain} DROP `))
    return isPolicy || findObstacle(lines, chain, network, ENDS[where]) !== undefined
  })
}

/** Targets that a rule of ours must precede. */
const ENDS = { dropped: DROPS, masqueraded: MASQUERADES } as const

const isDrop = (line: string, chain: string): boolean =>
  line.startsWith(`-A ${chain} `) && / -j (?:DROP|REJECT\b.*)$/.test(line)

/**
 * In `iptables-restore` a line `:CHAIN` creates a chain, or empties an existing one. Packets see only the
 * result of the whole transaction.
 */
const declare = (name: string): string => `:${name} - [0:0]`

const hasChain = (name: string, lines: readonly string[]): boolean =>
  lines.some((line) => line.startsWith(`:${name} `))

const remove = (line: string): string => line.replace('-A', '-D')

function fillChain(
  chain: OwnChain,
  rules: readonly string[],
  lines: readonly string[],
  network: FirewallNetwork | undefined,
): string[] {
  const { name, jump, parent } = chain
  const present = lines.filter((line) => line.startsWith(`-A ${name} `))
  const same = hasChain(name, lines) && present.join('\n') === rules.join('\n')
  const calls = lines.filter((line) => isOwnCall(line, chain))
  const isOwn = (line: string): boolean => isOwnCall(line, chain)
  const obstacle = network && findObstacle(lines, parent, network, DROPS, isOwn)
  const made = same ? [] : [declare(name), ...rules]
  // Our call goes before a rule that drops all packets of containers; without one, at the end, as flannel's.
  // A call in a right place stays.
  if (obstacle !== undefined) {
    const place = jump.replace(`-A ${parent}`, `-I ${parent} ${obstacle.place + 1}`)
    return [...made, ...calls.map(remove), place]
  }
  return [
    ...made,
    // A deletion removes the first of several equal rules, so the last one stays.
    ...calls.slice(1).map(remove),
    ...(calls.length === 0 ? [jump] : []),
  ]
}

/**
 * Recognized by its comment, not its whole text: if a version printed it differently, we would add one each
 * time.
 */
function isOwnCall(line: string, { parent, name, jump }: OwnChain): boolean {
  const comment = /"(.*)"/.exec(jump)?.[1] ?? ''
  return line.startsWith(`-A ${parent} `) && line.includes(comment) && line.endsWith(` -j ${name}`)
}

/** The calls are removed first: a chain that is still called, by anyone, cannot be deleted. */
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
  network: FirewallNetwork | undefined,
): string[] {
  const foreign = lines.filter((line) => !isOurs(line, links))
  const standing = wanted.filter((hook) => isInForce(hook, lines, foreign, network))
  const standingLines = new Set(standing.map(lineOf))
  const missing = wanted.filter((hook) => !standing.includes(hook))
  const chains = new Set(missing.map(({ chain }) => chain).filter((chain) => !BUILT_IN.has(chain)))
  return [
    ...[...chains].filter((chain) => !hasChain(chain, lines)).map((chain) => `-N ${chain}`),
    ...lines.filter((line) => isOurs(line, links) && !standingLines.has(line)).map(remove),
    ...missing.map(({ chain, text }) => `-I ${chain} ${text}`),
  ]
}

/** Chains that exist even if their table is not loaded yet. */
const BUILT_IN: ReadonlySet<string> = new Set(['PREROUTING', 'FORWARD', 'POSTROUTING'])

const lineOf = ({ chain, text }: HookRule): string => `-A ${chain} ${text}`

function isOurs(line: string, links: readonly string[]): boolean {
  if (!line.startsWith('-A ')) return false
  if (links.some((link) => line.includes(` --comment "${HOOK_COMMENT} ${link}" `))) return true
  if (!line.includes(` --comment ${HOOK_COMMENT} `)) return false
  const words = line.split(' ')
  return links.some((link) => words.includes(link))
}

/** Whether the rule exists exactly once, and before any rule that it must precede. */
function isInForce(
  hook: HookRule,
  lines: readonly string[],
  foreign: readonly string[],
  network: FirewallNetwork | undefined,
): boolean {
  const place = lines.indexOf(lineOf(hook))
  if (place === -1 || place !== lines.lastIndexOf(lineOf(hook))) return false
  const { where, chain } = hook
  if (where !== 'docker') {
    const obstacle = network && findObstacle(foreign, chain, network, ENDS[where])
    return obstacle === undefined || lines.indexOf(obstacle.line) > place
  }
  const drop = lines.findIndex((line) => isDrop(line, chain))
  return !hook.beforeDrops || drop === -1 || drop > place
}
