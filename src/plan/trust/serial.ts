/**
 * Serials of signed leases. Each value that a host signs has a greater one than the value before, so that a
 * value of before is known as such when somebody writes it again.
 */
import { LAST_SERIAL } from '../../model/lease'

/** What a host has signed last. */
export interface Signed {
  /** The value without serial and signature. */
  readonly bare: string
  /** 0 for a value of an overlayd that gave none. */
  readonly serial: number
}

/**
 * The serial for a value. The same value keeps its serial. Another one gets the time, so that a host that has
 * lost its memory goes on above what it has signed before; or one more than before, where the clock was set
 * back.
 * @param before `undefined` if nothing is known to be signed
 * @param now milliseconds since 1970, by a clock that may be wrong
 */
export function nextSerial(before: Signed | undefined, bare: string, now: number): number {
  if (before !== undefined && before.bare === bare && before.serial > 0) return before.serial
  const least = (before?.serial ?? 0) + 1
  return Math.min(Math.max(least, Math.floor(now)), LAST_SERIAL)
}

/** Why a lease is a former one, for people: nearly always a serial is a time. */
export function describeFormer(serial: number, seen: number): string {
  const when = serial === 0 ? 'it has no serial' : `it was signed at ${timeOf(serial)}`
  return `${when}, and one signed at ${timeOf(seen)} was seen`
}

const timeOf = (serial: number): string => new Date(serial).toISOString()

/** The greatest serial that was seen of one subnet, and whose it was. */
export interface SeenSerial {
  /** `10.5.42.0/24` */
  readonly subnet: string
  /** The identity that is pinned: another one begins anew. */
  readonly identity: string
  readonly serial: number
}
