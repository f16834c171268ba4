/** A free part of the host's subnet for one more network of containers. */
import {
  addressAfter,
  addressBits,
  familyOf,
  formatPrefix,
  networkOf,
  type Prefix,
  prefixContains,
  prefixesOverlap,
} from '../../model/address'
import { type Failed, failed, found, type Result } from '../../model/result'

/** A prefix from which another network gives addresses to containers. */
export interface TakenPart {
  /** `the network web` */
  readonly name: string
  readonly prefix: Prefix
  /** How the network leaves room, as an order, if it has all of the subnet. */
  readonly room: string
}

export interface PartRequest {
  readonly subnet: Prefix
  /** The wanted part; if it is left out, a free one of the length is looked for. */
  readonly part: Prefix | undefined
  readonly length: number
  /** Where a free part is looked for. Docker hands out parts from the start. */
  readonly from: 'start' | 'end'
}

/**
 * @param code of a failure
 * @returns the part, or why there is none
 */
export function freePart(
  { subnet, part, length, from }: PartRequest,
  taken: readonly TakenPart[],
  code: string,
): Result<Prefix> {
  const refuse = refusal(code)
  if (part === undefined) {
    const free = from === 'start' ? firstFree(subnet, length, taken) : lastFree(subnet, length, taken)
    return free === undefined ? refuse(noneFree(subnet, length, taken)) : found(free)
  }
  const wanted = networkOf(part.address, part.length)
  if (!prefixContains(subnet, wanted.address) || wanted.length < subnet.length)
    return refuse(`${formatPrefix(part)} is not in this host's subnet ${formatPrefix(subnet)}`)
  const other = taken.find(({ prefix }) => prefixesOverlap(prefix, wanted))
  return other === undefined
    ? found(wanted)
    : refuse(`${formatPrefix(wanted)} overlaps ${formatPrefix(other.prefix)} of ${other.name}`)
}

export const refusal =
  (code: string) =>
  (text: string): Failed =>
    failed({ part: code, code, text })

/** Each step passes a network, or ends. */
function firstFree(subnet: Prefix, length: number, taken: readonly TakenPart[]): Prefix | undefined {
  const bits = addressBits(familyOf(subnet.address))
  let candidate: Prefix = networkOf(subnet.address, length)
  for (;;) {
    const inTheWay = taken.find(({ prefix }) => prefixesOverlap(prefix, candidate))
    if (inTheWay === undefined) return candidate
    const passed = Math.min(inTheWay.prefix.length, length)
    const block = networkOf(candidate.address, passed)
    const next = networkOf(addressAfter(block.address, 1n << BigInt(bits - passed)), length)
    const isOver = passed <= subnet.length || !prefixContains(subnet, next.address)
    if (isOver || next.address <= candidate.address) return undefined
    candidate = next
  }
}

/** The same from the other side. */
function lastFree(subnet: Prefix, length: number, taken: readonly TakenPart[]): Prefix | undefined {
  const bits = addressBits(familyOf(subnet.address))
  const size = (each: number): bigint => 1n << BigInt(bits - each)
  let candidate = networkOf(addressAfter(subnet.address, size(subnet.length) - size(length)), length)
  for (;;) {
    const inTheWay = taken.find(({ prefix }) => prefixesOverlap(prefix, candidate))
    if (inTheWay === undefined) return candidate
    const block = networkOf(candidate.address, Math.min(inTheWay.prefix.length, length))
    if (block.length <= subnet.length || block.address <= subnet.address) return undefined
    candidate = networkOf(addressAfter(block.address, -size(length)), length)
  }
}

function noneFree(subnet: Prefix, length: number, taken: readonly TakenPart[]): string {
  const inside = taken.filter(({ prefix }) => prefixesOverlap(prefix, subnet))
  const all = inside.find(({ prefix }) => prefix.length <= subnet.length)
  return all === undefined
    ? `no part of /${length} of ${formatPrefix(subnet)} is free: ${inside.length} networks have parts of it`
    : `all of ${formatPrefix(subnet)} is taken by ${all.name}; ${all.room}`
}
