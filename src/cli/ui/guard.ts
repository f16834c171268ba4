/** Who gets the page: whoever knows the token, and by an address of this host. */
import { createHash, randomBytes, timingSafeEqual } from 'node:crypto'
import { isIP } from 'node:net'
import { isLoopback, type ListenAddress } from './listen'

/** Bytes: as many as a key has. */
const TOKEN_BYTES = 24

export const makeToken = (): string => randomBytes(TOKEN_BYTES).toString('base64url')

/** What is asked for; or why it is refused. */
export type Access =
  | { readonly kind: 'page' | 'events' }
  | { readonly kind: 'refused'; readonly status: 403 | 404 | 405 | 421; readonly why: string }

export interface Asked {
  readonly method: string | undefined
  readonly url: string | undefined
  /** The header Host. */
  readonly host: string | undefined
}

/** @param listen where the server listens */
export function judgeRequest({ method, url, host }: Asked, token: string, listen: ListenAddress): Access {
  if (!isOurHost(host, listen))
    return refused(421, 'open the page by an address of this host, as overlayctl ui has printed it')
  if (method !== 'GET' && method !== 'HEAD') return refused(405, 'the page only shows: ask by GET')
  const [, given = '', rest] = /^\/([^/?#]*)(.*)$/.exec(url ?? '') ?? []
  if (!isSame(given, token))
    return refused(403, 'the address needs its token: open it as overlayctl ui has printed it')
  if (rest === '/') return { kind: 'page' }
  return rest === '/events' ? { kind: 'events' } : refused(404, 'there is only the page')
}

const refused = (status: 403 | 404 | 405 | 421, why: string): Access => ({ kind: 'refused', status, why })

/** Takes as long for any text. */
function isSame(a: string, b: string): boolean {
  const digest = (text: string): Buffer => createHash('sha256').update(text).digest()
  return timingSafeEqual(digest(a), digest(b))
}

/**
 * Whether the browser has asked for an address of this host. A name of another place may be made to point
 * here (DNS rebinding); an address cannot. The port may be another one: that of a tunnel.
 */
function isOurHost(host: string | undefined, { ip }: ListenAddress): boolean {
  const [, bracketed, plain] = /^(?:\[([\da-f:.]+)\]|([^:[\]]+))(?::\d{1,5})?$/i.exec(host ?? '') ?? []
  const name = (bracketed ?? plain ?? '').toLowerCase()
  if (name === 'localhost' || isLoopback(name)) return true
  if (isIP(name) === 0) return false
  return ip === '0.0.0.0' || ip === '::' || name === ip.toLowerCase()
}
