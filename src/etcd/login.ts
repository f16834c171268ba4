/** User name and password, and the token that etcd gives for them. The library's own login loses a connection with every token. */
import type { Etcd3 } from 'etcd3'
import type { CallOptions } from './call-options'
import { EtcdError } from './errors'

export interface Credentials {
  readonly username: string
  readonly password: string
}

/** etcd's texts (api/v3rpc/rpctypes/error.go) for a token that has expired, is of an older set of users, or was not given. */
const STALE = /invalid auth token|auth token has expired|revision of auth store is old|user name is empty/
/** The cluster asks nobody for a password. */
const NOT_ENABLED = 'authentication is not enabled'

/** Whether the refusal is for a new token to cure. */
export const isStaleToken = (details: string): boolean => STALE.test(details)

/**
 * Refuses half of it. An empty name and password are none.
 * @throws {EtcdError} `etcd-options`
 */
export function checkCredentials({ username, password }: Credentials): Credentials | undefined {
  if (username === '' && password === '') return undefined
  if (username !== '' && password !== '') return { username, password }
  const [given, missing] =
    username === '' ? ['--etcd-password', '--etcd-username'] : ['--etcd-username', '--etcd-password']
  throw new EtcdError('etcd-options', `${given} is given without ${missing}`, {
    fix: `give ${missing} as well (or FLANNELD_${missing.slice(2).toUpperCase().replace('-', '_')}), or neither`,
  })
}

export class Login {
  #token: string | undefined

  constructor(private readonly credentials: Credentials) {}

  /**
   * The token in use; gets one first when there is none. Empty when etcd asks nobody for one.
   * @throws etcd's refusal
   */
  async token(etcd: Etcd3, options: CallOptions): Promise<string> {
    this.#token ??= await this.#authenticate(etcd, options)
    return this.#token
  }

  /** A token was refused: the next one to ask gets another. */
  drop(token: string): void {
    if (this.#token === token) this.#token = undefined
  }

  async #authenticate(etcd: Etcd3, options: CallOptions): Promise<string> {
    const { username, password } = this.credentials
    try {
      return (await etcd.auth.authenticate({ name: username, password }, options)).token
    } catch (error) {
      // As etcd's own client does: users may be switched on later.
      if (error instanceof Error && error.message.includes(NOT_ENABLED)) return ''
      throw error
    }
  }
}
