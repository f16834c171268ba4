/**
 * Which peers a host watches: rendezvous hashing. Each host has an order of its own over all peers, which no
 * other peer's coming or going changes. So each host is watched by as many others as it watches on average,
 * and a change of one peer moves few watches.
 */

/** The offset basis and the prime of FNV-1a with 32 bits (Fowler, Noll, Vo). */
const BASIS = 0x811c9dc5
const PRIME = 0x01000193

/**
 * The place of a peer in the order of a host.
 * @param own text of the host's subnet
 * @param peer text of the peer's subnet
 * @returns unsigned 32 bits; the highest comes first
 */
export function rendezvousScore(own: string, peer: string): number {
  let hash = BASIS
  for (const text of [own, ' ', peer]) {
    for (let i = 0; i < text.length; i += 1) hash = Math.imul(hash ^ text.charCodeAt(i), PRIME)
  }
  // FNV-1a alone spreads the last characters badly: the finalizer of MurmurHash3 (fmix32, A. Appleby).
  hash = Math.imul(hash ^ (hash >>> 16), 0x85ebca6b)
  hash = Math.imul(hash ^ (hash >>> 13), 0xc2b2ae35)
  return (hash ^ (hash >>> 16)) >>> 0
}
