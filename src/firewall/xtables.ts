/**
 * Reads the output of `iptables-save`, of both variants and families (iptables-extensions(8)). An option
 * whose meaning is unknown here makes the rule `unknown`; it is never skipped.
 */
import type { Family } from '../model/address'
import { NFT_FAMILY } from '../model/family'
import type { Base, FilterChain, FilterProgram, FilterRule, Hook, Step } from '../model/packet-filter'
import { readMatches } from './xtables-matches'
import { readTarget } from './xtables-targets'

/** Priorities of the tables' hooks (linux/netfilter_ipv4.h). The nat table has one per hook. */
const PRIORITIES: Readonly<Record<string, number>> = { raw: -300, mangle: -150, filter: 0, security: 50 }
const NAT: Readonly<Partial<Record<Hook, number>>> = {
  prerouting: -100,
  output: -100,
  input: 100,
  postrouting: 100,
}

const HOOKS: Readonly<Record<string, Hook>> = {
  PREROUTING: 'prerouting',
  INPUT: 'input',
  FORWARD: 'forward',
  OUTPUT: 'output',
  POSTROUTING: 'postrouting',
}

export interface SavedTables {
  readonly chains: readonly FilterChain[]
  /** Names of the tables that were listed. */
  readonly tables: ReadonlySet<string>
  /** Names of the tables with rules that iptables cannot express. */
  readonly foreign: ReadonlySet<string>
}

export function readSaved(output: string, family: Family, program: FilterProgram): SavedTables {
  const foreign = new Set<string>()
  const tables = new Map<string, string[]>()
  let lines: string[] = []
  for (const line of output.split('\n')) {
    const incompatible = /^# Table `(\w+)' is incompatible/.exec(line)?.[1]
    if (incompatible !== undefined) foreign.add(incompatible)
    else if (line.startsWith('*')) {
      lines = []
      tables.set(line.slice(1).trim(), lines)
    } else if (line.startsWith(':') || line.startsWith('-A ') || line.startsWith('[')) lines.push(line)
  }
  const chains = [...tables].flatMap(([table, of]) => readTable(table, of, family, program))
  return { chains, tables: new Set(tables.keys()), foreign }
}

function readTable(
  table: string,
  lines: readonly string[],
  family: Family,
  program: FilterProgram,
): FilterChain[] {
  const found = new Map<string, { readonly base: Base | undefined; readonly rules: FilterRule[] }>()
  for (const line of lines) {
    const declared = /^:(\S+) (\S+)/.exec(line)
    if (declared === null) continue
    const [, name = '', policy = '-'] = declared
    found.set(name, { base: policy === '-' ? undefined : baseOf(table, name, policy), rules: [] })
  }
  const isChain = (name: string): boolean => found.has(name)
  for (const line of lines) {
    // With counters, a rule starts with `[PACKETS:BYTES]`.
    const text = line.replace(/^\[\d+:\d+\] /, '')
    const name = /^-A (\S+)/.exec(text)?.[1] ?? ''
    const rules = found.get(name)?.rules
    if (rules === undefined) continue
    rules.push({
      text: text.trim(),
      number: rules.length + 1,
      handle: undefined,
      steps: readRule(text.slice(`-A ${name}`.length), family, isChain),
    })
  }
  return [...found].map(([name, { base, rules }]) => ({
    program,
    family: NFT_FAMILY[family],
    table,
    name,
    base,
    rules,
  }))
}

function baseOf(table: string, name: string, policy: string): Base | undefined {
  const hook = Object.hasOwn(HOOKS, name) ? HOOKS[name] : undefined
  if (hook === undefined) return undefined
  const priority = table === 'nat' ? NAT[hook] : PRIORITIES[table]
  return {
    hook,
    type: table === 'nat' ? 'nat' : 'filter',
    priority: priority ?? 0,
    policy: policy === 'DROP' ? 'drop' : 'accept',
  }
}

function readRule(text: string, family: Family, isChain: (name: string) => boolean): Step[] {
  const words = split(text)
  const jump = words.findIndex((word) => word === '-j' || word === '-g')
  const matches = jump === -1 ? words : words.slice(0, jump)
  return [
    ...readMatches(matches, family),
    ...(jump === -1 ? [] : readTarget(words[jump] === '-g', words.slice(jump + 1), isChain)),
  ]
}

/** Splits a line into words. A word in double quotes may contain backslash escapes. */
export function split(text: string): string[] {
  return [...text.matchAll(/"((?:[^"\\]|\\.)*)"|(\S+)/g)].map(([, quoted, plain]) =>
    quoted === undefined ? (plain ?? '') : quoted.replace(/\\(.)/g, '$1'),
  )
}
