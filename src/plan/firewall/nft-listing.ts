/**
 * Reads chains and rules from the output of `nft list`, with or without handles. It includes the rules of
 * iptables' nf_tables variant.
 */

interface Chain {
  /** `inet filter` */
  readonly table: string
  readonly name: string
  /** `input`, `output`, `forward`, ...; `undefined` for a chain that is only jumped to. */
  hook: string | undefined
  policy: string | undefined
  readonly rules: { readonly text: string; readonly handle: string | undefined }[]
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
