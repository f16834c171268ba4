/** Users and roles of etcd, for hosts that are enrolled. */
import type { LeaseSubnet } from '../model/lease'
import type { EtcdCalls } from './client/client'
import { EtcdError } from './client/errors'
import { formatSubnetName, type Keys } from './codec/keys'
import { prefixRangeOf } from './codec/prefix-codec'

/** A right on one key, or on all keys of a range. */
export interface Right {
  readonly kind: 'read' | 'readwrite'
  readonly key: string
  /** Excluded; absent for one key. */
  readonly end?: string
}

/** Error texts of etcd (api/v3rpc/rpctypes/error.go). */
const USER_EXISTS = 'user name already exists'
const USER_MISSING = 'user name not found'
const ROLE_EXISTS = 'role name already exists'
const ROLE_MISSING = 'role name not found'

const TYPES = { read: 'Read', readwrite: 'Readwrite' } as const

/** The answer of a call; `undefined` for an error with that text of etcd. */
async function orMissing<T>(text: string, call: Promise<T>): Promise<T | undefined> {
  try {
    return await call
  } catch (error) {
    if (error instanceof EtcdError && error.message.includes(text)) return undefined
    throw error
  }
}

/** Awaits a call; an error with that text of etcd is no failure. @returns whether there was none */
const unless = async (text: string, call: Promise<object>): Promise<boolean> =>
  (await orMissing(text, call)) !== undefined

/**
 * The rights that a host needs: to read the network, and to write its own lease, its own groups and its own
 * prefixes. What it writes beside that is refused.
 */
export const hostRights = (keys: Keys, subnet: LeaseSubnet): Right[] => [
  { kind: 'read', key: keys.range.start, end: keys.range.end },
  ...[keys.subnets, keys.groups].map((place) => ({
    kind: 'readwrite' as const,
    key: place + formatSubnetName(subnet),
  })),
  prefixRight(keys, subnet),
]

const prefixRight = (keys: Keys, subnet: LeaseSubnet): Right => {
  const { start, end } = prefixRangeOf(keys, subnet)
  return { kind: 'readwrite', key: start, end }
}

export class Users {
  constructor(
    private readonly client: EtcdCalls,
    private readonly keys: Keys,
  ) {}

  /**
   * Checks that a name is free, or that of a host of the subnet: enrolment must neither widen the rights of
   * somebody else, nor delete the user of somebody else at its end.
   * @throws {EtcdError} `etcd-failed`
   */
  async check(name: string, subnet: LeaseSubnet, signal: AbortSignal): Promise<void> {
    await this.#missing(name, hostRights(this.keys, subnet), signal)
    const reading = this.client.call(
      `read the user ${name}`,
      (etcd, call) => etcd.auth.userGet({ name }, call),
      signal,
    )
    const other = (await orMissing(USER_MISSING, reading))?.roles.find((role) => role !== name)
    if (other !== undefined) throw notOurs(`the user ${name} exists, and has the role ${other}`)
  }

  /**
   * Makes a user and a role of the same name for the host of a subnet. Each step may be repeated.
   * @param password `undefined` for a user who comes with a certificate
   * @returns `existed` when there was such a user: the password is as it was
   * @throws {EtcdError} `etcd-failed` as {@link check}
   */
  async make(
    name: string,
    subnet: LeaseSubnet,
    password: string | undefined,
    signal: AbortSignal,
  ): Promise<'made' | 'existed'> {
    await this.#makeRole(name, hostRights(this.keys, subnet), signal)
    const options = { no_password: password === undefined }
    const adding = this.client.call(
      `make the user ${name}`,
      (etcd, call) => etcd.auth.userAdd({ name, password: password ?? '', options }, call),
      signal,
    )
    const isNew = await unless(USER_EXISTS, adding)
    await this.client.call(
      `give the user ${name} its role`,
      (etcd, call) => etcd.auth.userGrantRole({ user: name, role: name }, call),
      signal,
    )
    return isNew ? 'made' : 'existed'
  }

  /** Gives a user another password: etcd forgets the tokens of the former one. */
  async changePassword(name: string, password: string, signal: AbortSignal): Promise<void> {
    await this.client.call(
      `change the password of the user ${name}`,
      (etcd, call) => etcd.auth.userChangePassword({ name, password }, call),
      signal,
    )
  }

  /** Removes a user, whose tokens end with it, and then the role of that name. */
  async remove(name: string, signal: AbortSignal): Promise<void> {
    const user = this.client.call(
      `delete the user ${name}`,
      (etcd, call) => etcd.auth.userDelete({ name }, call),
      signal,
    )
    await unless(USER_MISSING, user)
    const role = this.client.call(
      `delete the role ${name}`,
      (etcd, call) => etcd.auth.roleDelete({ role: name }, call),
      signal,
    )
    await unless(ROLE_MISSING, role)
  }

  async #makeRole(name: string, rights: readonly Right[], signal: AbortSignal): Promise<void> {
    const adding = this.client.call(
      `make the role ${name}`,
      (etcd, call) => etcd.auth.roleAdd({ name }, call),
      signal,
    )
    const missing = (await unless(ROLE_EXISTS, adding)) ? rights : await this.#missing(name, rights, signal)
    for (const { kind, key, end } of missing) {
      const perm = {
        permType: TYPES[kind],
        key: Buffer.from(key),
        range_end: Buffer.from(end ?? ''),
      }
      await this.client.call(
        `give the role ${name} its rights`,
        (etcd, call) => etcd.auth.roleGrantPermission({ name, perm }, call),
        signal,
      )
    }
  }

  /**
   * The rights that a role lacks.
   * @throws {EtcdError} `etcd-failed` if the role has other rights: it is somebody else's
   */
  async #missing(name: string, rights: readonly Right[], signal: AbortSignal): Promise<readonly Right[]> {
    const reading = this.client.call(
      `read the role ${name}`,
      (etcd, call) => etcd.auth.roleGet({ role: name }, call),
      signal,
    )
    const perm = (await orMissing(ROLE_MISSING, reading))?.perm ?? []
    const textOf = (type: string, key: string, end: string): string => JSON.stringify([type, key, end])
    const wanted = new Map(
      rights.map((right) => [textOf(TYPES[right.kind], right.key, right.end ?? ''), right]),
    )
    for (const { permType, key, range_end } of perm) {
      const text = textOf(permType, key.toString(), range_end.toString())
      if (!wanted.delete(text)) throw notOurs(`the role ${name} exists, and has the right ${text}`)
    }
    return [...wanted.values()]
  }
}

const notOurs = (message: string): EtcdError =>
  new EtcdError('etcd-failed', message, { fix: 'choose another name with --user' })
