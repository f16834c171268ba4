/**
 * Docker's options in subnet.env itself. Units of many tutorials have mk-docker-opts.sh write them over its
 * own input (`-d /run/flannel/subnet.env`), and dockerd reads them from there. So these lines are kept, with
 * current values, when the file is rewritten.
 */

import {
  addressAfter,
  familyOf,
  formatPrefix,
  type Ipv4Prefix,
  type Ipv6Prefix,
  networkOf,
  type Prefix,
  parseIpPrefix,
  parseIpv4Prefix,
  parseIpv6Prefix,
  samePrefix,
} from './address'
import { LONGEST_NETWORK6, MASQUERADE_OPTION, MTU_OPTION, poolFlags, shareOut } from './docker'

/**
 * A line as {@link import('../plan/host/docker-options').dockerOptions} writes it. Text that would need
 * quoting is not written by it.
 */
const LINE = /^(?!FLANNEL_)([A-Za-z_]\w{0,63})="([^"\\$`\p{C}]{0,3000})"$/u

/** Most lines that are kept; docker-opts writes seven. */
const MOST_LINES = 16

/** Flags that docker-opts makes of what overlayd writes. */
export const DERIVED_FLAG =
  /^--(?:bip|mtu|ip-masq|fixed-cidr-v6|bridge-accept-fwmark|default-address-pool|default-network-opt)=/
const POOL = /^--default-address-pool=base=[\d.]+\/\d+,size=(\d{1,2})$/

/** dockerd's flags for a subnet that is shared out between docker0 and further networks. */
export interface SharedFlags {
  readonly bip: string
  /** For docker0; empty without IPv6. */
  readonly ipv6: readonly string[]
  /** For further networks. */
  readonly pools: readonly string[]
}

/**
 * @param length of docker0's part and of each network. The parts of the IPv6 subnet are as many.
 * @param further subnets of the host besides, which are for networks alone; those without room are left out
 * @returns `undefined` if there is no room
 */
export function sharedFlags(
  subnet: Ipv4Prefix,
  subnet6: Ipv6Prefix | undefined,
  length: number,
  further: readonly Prefix[] = [],
): SharedFlags | undefined {
  const shared = shareOut(subnet, length)
  if (shared === undefined) return undefined
  const gateway = { address: addressAfter(shared.bridge.address, 1n), length }
  const bip = `--bip=${formatPrefix(gateway)}`
  const furtherOf = (family: 'IPv4' | 'IPv6', size: number): string[] => {
    const fits = (each: Prefix): boolean => familyOf(each.address) === family && each.length <= size
    return poolFlags(further.filter(fits), size)
  }
  const pools = poolFlags(shared.pools, length)
  if (subnet6 === undefined) return { bip, ipv6: [], pools: [...pools, ...furtherOf('IPv4', length)] }
  const length6 = subnet6.length + length - subnet.length
  const shared6 = length6 > LONGEST_NETWORK6 ? undefined : shareOut(subnet6, length6)
  if (shared6 === undefined) return undefined
  return {
    bip,
    ipv6: ['--ipv6', `--fixed-cidr-v6=${formatPrefix(shared6.bridge)}`],
    pools: [
      ...pools,
      ...poolFlags(shared6.pools, length6),
      ...furtherOf('IPv4', length),
      ...furtherOf('IPv6', length6),
    ],
  }
}

interface DockerLine {
  readonly name: string
  readonly words: readonly string[]
}

function dockerLines(content: string): DockerLine[] {
  const lines: DockerLine[] = []
  for (const line of content.split('\n')) {
    const [, name, value = ''] = LINE.exec(line) ?? []
    const words = value.split(' ')
    if (name === undefined || !(name.startsWith('DOCKER_') || words.some((word) => DERIVED_FLAG.test(word))))
      continue
    if (lines.length < MOST_LINES) lines.push({ name, words })
  }
  return lines
}

/**
 * Adds the file's present Docker lines to its new text, with the new subnet, MTU and masquerading.
 * @param text the new text, without Docker's lines
 * @param content the present content of the file
 */
export function withDockerLines(text: string, content: string): string {
  const value = (name: string): string | undefined => new RegExp(`^${name}=(.*)$`, 'm').exec(text)?.[1]
  const lines = dockerLines(content)
  const renew = renewal(value, lines)
  return text + lines.map(({ name, words }) => `${name}="${words.flatMap(renew).join(' ')}"\n`).join('')
}

const MTU_DEFAULT = `--default-network-opt=bridge=${MTU_OPTION}=`
const MASQUERADE_DEFAULT = `--default-network-opt=bridge=${MASQUERADE_OPTION}=`

/** What becomes of each word. */
function renewal(
  value: (name: string) => string | undefined,
  lines: readonly DockerLine[],
): (word: string, index: number, all: readonly string[]) => readonly string[] {
  const [subnet, mtu, masq] = [value('FLANNEL_SUBNET'), value('FLANNEL_MTU'), value('FLANNEL_IPMASQ')]
  const sizes = lines.flatMap(({ words }) => words.flatMap((word) => POOL.exec(word)?.[1] ?? []))
  const prefix = parseIpv4Prefix(subnet ?? '')
  const shared =
    sizes[0] === undefined || prefix === undefined
      ? undefined
      : sharedFlags(prefix, parseIpv6Prefix(value('FLANNEL_IPV6_SUBNET') ?? ''), Number(sizes[0]))
  const isShared = sizes.length > 0 && prefix !== undefined
  const parts = lines.flatMap(({ words }) => words.flatMap((word) => partOf(word) ?? []))
  return (word, index, all) => {
    if (word.startsWith('--bip=') && subnet !== undefined) return [shared?.bip ?? `--bip=${subnet}`]
    if (word.startsWith('--mtu=') && mtu !== undefined) return [`--mtu=${mtu}`]
    if (word.startsWith('--ip-masq=') && masq !== undefined) return [`--ip-masq=${masq === 'false'}`]
    if (word.startsWith(MTU_DEFAULT) && mtu !== undefined) return [`${MTU_DEFAULT}${mtu}`]
    if (word.startsWith(MASQUERADE_DEFAULT) && masq !== undefined)
      return [`${MASQUERADE_DEFAULT}${masq === 'false'}`]
    // A subnet without room for the parts is docker0's as a whole.
    if (isShared && isPool(word)) {
      const kept = furtherPools(all, parts)
      return all.findIndex(isPool) === index ? [...(shared?.pools ?? []), ...kept] : []
    }
    if (isShared && word === '--ipv6') return shared?.ipv6.slice(0, 1) ?? []
    if (isShared && word.startsWith('--fixed-cidr-v6=')) return shared?.ipv6.slice(1) ?? []
    return [word]
  }
}

const PART = /^--(?:bip|fixed-cidr-v6)=(\S+)$/
const BASE = /^--default-address-pool=base=([^,]+),/

const parse = (text: string | undefined): Prefix | undefined => parseIpPrefix(text ?? '')

/** docker0's part, of a word that names it. */
function partOf(word: string): Prefix | undefined {
  const part = parse(PART.exec(word)?.[1])
  return part && networkOf(part.address, part.length)
}

/**
 * The pools among the words that are no parts of the subnet of which the words were made: further subnets of
 * the host. {@link shareOut} gives docker0's part its other half first, then both together theirs, and so on.
 */
function furtherPools(words: readonly string[], parts: readonly Prefix[]): string[] {
  const shared = [...parts]
  return words.filter((word) => {
    const pool = parse(BASE.exec(word)?.[1])
    if (pool === undefined) return false
    const place = shared.findIndex((part) => isOtherHalf(pool, part))
    if (place !== -1) shared[place] = networkOf(pool.address, pool.length - 1)
    return place === -1 && parts.some(({ address }) => familyOf(address) === familyOf(pool.address))
  })
}

const isOtherHalf = (pool: Prefix, part: Prefix): boolean =>
  familyOf(pool.address) === familyOf(part.address) &&
  pool.length === part.length &&
  pool.length > 0 &&
  !samePrefix(pool, part) &&
  samePrefix(networkOf(pool.address, pool.length - 1), networkOf(part.address, part.length - 1))

const isPool = (word: string): boolean => word.startsWith('--default-address-pool=')
