/** Flags that name a part of the host's subnet. */
import {
  FAMILIES,
  familyOf,
  formatPrefix,
  type Ipv4Prefix,
  type Prefix,
  parseIpPrefix,
  parseIpv4Prefix,
} from '../../model/address'
import { OverlayError } from '../../model/errors'

/**
 * Reads the value of --subnet.
 * @throws {OverlayError} with the code
 */
export function readPart(text: string, code: string): Ipv4Prefix {
  const part = parseIpv4Prefix(text)
  if (part !== undefined) return part
  const what = `--subnet is ${JSON.stringify(text.slice(0, 64))}, which is not an IPv4 prefix`
  throw new OverlayError(code, what, "name a part of this host's subnet: --subnet=10.5.7.64/27")
}

/**
 * Reads the values of --subnet where each family may have one.
 * @throws {OverlayError} with the code
 */
export function readParts(texts: readonly string[], code: string): readonly Prefix[] {
  const parts = texts.map((text): Prefix => {
    const part = parseIpPrefix(text)
    if (part !== undefined) return part
    const what = `--subnet is ${JSON.stringify(text.slice(0, 64))}, which is not a prefix`
    const fix = "name a part of this host's subnet: --subnet=10.5.7.64/27, or --subnet=fd00:5:0:7::/66"
    throw new OverlayError(code, what, fix)
  })
  for (const family of FAMILIES) {
    const some = parts.filter(({ address }) => familyOf(address) === family)
    if (some.length < 2) continue
    const what = `--subnet names ${some.length} parts of ${family}: ${some.map(formatPrefix).join(' and ')}`
    throw new OverlayError(code, what, 'a network has one part of each family: give --subnet once for each')
  }
  return parts
}

/**
 * Reads the value of --size.
 * @throws {OverlayError} with the code
 */
export function readLength(text: string, code: string): number {
  const [, length] = /^\/?(\d{1,2})$/.exec(text) ?? []
  if (length !== undefined) return Number(length)
  const what = `--size is ${JSON.stringify(text.slice(0, 64))}, which is not a prefix length`
  throw new OverlayError(code, what, 'name one, as in --size=27')
}
