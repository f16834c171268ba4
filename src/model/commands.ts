/** Commands for messages that an operator can copy into a shell. */
import { formatPrefix } from './address'
import type { LeaseSubnet } from './lease'
import { printable } from './printable'

/** Text that a shell takes as one word without quotes. */
const PLAIN = /^[\w./:=@%+,-]+$/

/** A word for a POSIX shell, quoted if necessary. */
export const shellWord = (text: string): string =>
  PLAIN.test(text) ? text : `'${text.replaceAll("'", "'\\''")}'`

/** The command that deletes the lease of a host that is gone. `overlayctl evict` refuses a live one. */
export const evictLease = (subnet: LeaseSubnet): string => `overlayctl evict ${argumentOf(subnet)}`

/** The command that ends a reservation. */
export const releaseLease = (subnet: LeaseSubnet): string => `overlayctl release ${argumentOf(subnet)}`

/** The command that ends the enrolment of a host. */
export const unenrollHost = (subnet: LeaseSubnet): string => `overlayctl unenroll ${argumentOf(subnet)}`

/** The argument that names a lease: one of its subnets. */
const argumentOf = ({ ipv4, ipv6 }: LeaseSubnet): string => {
  const subnet = ipv4 ?? ipv6
  return subnet === undefined ? 'SUBNET' : formatPrefix(subnet)
}

/** The part of a lease's key after `subnets/`. */
export function nameUnderSubnets(key: string): string {
  const at = key.indexOf('/subnets/')
  return at === -1 ? key : key.slice(at + '/subnets/'.length)
}

/**
 * The command that deletes an unreadable key from etcd.
 * @param key the whole key; the command names only the part after `subnets/`
 */
export const evictKey = (key: string): string =>
  `overlayctl evict ${shellWord(printable(nameUnderSubnets(key)))}`

/** Instance names of systemd units, spelled as in file names (systemd.unit(5)). */
export const NETWORK_NAME = /^(?!\.{1,2}$)[A-Za-z0-9:_.-]{1,64}$/

/**
 * Run directory in overlayd@.service. A suffix of 8 hex digits is overlayd's own id of a network without a
 * name.
 */
const RUN_DIRECTORY = /^\/run\/overlayd-(?![0-9a-f]{8}$)([A-Za-z0-9:_.-]{1,64})\/?$/

/**
 * The name of the further network whose daemon uses the run directory.
 * @returns undefined for the host's first network, and for a network without a name
 */
export const networkOfRunDirectory = (directory: string): string | undefined =>
  RUN_DIRECTORY.exec(directory)?.[1]

const COMMANDS = /\boverlayctl (?=[a-z])(?!help |version\b|completion |docker-opts\b)/g
const UNITS = /\b(systemctl (?:start|stop|restart|status) |journalctl -u )overlayd\b(?![@.-])/g

/**
 * Adapts the commands within a text to a further network; for the host's first network the text is unchanged.
 */
export function commandsFor(network: string | undefined, text: string): string {
  if (network === undefined) return text
  return text.replace(COMMANDS, `overlayctl --network=${network} `).replace(UNITS, `$1overlayd@${network}`)
}

/** {@link commandsFor} for every text in plain data. */
export function commandsIn<T>(network: string | undefined, data: T): T
export function commandsIn(network: string | undefined, data: unknown): unknown {
  if (network === undefined) return data
  if (typeof data === 'string') return commandsFor(network, data)
  if (Array.isArray(data)) return data.map((each) => commandsIn<unknown>(network, each))
  if (typeof data !== 'object' || data === null) return data
  if (Object.getPrototypeOf(data) !== Object.prototype) return data
  return Object.fromEntries(
    Object.entries(data).map(([name, each]) => [name, commandsIn<unknown>(network, each)]),
  )
}
