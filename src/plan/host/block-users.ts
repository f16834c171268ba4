/** Who uses a further subnet of this host: as long as somebody does, it is not given back. */
import { familyOf, formatIp, formatPrefix, type Prefix, prefixesOverlap } from '../../model/address'
import { count } from '../../model/count'
import type { BridgeUse } from './usage'

/** Users that are named of one kind. */
const MOST_NAMED = 8

/** A network of a container engine. */
export interface NetworkOfEngine {
  /** `the network web of Docker` */
  readonly name: string
  readonly subnets: readonly Prefix[]
}

/** An announced prefix. */
export interface AnnouncedPrefix {
  readonly prefix: Prefix
  /** The name of the announcing host's subnet in etcd. */
  readonly host: string
}

export interface BlockSurroundings {
  /** Links with an address in the block. */
  readonly bridges: readonly BridgeUse[]
  readonly networks: readonly NetworkOfEngine[]
  /** Of all hosts, without the block itself. */
  readonly announced: readonly AnnouncedPrefix[]
}

/** The users of a block in words; none where it may be given back. */
export function usersOf(block: Prefix, { bridges, networks, announced }: BlockSurroundings): string[] {
  const isIn = (other: Prefix): boolean =>
    familyOf(other.address) === familyOf(block.address) && prefixesOverlap(other, block)
  return [
    ...networks
      .filter(({ subnets }) => subnets.some(isIn))
      .map(({ name, subnets }) => `${name} (${subnets.filter(isIn).map(formatPrefix).join(', ')})`),
    ...bridges.map(describeBridge),
    ...limited(
      announced
        .filter(({ prefix }) => isIn(prefix))
        .map(({ prefix, host }) => `${formatPrefix(prefix)}, which ${host} announces`),
      'announced prefix',
      'announced prefixes',
    ),
  ]
}

function describeBridge({ bridge, ports, addresses }: BridgeUse): string {
  const shown = limited(
    addresses.map(({ address }) => formatIp(address)),
    'address',
    'addresses',
  )
  const uses = [
    ...(ports.length === 0 ? [] : [count(ports.length, 'container')]),
    ...(shown.length === 0 ? [] : [shown.join(', ')]),
  ]
  return `the link ${bridge}, which has an address in it${uses.length === 0 ? '' : ` (${uses.join(': ')})`}`
}

function limited(all: readonly string[], one: string, several: string): string[] {
  const more = all.length - MOST_NAMED
  return more <= 0
    ? [...all]
    : [...all.slice(0, MOST_NAMED), `${count(more, `more ${one}`, `more ${several}`)}`]
}
