/**
 * Applies link operations. Explains refusals of the kernel that an operator can act on by naming the
 * obstacle.
 */
import { constants } from 'node:os'
import { familyOf } from '../../model/address'
import { OverlayError } from '../../model/errors'
import {
  KERNEL_VXLAN_PORT,
  type LinkOperation,
  type LinkSpec,
  type ObservedLink,
  VXLAN_OVERHEAD,
} from '../../model/kernel/link'
import { describeOperation } from '../../model/kernel/words'
import { causeOf } from '../failures'
import type { MessageWriter } from '../netlink/bytes'
import type { NetlinkClient, Question, RequestFormat } from '../netlink/client'
import { NetlinkError } from '../netlink/errors'
import { encodeAddAddress, encodeDeleteAddress } from './addresses'
import {
  encodeChangeLink,
  encodeCreateLink,
  encodeCreateWireguard,
  encodeDeleteLink,
  encodeLinkDown,
  encodeLinkUp,
  encodeRenameLink,
  findLink,
  hasVxlanPart,
  listLinks,
  listLinksIn,
  listNamespaces,
  WIREGUARD,
} from './links'

/** Two sockets: one for requests, one for the dumps that explain a failed request. */
export interface LinkClients {
  readonly requests: NetlinkClient
  readonly dumps: NetlinkClient
}

/**
 * Applies one operation.
 * @throws {OverlayError} `name-taken`, `vni-in-use`, `port-in-use`, `no-vxlan`, `no-wireguard`, `mtu-refused`
 *   or `family-off`, naming the obstacle
 * @throws {NetlinkError} if the kernel refuses for another reason
 */
export async function applyLinkOperation(
  clients: LinkClients,
  operation: LinkOperation,
  signal?: AbortSignal,
): Promise<void> {
  const apply = async (): Promise<void> => {
    for (const step of stepsOf(operation)) await clients.requests.change(step, LINK_FORMAT, signal)
  }
  try {
    await apply()
  } catch (error) {
    if (!(error instanceof NetlinkError)) throw error
    if (isDeletion(operation) && causeOf(error) === 'gone') return
    const explained = await explain(clients, operation, error, signal)
    if (explained === undefined && (await removeObstacle(clients, operation, error, signal))) return apply()
    throw explained ?? error
  }
}

const isDeletion = ({ kind }: LinkOperation): boolean => kind === 'delete-link' || kind === 'delete-address'

/**
 * Removes the obstacle of a failed operation, if the obstacle is ours.
 * @returns whether one was removed
 */
async function removeObstacle(
  clients: LinkClients,
  operation: LinkOperation,
  { errno }: NetlinkError,
  signal: AbortSignal | undefined,
): Promise<boolean> {
  if (operation.kind === 'rename-link' && errno === constants.errno.EBUSY) {
    const down: RequestFormat<LinkOperation> = {
      ...LINK_FORMAT,
      encode: (writer) => encodeLinkDown(writer, operation.index),
    }
    await clients.requests.change(operation, down, signal)
    return true
  }
  if (operation.kind !== 'create-link' || errno !== constants.errno.EEXIST) return false
  return deleteStray(clients, operation.link, signal)
}

/**
 * Deletes our device in another network namespace, if someone moved it there: it still occupies VNI and port
 * of this one. It is recognized by its VNI and MAC.
 * @returns whether it was found
 */
async function deleteStray(
  { requests, dumps }: LinkClients,
  { vni, mac, name }: LinkSpec,
  signal: AbortSignal | undefined,
): Promise<boolean> {
  for (const namespace of await dumps.dump(listNamespaces, signal)) {
    const links = await dumps.dump(listLinksIn(namespace), signal).catch((error: unknown) => {
      // The namespace is just ending, or this process has no rights in it.
      if (error instanceof NetlinkError) return []
      throw error
    })
    const stray = links.find((link) => link.vxlan?.vni === vni && link.mac === mac)
    if (stray === undefined) continue
    const { index } = stray
    const format: RequestFormat<LinkOperation> = {
      encode: (writer) => encodeDeleteLink(writer, index, namespace),
      describe: () => `delete the device ${stray.name} that was moved into another network namespace`,
    }
    await requests.change({ kind: 'delete-link', index, name }, format, signal)
    return true
  }
  return false
}

/**
 * The link with that name; `undefined` if there is none.
 * @throws {NetlinkError} for any error except ENODEV
 */
