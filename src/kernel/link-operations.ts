/** Carries out link operations, and turns the kernel's refusals that an operator can act on into words that say what is in the way. */
import { constants } from 'node:os'
import { familyOf } from '../model/address'
import { describeOperation } from '../model/describe-operation'
import { OverlayError } from '../model/errors'
import type { LinkOperation, LinkSpec, ObservedLink } from '../model/kernel'
import { encodeAddAddress, encodeDeleteAddress } from './addresses'
import {
  encodeChangeLink,
  encodeCreateLink,
  encodeDeleteLink,
  encodeLinkDown,
  encodeLinkUp,
  encodeRenameLink,
  findLink,
  hasVxlanPart,
  KERNEL_VXLAN_PORT,
  listLinks,
  listLinksIn,
  listNamespaces,
} from './links'
import type { MessageWriter } from './netlink/bytes'
import type { NetlinkClient, Question, RequestFormat } from './netlink/client'
import { NetlinkError } from './netlink/errors'
import { isAlreadyGone } from './operations'

/** The two sockets it takes to change a link and, when that fails, to find out why. */
export interface LinkClients {
  readonly requests: NetlinkClient
  readonly dumps: NetlinkClient
}

/**
 * Carries out one operation.
 * @throws {OverlayError} `name-taken`, `vni-in-use`, `port-in-use` or `no-vxlan`, with what is in the way
 * @throws {NetlinkError} when the kernel refuses for another reason
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
    if (isAlreadyGone(operation, error)) return
    const explained = await explain(clients, operation, error, signal)
    if (explained === undefined && (await removeObstacle(clients, operation, error, signal))) return apply()
    throw explained ?? error
  }
}

/**
 * Removes what keeps an operation from being done, where that is ours.
 * @returns whether there was something
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
 * Deletes our device where someone moved it into another network namespace: there it keeps VNI and port of this one to itself. It is known by its MAC.
 * @returns whether it was found
 */
async function deleteStray(
  { requests, dumps }: LinkClients,
  { vni, mac, name }: LinkSpec,
  signal: AbortSignal | undefined,
): Promise<boolean> {
  for (const namespace of await dumps.dump(listNamespaces, signal)) {
    const links = await dumps.dump(listLinksIn(namespace), signal).catch((error: unknown) => {
      // A namespace that is just ending, or one that this process has no rights in.
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
 * The link of that name.
 * @throws {NetlinkError} for any answer but ENODEV
 */
export const readLink = (
  requests: NetlinkClient,
  name: string,
  signal?: AbortSignal,
): Promise<ObservedLink | undefined> => askLink({ requests }, findLink(name), signal)

/**
 * Asks something about one link; `undefined` when there is none.
 * @throws {NetlinkError} for any answer but ENODEV
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
 * The kernel refuses an MTU in a message that has VXLAN attributes (EOPNOTSUPP), so a change of both takes two: the MTU last, for the
 * interface below bounds it.
 */
function stepsOf(operation: LinkOperation): readonly LinkOperation[] {
  if (operation.kind !== 'change-link' || !hasVxlanPart(operation)) return [operation]
  const { mac, mtu, ...vxlan } = operation
  const { kind, index, name } = operation
  if (mac === undefined && mtu === undefined) return [vxlan]
  return [vxlan, { kind, index, name, ...(mac !== undefined && { mac }), ...(mtu !== undefined && { mtu }) }]
}

const LINK_FORMAT: RequestFormat<LinkOperation> = { encode, describe: describeOperation }

function encode(writer: MessageWriter, operation: LinkOperation): void {
  switch (operation.kind) {
    case 'create-link':
      encodeCreateLink(writer, operation.link)
      break
    case 'delete-link':
      encodeDeleteLink(writer, operation.index)
      break
    case 'change-link':
      encodeChangeLink(writer, operation)
      break
    case 'rename-link':
      encodeRenameLink(writer, operation.index, operation.name)
      break
    case 'set-link-up':
      encodeLinkUp(writer, operation.index)
      break
    case 'add-address':
      encodeAddAddress(writer, operation.index, operation.address)
      break
    case 'delete-address':
      encodeDeleteAddress(writer, operation.index, operation.address)
      break
  }
}

async function explain(
  clients: LinkClients,
  operation: LinkOperation,
  error: NetlinkError,
  signal: AbortSignal | undefined,
): Promise<OverlayError | undefined> {
  const { EEXIST, EADDRINUSE, EOPNOTSUPP } = constants.errno
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
  // The kernel opens the UDP socket when the device goes up, not when it is made.
  if (operation.kind === 'set-link-up' && error.errno === EADDRINUSE) {
    return explainPort(clients, operation.name, error, signal)
  }
  return undefined
}

/** EEXIST has two meanings: the name, or the pair of VNI and port. */
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
      // The kernel allows a pair once for each family.
      (vxlan.local === undefined || familyOf(vxlan.local) === familyOf(wanted.local)) &&
      (wanted.port === undefined || vxlan.port === wanted.port),
  )
  if (rival?.vxlan === undefined) return undefined
  return new OverlayError(
    'vni-in-use',
    `cannot create ${wanted.name}: the device ${rival.name} already uses VNI ${wanted.vni} on UDP port ${rival.vxlan.port}`,
    `remove it (ip link delete ${rival.name}), or set another Backend.VNI in the network config, or Backend.MulticastVNI where that is the one`,
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
  const port = (await readLink(requests, name, signal))?.vxlan?.port ?? KERNEL_VXLAN_PORT
  const links = await dumps.dump(listLinks, signal)
  // Devices share a port unless their options differ (GBP, ...); then the kernel's refusal looks the same as that of a program's port.
  const rival = links.find((link) => link.name !== name && link.up && link.vxlan?.port === port)
  const holder = rival === undefined ? 'another program' : `the device ${rival.name} or a program`
  return new OverlayError(
    'port-in-use',
    `cannot set ${name} up: its UDP port ${port} is in use by ${holder}`,
    `free the port (ss -ulpn 'sport = ${port}'), or set another Backend.Port in the network config`,
    { cause },
  )
}
