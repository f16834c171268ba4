/**
 * Takes secrets out of text and data before they leave a host: passwords, private keys, tokens. A secret is
 * told by the name beside it, by its form, or because it is known. Too much is taken out rather than too
 * little: after the name of a secret the rest of the line goes.
 */
import { createHash } from 'node:crypto'
import { escapeJson, printable } from './printable'

/** Stands where a secret was. */
export const REMOVED = '[removed]'

/** Shorter known secrets are told by the names beside them alone: they occur within words. */
const LEAST_SECRET = 4

/** Words of which one is in the name of a variable, a flag or a field with a secret. */
const WORD =
  '(?:passw(?:or)?d|passphrase|secret|token|credential|cookie|authorization|' +
  '(?:api|access|private|preshared)[-_ ]?key|(?<![a-z])(?:pass|pwd|psk)(?![a-z]))'

/** The rest of a line, and of the lines that a backslash at its end joins to it. */
const REST = String.raw`(?:\\\r?\n|[^\n])*`

/** The end of a name, after the word: long enough for all names, short enough for a search in any text. */
const NAME_END = String.raw`[\w.-]{0,80}`

interface Rule {
  readonly find: RegExp
  readonly put: string | ((found: string) => string)
}

/** A key of 32 bytes becomes a name, by which two places with the same key are still told. */
const nameKey = (key: string): string => `[key ${createHash('sha256').update(key).digest('hex').slice(0, 8)}]`

/** The end of both lines around a private key. */
const PRIVATE_KEY = '[A-Z0-9 ]{0,40}PRIVATE KEY(?: BLOCK)?-----'
/** A value of JSON, also one that is cut off. */
const JSON_VALUE = String.raw`"(?:[^"\\]|\\[\s\S])*(?:"|$)|\[[^\]]*(?:\]|$)|[^\s",\]}]+`

/** In this order: what goes by its form first, since a name beside it may be far. */
const RULES: readonly Rule[] = [
  // RFC 7468. Of a block that is cut off, everything on its side goes.
  {
    find: new RegExp(String.raw`-----BEGIN ${PRIVATE_KEY}[\s\S]*?(?:-----END ${PRIVATE_KEY}|$)`, 'g'),
    put: `${REMOVED} (private key)`,
  },
  { find: new RegExp(String.raw`^[\s\S]*-----END ${PRIVATE_KEY}`), put: `${REMOVED} (private key)` },
  // WireGuard's keys as `wg genkey` prints them, public ones too, which look alike.
  { find: /[A-Za-z0-9+/]{43}=/g, put: nameKey },
  // RFC 3986, 3.2.1: user information of a URL. A comma before the next URL of a list ends it.
  {
    find: /(:\/\/)(?:(?!,[a-z][a-z\d+.-]{0,20}:\/\/)[^\s"<>]){0,512}@/gi,
    put: `$1${REMOVED}@`,
  },
  // RFC 7235, credentials.
  { find: /\b(basic|bearer|digest) +[^\s"',]+/gi, put: `$1 ${REMOVED}` },
  // RFC 7519; and the simple tokens of etcd (server/auth/simple_token.go: 16 letters, a dot, an index).
  { find: /\beyJ[\w-]{8,}\.[\w-]{2,}(?:\.[\w-]*)*/g, put: REMOVED },
  { find: /\b[A-Za-z]{16}\.\d{1,20}\b/g, put: REMOVED },
  // Tokens of known services, told by how they begin.
  {
    find: /\b(?:gh[opsur]_|github_pat_|glpat-|xox[abeoprs]-|AKIA|ASIA|hvs\.|npm_|dckr_pat_)[\w.-]{8,}/g,
    put: REMOVED,
  },
  // "etcd-password": "..." in JSON.
  {
    find: new RegExp(String.raw`(${WORD}[^"\\\n]{0,80}"\s{0,4}:\s{0,4})(?:${JSON_VALUE})`, 'gi'),
    put: `$1"${REMOVED}"`,
  },
  // NAME=..., name: ..., NAME is ..., {\"name\": ...
  {
    find: new RegExp(String.raw`(${WORD}${NAME_END}(?:\\+"|')?(?:\s{0,4}[=:]|\s{1,4}is(?=\s)))${REST}`, 'gi'),
    put: `$1 ${REMOVED}`,
  },
  // --etcd-password ...
  {
    find: new RegExp(
      String.raw`((?<=^|[\s"'=])--?[\w-]{0,60}?${WORD}${NAME_END}[ \t]{1,8})(?!\[removed\])${REST}`,
      'gim',
    ),
    put: `$1${REMOVED}`,
  },
]

/** Whether the value under such a name is a secret: `etcd-password`, `FLANNELD_ETCD_PASSWORD`, `apiKey`. */
export const isSecretName = (name: string): boolean => new RegExp(WORD, 'i').test(name)

export class Redactor {
  /** All forms of the known secrets, the longest first. */
  readonly #known: readonly string[]

  /** @param secrets known ones, which are taken out wherever they stand and in whatever form */
  constructor(secrets: readonly string[] = []) {
    const forms = secrets.filter((secret) => secret.length >= LEAST_SECRET).flatMap(formsOf)
    this.#known = [...new Set(forms)].sort((a, b) => b.length - a.length)
  }

  text(text: string): string {
    let left = text
    for (const secret of this.#known) left = left.replaceAll(secret, REMOVED)
    for (const { find, put } of RULES)
      left = typeof put === 'string' ? left.replace(find, put) : left.replace(find, put)
    return left
  }

  /** JSON data, its names included. A value under the name of a secret is removed, whatever it is. */
  data(value: unknown): unknown {
    if (typeof value === 'string') return this.text(value)
    if (Array.isArray(value)) return value.map((each) => this.data(each))
    if (typeof value !== 'object' || value === null) return value
    return Object.fromEntries(
      Object.entries(value).map(([name, each]) => [
        this.text(name),
        isSecretName(name) && !isPlain(each) ? REMOVED : this.data(each),
      ]),
    )
  }

  /** The value of a variable, an option or a field. */
  value(name: string, value: string): string {
    return isSecretName(name) && value !== '' ? REMOVED : this.text(value)
  }
}

/** Numbers under such names are counts, and truth values are switches. */
const isPlain = (value: unknown): boolean => typeof value === 'number' || typeof value === 'boolean'

/** A secret as it stands in text, in JSON (ours and that of others), in a URL, in base64 and in a log. */
function formsOf(secret: string): string[] {
  const json = JSON.stringify(secret)
  const base64 = Buffer.from(secret).toString('base64').replace(/=+$/, '')
  return [
    ...[secret, json.slice(1, -1), escapeJson(json).slice(1, -1), JSON.stringify(json).slice(3, -3)],
    ...[uri(secret), printable(secret), base64],
  ].filter((form) => form.length >= LEAST_SECRET)
}

/** A lone surrogate has no UTF-8, and so no form in a URL. */
const uri = (text: string): string => encodeURIComponent(Buffer.from(text).toString())