export const readLink = (
  requests: NetlinkClient,
  name: string,
  signal?: AbortSignal,
): Promise<ObservedLink | undefined> => askLink({ requests }, findLink(name), signal)

/**
 * Requests something about one link; `undefined` if there is no such link.
 * @throws {NetlinkError} for any error except ENODEV
 */
export async function askLink<T>(
  { requests }: Pick<LinkClients, 'requests'>,
  question: Question<T>,
  signal?: AbortSignal,
): Promise<T | undefined> {
  try {
    return await requests.get(question, signal)
  } catch (error) {
    if (error instanceof NetlinkError && error.errno === constants.errno.ENODEV) return undefined
    throw error
  }
}

/**
 * Splits a change that needs two messages: the kernel refuses an MTU in a message with VXLAN attributes
 * (EOPNOTSUPP). The MTU comes last, because the new parent interface limits it.
 */
function stepsOf(operation: LinkOperation): readonly LinkOperation[] {
  if (operation.kind !== 'change-link' || !hasVxlanPart(operation)) return [operation]
  const { mac, mtu, ...vxlan } = operation
  const { kind, index, name } = operation
  if (mac === undefined && mtu === undefined) return [vxlan]
  return [vxlan, { kind, index, name, ...(mac !== undefined && { mac }), ...(mtu !== undefined && { mtu }) }]
}

const LINK_FORMAT: RequestFormat<LinkOperation> = {
  encode: (writer, operation) => encode(writer, operation.kind, operation),
  describe: describeOperation,
}

type OperationOf<K extends LinkOperation['kind']> = Extract<LinkOperation, { readonly kind: K }>

const ENCODE: {
  readonly [K in LinkOperation['kind']]: (writer: MessageWriter, operation: OperationOf<K>) => void
} = {
  'create-link': (writer, { link }) => encodeCreateLink(writer, link),
  'create-wireguard': (writer, { link }) => encodeCreateWireguard(writer, link),
  'delete-link': (writer, { index }) => encodeDeleteLink(writer, index),
  'change-link': encodeChangeLink,
  'rename-link': (writer, { index, name }) => encodeRenameLink(writer, index, name),
  'set-link-up': (writer, { index }) => encodeLinkUp(writer, index),
  'add-address': (writer, { index, address }) => encodeAddAddress(writer, index, address),
  'delete-address': (writer, { index, address }) => encodeDeleteAddress(writer, index, address),
}

const encode = <K extends LinkOperation['kind']>(
  writer: MessageWriter,
  kind: K,
  operation: LinkOperation,
): void => ENCODE[kind](writer, operation as OperationOf<K>)

async function explain(
  clients: LinkClients,
  operation: LinkOperation,
  error: NetlinkError,
  signal: AbortSignal | undefined,
): Promise<OverlayError | undefined> {
  const { EEXIST, EADDRINUSE, EOPNOTSUPP, EINVAL, ERANGE, EAFNOSUPPORT } = constants.errno
  if (error.errno === EINVAL || error.errno === ERANGE) {
    const tooLarge = await explainMtu(clients, operation, error, signal)
    if (tooLarge !== undefined) return tooLarge
  }
  if (error.errno === EAFNOSUPPORT) {
    return new OverlayError(
      'family-off',
      `cannot ${describeOperation(operation)}: this kernel has that address family switched off`,
      'boot it without ipv6.disable=1, or take the family out of the network config',
      { cause: error },
    )
  }
  if (operation.kind === 'rename-link' && error.errno === EEXIST) {
    return nameTaken(operation.name, await readLink(clients.requests, operation.name, signal), error)
  }
  if (operation.kind === 'create-link') {
    if (error.errno === EEXIST) return explainExists(clients, operation.link, error, signal)
    if (error.errno === EOPNOTSUPP) {
      const message = `cannot create ${operation.link.name}: this kernel has no VXLAN devices`
      return new OverlayError('no-vxlan', message, 'load the module (modprobe vxlan)', { cause: error })
    }
  }
  if (operation.kind === 'create-wireguard') {
    const { name } = operation.link
    if (error.errno === EEXIST) return nameTaken(name, await readLink(clients.requests, name, signal), error)
    if (error.errno === EOPNOTSUPP) {
      const message = `cannot create ${name}: this kernel has no WireGuard devices`
      const fix = 'load the module (modprobe wireguard), which Linux has since 5.6'
      return new OverlayError('no-wireguard', message, fix, { cause: error })
    }
  }
  // The kernel opens the UDP socket when the device is set up, not when it is created.
  if (operation.kind === 'set-link-up' && error.errno === EADDRINUSE) {
    return explainPort(clients, operation.name, error, signal)
  }
  return undefined
}

