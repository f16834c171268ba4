/** Firewall requests of an overlay host, and a model of `iptables-restore --noflush` and `iptables-save`. */
import { type Prefix, parseIpPrefix } from '../../src/model/address'
import type {
  FirewallNetwork,
  FirewallRequest,
  IptablesListing,
  IptablesTable,
} from '../../src/model/firewall'

export function prefix(text: string): Prefix {
  const parsed = parseIpPrefix(text)
  if (parsed === undefined) throw new Error(`not a prefix: ${text}`)
  return parsed
}

export const ipv4Network: FirewallNetwork = {
  network: prefix('10.5.0.0/16'),
  subnet: prefix('10.5.1.0/24'),
  link: 'flannel.1',
}
export const ipv6Network: FirewallNetwork = {
  network: prefix('fd00:5::/48'),
  subnet: prefix('fd00:5:0:1::/64'),
  link: 'flannel-v6.1',
}

export const request = (fields: Partial<FirewallRequest> = {}): FirewallRequest => ({
  mode: 'iptables',
  networks: [ipv4Network, ipv6Network],
  links: ['flannel.1', 'flannel-v6.1'],
  ipMasq: true,
  fullyRandom: true,
  forwardRules: true,
  docker: false,
  ...fields,
})

const BUILT_IN: Readonly<Record<IptablesTable, readonly string[]>> = {
  raw: ['PREROUTING', 'OUTPUT'],
  nat: ['PREROUTING', 'INPUT', 'OUTPUT', 'POSTROUTING'],
  filter: ['INPUT', 'FORWARD', 'OUTPUT'],
}

/**
 * Models iptables-restore.
 * @param input as iptables-restore reads it
 * @returns the ruleset afterwards, as iptables-save prints it
 * @throws {Error} where iptables would refuse
 */
export function restore(listing: IptablesListing, input: string): IptablesListing {
  const result = new Map(listing)
  for (const [, name = '', body = ''] of input.matchAll(/^\*(\w+)\n(.*?)^COMMIT\n/gms)) {
    const table = name as IptablesTable
    const lines = listing.get(table) ?? BUILT_IN[table].map((chain) => `:${chain} ACCEPT [0:0]`)
    if (lines === 'foreign') throw new Error(`table ${table} cannot be changed`)
    result.set(table, body.trimEnd().split('\n').reduce(applyCommand, lines))
  }
  return result
}

/** Applies one command to the lines of a table. */
function applyCommand(lines: readonly string[], command: string): readonly string[] {
  const has = (chain: string): boolean => lines.some((line) => line.startsWith(`:${chain} `))
  const need = (condition: boolean): void => {
    if (!condition) throw new Error(`refused: ${command}\n${lines.join('\n')}`)
  }
  const declared = /^:(\S+) - \[0:0\]$/.exec(command)?.[1]
  if (declared !== undefined) {
    const others = lines.filter((line) => !line.startsWith(`-A ${declared} `))
    return has(declared) ? others : [`:${declared} - [0:0]`, ...others]
  }
  const numbered = /^-I (\S+) (\d+) (.*)$/.exec(command)
  if (numbered !== null) {
    const [, parent = '', number, rule = ''] = numbered
    need(has(parent))
    const places = [...lines.keys()].filter((at) => lines[at]?.startsWith(`-A ${parent} `))
    const at = places[Number(number) - 1]
    need(at !== undefined || Number(number) === places.length + 1)
    return at === undefined
      ? [...lines, `-A ${parent} ${rule}`]
      : lines.toSpliced(at, 0, `-A ${parent} ${rule}`)
  }
  const [option, chain = '', ...words] = command.split(' ')
  const line = ['-A', chain, ...words].join(' ')
  if (option === '-N') need(!has(chain))
  else need(has(chain))
  const jump = words.includes('-j') ? (words[words.indexOf('-j') + 1] ?? '') : ''
  switch (option) {
    case '-N':
      return [`:${chain} - [0:0]`, ...lines]
    case '-A':
      need(jump === '' || /^[A-Z]+$/.test(jump) || has(jump))
      return [...lines, line]
    case '-I': {
      const first = lines.findIndex((each) => each.startsWith(`-A ${chain} `))
      return first === -1 ? [...lines, line] : lines.toSpliced(first, 0, line)
    }
    case '-D':
      need(lines.includes(line))
      return lines.toSpliced(lines.indexOf(line), 1)
    case '-X':
      need(!lines.some((each) => each.startsWith(`-A ${chain} `) || each.endsWith(` -j ${chain}`)))
      return lines.filter((each) => !each.startsWith(`:${chain} `))
    default:
      throw new Error(`unknown command: ${command}`)
  }
}
