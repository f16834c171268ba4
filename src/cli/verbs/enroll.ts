/**
 * `overlayctl enroll`: makes all that a host needs in etcd, and only that host: a reservation, a role that
 * can write its keys and no others, a user with that role, and the pin of its identity.
 */
import { randomBytes } from 'node:crypto'
import { LONGEST_USER } from '../../etcd/codec/host-codec'
import { formatSubnetName } from '../../etcd/codec/keys'
import type { Registry } from '../../etcd/registry'
import { environmentLine } from '../../host/environment-file'
import { complain, print } from '../../host/streams'
import { OverlayError } from '../../model/errors'
import { type HostRecord, type IdentityKey, parseIdentityKey, readableRecord } from '../../model/host-record'
import type { LeaseSubnet } from '../../model/lease'
import type { Options } from '../../options/schema'
import { variableName } from '../../options/table'
import { UsageError } from '../../options/usage-error'
import { withRegistry } from '../ask/with-registry'
import { describeReserved, type ReserveFlags, readReserveFlags, reserveFor } from './reservations'

export interface EnrollFlags extends ReserveFlags {
  /** The identity to pin, as `overlayctl identity` prints it on the host. */
  readonly key?: string | undefined
  readonly user?: string | undefined
  /** The host comes with a certificate of that name instead of a password. */
  readonly certificate: boolean
  /** Gives the user of a host that is enrolled already another password. */
  readonly 'new-password': boolean
}

/** Milliseconds for all calls of etcd: a dozen, one after another. */
const DEADLINE = 30_000
/** Bytes of a password. */
const PASSWORD_SIZE = 24

/**
 * Characters of names that no shell, URL or `etcdctl user add NAME:PASSWORD` misreads. `root` has all rights
 * in etcd.
 */
const USER_NAME = /^(?!root$)[\w.-]+$/

/**
 * Enrols a host, and prints the environment file for it. All steps may be repeated: the command goes on where
 * a former one has failed.
 * @throws {OverlayError} `enroll`, and those of `overlayctl reserve`; {EtcdError}
 */
export async function runEnroll(options: Options, flags: EnrollFlags): Promise<void> {
  const wanted = readReserveFlags(flags)
  const identity = readKey(flags.key)
  const named = readUser(flags.user)
  const { certificate } = flags
  await withRegistry(
    options,
    async (registry, signal) => {
      const userFor = (subnet: LeaseSubnet): string =>
        named ?? `overlayd-${formatSubnetName(subnet).replaceAll(/[&:]/g, '-')}`
      const { outcome, lease } = await reserveFor(
        registry,
        options,
        { ...wanted, refused: [] },
        {
          verb: 'enroll',
          isNoted: true,
          hostRecord: async (subnet) => nextRecord(registry, subnet, userFor(subnet), identity, signal),
        },
        signal,
      )
      complain(outcome)
      const user = userFor(lease.subnet)
      const password = certificate ? undefined : randomBytes(PASSWORD_SIZE).toString('base64url')
      const made = await registry.users.make(user, lease.subnet, password, signal)
      const isAnew = made === 'made' || flags['new-password']
      if (made === 'existed' && flags['new-password'] && password !== undefined)
        await registry.users.changePassword(user, password, signal)
      complain(`${made === 'made' ? 'made' : 'there is already'} the user and role ${user}`)
      if (identity !== undefined) complain(`pinned the identity ${identity}`)
      if (!isAnew && !certificate)
        complain('its password is the one it had; --new-password gives it another one')
      print(environmentOf(options, describeReserved(lease), user, certificate, isAnew ? password : undefined))
    },
    DEADLINE,
  )
}

/**
 * The record that the host has after this command: a pin stays unless another one is given.
 * @throws {OverlayError} `enroll` where the subnet is enrolled with another user
 */
async function nextRecord(
  registry: Registry,
  subnet: LeaseSubnet,
  user: string,
  identity: IdentityKey | undefined,
  signal: AbortSignal,
): Promise<HostRecord> {
  const entry = await registry.reservations.hostOf(subnet, signal)
  const before = entry && readableRecord(entry)
  if (before?.user !== undefined && before.user !== user) {
    throw new OverlayError(
      'enroll',
      `${formatSubnetName(subnet)} is enrolled already, with the user ${before.user}`,
      `leave out --user, or give --user=${before.user}`,
    )
  }
  await registry.users.check(user, subnet, signal)
  const pin = identity ?? before?.identity
  return { user, ...(pin !== undefined && { identity: pin }) }
}

function readKey(text: string | undefined): IdentityKey | undefined {
  if (text === undefined) return undefined
  const key = parseIdentityKey(text.trim())
  if (key !== undefined) return key
  throw new UsageError(
    `the flag --key is ${JSON.stringify(text)}: expected the 44 characters that ` +
      '`overlayctl identity` prints on the host',
  )
}

function readUser(text: string | undefined): string | undefined {
  if (text === undefined || (USER_NAME.test(text) && text.length <= LONGEST_USER)) return text
  throw new UsageError(
    `the flag --user is ${JSON.stringify(text)}: expected letters, digits, dots, dashes and underscores, ` +
      'and not root',
  )
}

/** Settings that the operator's command and the host have in common. */
const SHARED = ['etcd-endpoints', 'etcd-discovery-srv', 'etcd-prefix', 'etcd-cafile'] as const

/** The environment file of the host, for systemd. */
export function environmentOf(
  options: Pick<Options, (typeof SHARED)[number]>,
  host: string,
  user: string,
  hasCertificate: boolean,
  password: string | undefined,
): string {
  const variable = (name: string, value: string) => environmentLine(variableName(name), value)
  const shared = SHARED.filter((name) => options[name] !== '')
  const secret = hasCertificate
    ? [
        `# The common name of the certificate has to be ${user}.`,
        variable('etcd-certfile', `/etc/overlayd/${user}.crt`),
        variable('etcd-keyfile', `/etc/overlayd/${user}.key`),
      ]
    : [
        variable('etcd-username', user),
        password === undefined
          ? '# FLANNELD_ETCD_PASSWORD=: as it was; nobody can read it from etcd'
          : variable('etcd-password', password),
      ]
  return [
    `# ${host}`,
    '# /etc/default/overlayd, owner root, mode 0600',
    ...shared.map((name) => variable(name, options[name])),
    ...secret,
    '',
  ].join('\n')
}