/**
 * The kernel refuses an MTU whose packets do not fit through the parent interface (drivers/net/vxlan,
 * vxlan_change_mtu).
 */
async function explainMtu(
  { dumps }: LinkClients,
  operation: LinkOperation,
  cause: NetlinkError,
  signal: AbortSignal | undefined,
): Promise<OverlayError | undefined> {
  if (operation.kind === 'create-wireguard') return undefined
  const { mtu } = operation.kind === 'create-link' ? operation.link : { mtu: undefined, ...operation }
  if (mtu === undefined) return undefined
  const links = await dumps.dump(listLinks, signal)
  const own = operation.kind === 'create-link' ? undefined : findByIndex(links, operation.index)
  const { name, local, parent } =
    operation.kind === 'create-link' ? operation.link : { ...own?.vxlan, name: own?.name }
  const below = parent === undefined ? undefined : findByIndex(links, parent)
  if (below === undefined || local === undefined) return undefined
  const most = below.mtu - VXLAN_OVERHEAD[familyOf(local)]
  if (mtu <= most) return undefined
  return new OverlayError(
    'mtu-refused',
    `cannot give ${name} the MTU ${mtu}: ${below.name} below it has ${below.mtu}, which leaves ${most}`,
    `raise that of ${below.name}, or set Backend.MTU to ${below.mtu} or less`,
    { cause },
  )
}

const findByIndex = (links: readonly ObservedLink[], index: number): ObservedLink | undefined =>
  links.find((link) => link.index === index)

/** EEXIST has two meanings: the name is taken, or the pair of VNI and port is. */
async function explainExists(
  { requests, dumps }: LinkClients,
  wanted: LinkSpec,
  cause: NetlinkError,
  signal: AbortSignal | undefined,
): Promise<OverlayError | undefined> {
  const namesake = await readLink(requests, wanted.name, signal)
  if (namesake !== undefined) return nameTaken(wanted.name, namesake, cause)
  const links = await dumps.dump(listLinks, signal)
  const rival = links.find(
    ({ vxlan }) =>
      vxlan?.vni === wanted.vni &&
      // The kernel allows the same pair once per family.
      (vxlan.local === undefined || familyOf(vxlan.local) === familyOf(wanted.local)) &&
      (wanted.port === undefined || vxlan.port === wanted.port),
  )
  if (rival?.vxlan === undefined) return undefined
  return new OverlayError(
    'vni-in-use',
    `cannot create ${wanted.name}: the device ${rival.name} already uses VNI ${wanted.vni} ` +
      `on UDP port ${rival.vxlan.port}`,
    `remove it (ip link delete ${rival.name}), or set another Backend.VNI in the network config, ` +
      'or Backend.MulticastVNI if that is the one',
    { cause },
  )
}

function nameTaken(name: string, namesake: ObservedLink | undefined, cause: NetlinkError): OverlayError {
  const kind = namesake?.kind === undefined ? 'network interface' : `device of kind ${namesake.kind}`
  return new OverlayError(
    'name-taken',
    `cannot create ${name}: there is a ${kind} of that name`,
    `remove or rename it (ip link delete ${name})`,
    { cause },
  )
}

async function explainPort(
  { requests, dumps }: LinkClients,
  name: string,
  cause: NetlinkError,
  signal: AbortSignal | undefined,
): Promise<OverlayError> {
  const own = await readLink(requests, name, signal)
  if (own?.kind === WIREGUARD) {
    return new OverlayError(
      'port-in-use',
      `cannot set ${name} up: its UDP port is in use by another program`,
      `free the port (wg show ${name} listen-port; ss -ulpn), or set another EncryptionPort in the ` +
        'network config',
      { cause },
    )
  }
  const port = own?.vxlan?.port ?? KERNEL_VXLAN_PORT
  const links = await dumps.dump(listLinks, signal)
  // Devices share a port unless their options differ (GBP, ...). The kernel's error for that is the same as
  // for a program's port.
  const rival = links.find((link) => link.name !== name && link.up && link.vxlan?.port === port)
  const holder = rival === undefined ? 'another program' : `the device ${rival.name} or a program`
  return new OverlayError(
    'port-in-use',
    `cannot set ${name} up: its UDP port ${port} is in use by ${holder}`,
    `free the port (ss -ulpn 'sport = ${port}'), or set another Backend.Port in the network config`,
    { cause },
  )
}
