/** Reads what `nft -a list ruleset` prints, as far as it takes to find a rule that drops. iptables' rules are in it where that is its nf_tables variant. */

interface Chain {
  /** `inet filter` */
  readonly table: string
  readonly name: string
  /** `input`, `output`, `forward`, ...; `undefined` for one that is only jumped to. */
  hook: string | undefined
  policy: string | undefined
  readonly rules: { readonly text: string; readonly handle: string | undefined }[]
}

export interface Drop {
  /** As nft prints it: `inet filter output: udp dport 8472 drop`. */
  readonly evidence: string
  /** What takes it away, or lets the port through. */
  readonly command: string
}

/** All chains of a listing. */
export function readChains(ruleset: string): Chain[] {
  const chains: Chain[] = []
  let table = ''
  let chain: Chain | undefined
  for (const raw of ruleset.split('\n')) {
    const [line = '', handle] = raw.trim().split(/\s*# handle (?=\d+$)/)
    const opened = /^(table|chain) (.+) \{$/.exec(line)
    if (opened?.[1] === 'table') table = opened[2] ?? ''
    else if (opened?.[1] === 'chain') {
      chain = { table, name: opened[2] ?? '', hook: undefined, policy: undefined, rules: [] }
      chains.push(chain)
    } else if (line === '}') chain = undefined
    else if (chain !== undefined && line !== '') {
      const base = /^type \w+ hook (\w+) .*?(?:policy (\w+);)?$/.exec(line)
      if (base === null) chain.rules.push({ text: line, handle })
      else [chain.hook, chain.policy] = [base[1], base[2]]
    }
  }
  return chains
}

/** The first rule that drops UDP to a port at a hook, or the policy of a chain that says nothing of that port. */
export function findDrop(ruleset: string, hook: 'input' | 'output', port: number): Drop | undefined {
  const chains = readChains(ruleset)
  for (const base of chains.filter((chain) => chain.hook === hook)) {
    for (const chain of reachable(base, chains)) {
      const rule = chain.rules.find(({ text }) => drops(text, port))
      if (rule === undefined) continue
      const command =
        rule.handle === undefined
          ? accept(base, hook, port)
          : `nft delete rule ${chain.table} ${chain.name} handle ${rule.handle}`
      return { evidence: `${chain.table} ${chain.name}: ${rule.text}`, command }
    }
    const lets = reachable(base, chains).some((chain) =>
      chain.rules.some(({ text }) => text.includes('accept') && namesPort(text, port)),
    )
    if (base.policy === 'drop' && !lets) {
      return {
        evidence: `${base.table} ${base.name}: policy drop, and no rule for UDP ${port}`,
        command: accept(base, hook, port),
      }
    }
  }
  return undefined
}

const accept = ({ table, name }: Chain, _hook: string, port: number): string =>
  `nft insert rule ${table} ${name} udp dport ${port} accept`

/** A chain and those it jumps to. */
function reachable(base: Chain, chains: readonly Chain[]): Chain[] {
  const found = [base]
  for (const chain of found) {
    for (const { text } of chain.rules) {
      const target = /\b(?:jump|goto) (\S+)/.exec(text)?.[1]
      const next = chains.find(({ table, name }) => table === chain.table && name === target)
      if (next !== undefined && !found.includes(next)) found.push(next)
    }
  }
  return found
}

const drops = (text: string, port: number): boolean =>
  /\b(?:drop|reject)\b/.test(text) && namesPort(text, port)

const namesPort = (text: string, port: number): boolean =>
  /\bdport\b/.test(text) && new RegExp(`\\b${port}\\b`).test(text) && !/\btcp dport\b/.test(text)
