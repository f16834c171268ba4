/**
 * The mark by which Docker's own nftables backend lets packets of other hosts in. dockerd 29 accepts packets
 * with a mark that it is told (`--bridge-accept-fwmark`), and a rule of ours gives the mark to packets of the
 * overlay.
 */

/** A bit that none of {@link MARK_USERS} uses. */
export const DEFAULT_DOCKER_MARK = 0x1000

/** The bit by which ours and Kubernetes' rules know what is not to be masqueraded. */
const NO_MASQUERADE = 0x4000

/** Programs that set or test bits of the mark, by their own defaults. */
const MARK_USERS: readonly (readonly [mask: number, program: string])[] = [
  [0x80, 'the CNI of AWS'],
  [0xf00, 'Cilium'],
  [0x2000, "CNI's portmap and netavark"],
  [0xc000, 'kube-proxy'],
  [0x20000, 'Weave'],
  [0xff0000, 'Tailscale'],
  [0xffff0000, 'Calico'],
]

/** The programs that use the bit too. */
export const usersOfMark = (bit: number): readonly string[] =>
  MARK_USERS.flatMap(([mask, program]) => ((bit & mask) === 0 ? [] : [program]))

export const formatMark = (bit: number): string => `0x${bit.toString(16)}`

/** Reads `0x1000` or `4096`. @returns `undefined` for what is not one bit, or not free to be used */
export function parseMark(text: string): number | undefined {
  const bit = /^(?:0x[\da-f]{1,8}|\d{1,10})$/i.test(text) ? Number(text) : Number.NaN
  const isOneBit = bit > 0 && bit <= 0x8000_0000 && Number.isInteger(Math.log2(bit))
  return isOneBit && bit !== NO_MASQUERADE ? bit : undefined
}
