/**
 * What peers are checked against besides each other: the addresses that this host needs outside of the
 * overlay, and those on its links that no host has.
 */
import {
  addressAfter,
  familyOf,
  formatIp,
  formatPrefix,
  type IpAddress,
  networkOf,
  type Prefix,
  prefixContains,
  prefixSize,
} from '../../model/address'
import type { Peer } from '../../model/lease'
import { FIELDS, type ProtectedAddress } from './claim'

export class Surroundings {
  #protected: readonly ProtectedAddress[] = []
  /** addresses that no host has -> why */
  #nobodys: ReadonlyMap<IpAddress, string> = new Map()
  /** Networks of link-local addresses on this host's links. */
  #linkLocal: readonly Prefix[] = []

  /**
   * @param endangered addresses that a peer's subnet may cover, and must not
   * @param links prefixes on this host's links
   * @returns whether they are others than before
   */
  adopt(endangered: readonly ProtectedAddress[], links: readonly Prefix[]): boolean {
    const nobodys = nobodysOf(links)
    const words = (list: readonly ProtectedAddress[]): string => list.map(describeProtected).sort().join()
    const linkLocal = links.filter(({ address }) => isLinkLocal(address))
    const isSame =
      words(endangered) === words(this.#protected) &&
      linkLocal.map(formatPrefix).join() === this.#linkLocal.map(formatPrefix).join() &&
      nobodys.size === this.#nobodys.size &&
      [...nobodys].every(([address, why]) => this.#nobodys.get(address) === why)
    if (isSame) return false
    this.#protected = endangered
    this.#nobodys = nobodys
    this.#linkLocal = linkLocal
    return true
  }

  /** Why a peer would cut this host off, or cannot exist; `undefined` where nothing is against it. */
  objection({ publicIp, subnet }: Pick<Peer, 'publicIp' | 'subnet'>): string | undefined {
    const nobody = this.#nobodys.get(publicIp) ?? this.#notOnLink(publicIp)
    if (nobody !== undefined)
      return `${FIELDS[familyOf(publicIp)].ip} ${formatIp(publicIp)} is not a reachable host: it is ${nobody}`
    const covered = this.#protected.find(({ address }) => prefixContains(subnet, address))
    return covered && `subnet ${formatPrefix(subnet)} covers ${describeProtected(covered)}`
  }

  /**
   * Why a link-local address does not lead to a host. flanneld uses such an address for its own host if a
   * link has no other.
   */
  #notOnLink(publicIp: IpAddress): string | undefined {
    if (!isLinkLocal(publicIp)) return undefined
    if (publicIp === METADATA) return "a cloud's metadata service"
    return this.#linkLocal.some((link) => prefixContains(link, publicIp))
      ? undefined
      : 'link-local (169.254.0.0/16), and no link of this host is in that network'
  }
}

/** 169.254.0.0/16 (RFC 3927). IPv6 link-local addresses are refused before, as not unicast. */
const isLinkLocal = (address: IpAddress): boolean => typeof address === 'number' && address >>> 16 === 0xa9fe

/** 169.254.169.254: the metadata service of clouds. */
const METADATA = 0xa9fea9fe

/**
 * The first and last address of an IPv4 network on a link: its network and broadcast address (RFC 922).
 * Networks of two addresses or one have neither.
 */
function nobodysOf(links: readonly Prefix[]): ReadonlyMap<IpAddress, string> {
  const nobodys = new Map<IpAddress, string>()
  for (const { address, length } of links) {
    if (typeof address !== 'number' || length > 30 || length === 0) continue
    const network = networkOf(address, length)
    const last = addressAfter(network.address, prefixSize('IPv4', length) - 1n)
    const where = `of ${formatPrefix(network)}, a network of this host`
    nobodys.set(network.address, `the network address ${where}`)
    nobodys.set(last, `the broadcast address ${where}`)
  }
  return nobodys
}

const describeProtected = ({ address, what }: ProtectedAddress): string => `${formatIp(address)}, ${what}`
