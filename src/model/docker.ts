/**
 * What Docker's networks need to be part of the overlay: a share of the host's subnet, and options of the
 * driver `bridge`. Names of options and the versions that have them are Docker's.
 */
import {
  addressAfter,
  addressBits,
  familyOf,
  formatPrefix,
  type IpAddress,
  networkOf,
  type Prefix,
} from './address'

/** A version of Docker, as far as what it can do depends on it. */
export interface DockerVersion {
  /** As Docker prints it: `20.10.24+dfsg1`. */
  readonly text: string
  readonly major: number
}

/** Reads `28.5.2+dfsg4`, and also `Docker version 28.5.2+dfsg4, build ecc6942`. */
export function parseDockerVersion(text: string): DockerVersion | undefined {
  const [, found = '', major = ''] =
    /^(?:Docker version )?((\d{1,3})\.\d{1,3}[\w.+~-]{0,60})/.exec(text) ?? []
  return found === '' ? undefined : { text: found, major: Number(major) }
}

/** dockerd takes options for all new networks since 24.0 (`--default-network-opt`, moby #43197). */
export const hasNetworkDefaults = ({ major }: DockerVersion): boolean => major >= 24

/** A host's subnet, shared out between docker0 and the networks that Docker makes later. */
export interface SharedSubnet<Address extends IpAddress = IpAddress> {
  /** docker0's part, the first one. */
  readonly bridge: Prefix<Address>
  /** The rest, the smallest part first. Each is a base of Docker's for networks of the asked length. */
  readonly pools: readonly Prefix<Address>[]
}

/** Prefix length of the smallest IPv4 network that holds a container beside its gateway. */
export const LONGEST_NETWORK = 30
export const LONGEST_NETWORK6 = 126

/**
 * Shares out a subnet in parts of one length. docker0 gets the first part, because the bridge address of a
 * host is the first one of its subnet. What is left is not one block, but one of each length in between.
 * @param length of the parts; longer than the subnet's own
 * @returns `undefined` if the subnet has no room for two such parts
 */
export function shareOut<Address extends IpAddress>(
  subnet: Prefix<Address>,
  length: number,
): SharedSubnet<Address> | undefined {
  const bits = addressBits(familyOf(subnet.address))
  if (length <= subnet.length || length > bits) return undefined
  const { address } = networkOf(subnet.address, subnet.length)
  const pools: Prefix<Address>[] = []
  for (let each = length; each > subnet.length; each -= 1)
    pools.push({ address: addressAfter(address, 1n << BigInt(bits - each)), length: each })
  return { bridge: { address, length }, pools }
}

/** dockerd's flags for the pools of which it makes networks. */
export const poolFlags = (pools: readonly Prefix[], length: number): string[] =>
  pools.map((pool) => `--default-address-pool=base=${formatPrefix(pool)},size=${length}`)

/** Name and value of an option of the driver `bridge`. */
export type NetworkOption = readonly [name: string, value: string]

export const MTU_OPTION = 'com.docker.network.driver.mtu'
export const MASQUERADE_OPTION = 'com.docker.network.bridge.enable_ip_masquerade'

/**
 * The options of a network in the overlay. Docker's masquerading is off where overlayd masquerades: Docker's
 * rule matches whatever leaves the bridge, and so packets to other hosts too.
 * @param ipMasq whether overlayd masquerades
 */
export const networkOptions = (mtu: number | undefined, ipMasq: boolean): readonly NetworkOption[] => [
  ...(mtu === undefined ? [] : [[MTU_OPTION, `${mtu}`] as const]),
  ...(ipMasq ? [[MASQUERADE_OPTION, 'false'] as const] : []),
]

/** dockerd's flags that give all new networks the options. */
export const defaultFlags = (options: readonly NetworkOption[]): string[] =>
  options.map(([name, value]) => `--default-network-opt=bridge=${name}=${value}`)

/** A network of Docker's driver `bridge`. */
export interface DockerNetwork {
  readonly name: string
  /** Name of its bridge. */
  readonly bridge: string
  readonly subnets: readonly Prefix[]
  /** As its options say; `undefined` where they say nothing, which for Docker is 1500. */
  readonly mtu: number | undefined
  /** Whether Docker masquerades what leaves it. */
  readonly masquerades: boolean
  /** Whether Docker lets nothing out of it (`--internal`). */
  readonly isInternal: boolean
}

/** The name that Docker gives to the bridge of a network. */
export const bridgeName = (id: string, options: Readonly<Record<string, string>>): string =>
  options['com.docker.network.bridge.name'] ?? `br-${id.slice(0, 12)}`

/** Whether a value of Docker's is false, by Go's strconv.ParseBool. */
export const isFalse = (text: string | undefined): boolean =>
  text !== undefined && ['0', 'f', 'F', 'false', 'FALSE', 'False'].includes(text)
