/**
 * Login with user name and password for a token. The library's own login is not used: it loses a connection
 * with every token.
 */
import type { Etcd3 } from 'etcd3'
import type { CallOptions } from './call-options'
import { EtcdError } from './errors'

export interface Credentials {
  readonly username: string
  readonly password: string
}

/**
 * etcd's messages (api/v3rpc/rpctypes/error.go) for a token that expired, belongs to an older set of users,
 * or is missing.
 */
const STALE = /invalid auth token|auth token has expired|revision of auth store is old|user name is empty/
/** etcd's message if the cluster requires no login. */
const NOT_ENABLED = 'authentication is not enabled'

/** Whether a new token would cure the refusal. */
export const isStaleToken = (details: string): boolean => STALE.test(details)

/**
 * Refuses a user name without password or the reverse. Both empty means no login.
 * @throws {EtcdError} `etcd-options`
 */
export function checkCredentials({ username, password }: Credentials): Credentials | undefined {
  if (username === '' && password === '') return undefined
  if (username !== '' && password !== '') return { username, password }
  const [given, missing] =
    username === '' ? ['--etcd-password', '--etcd-username'] : ['--etcd-username', '--etcd-password']
  const variable = `FLANNELD_${missing.slice(2).toUpperCase().replace('-', '_')}`
  throw new EtcdError('etcd-options', `${given} is given without ${missing}`, {
    fix: `give ${missing} as well (or ${variable}), or neither`,
  })
}

export class Login {
  #token: string | undefined

  constructor(private readonly credentials: Credentials) {}

  /**
   * The token in use; requests one if there is none. Empty if etcd requires no login.
   * @throws etcd's refusal
   */
  async token(etcd: Etcd3, options: CallOptions): Promise<string> {
    this.#token ??= await this.#authenticate(etcd, options)
    return this.#token
  }

  /** Drops a refused token, so that the next call requests another. */
  drop(token: string): void {
    if (this.#token === token) this.#token = undefined
  }

  async #authenticate(etcd: Etcd3, options: CallOptions): Promise<string> {
    const { username, password } = this.credentials
    try {
      return (await etcd.auth.authenticate({ name: username, password }, options)).token
    } catch (error) {
      // As etcd's own client does. Users may be enabled later.
      if (error instanceof Error && error.message.includes(NOT_ENABLED)) return ''
      throw error
    }
  }
}
