/**
 * The private half of this host's identity, in a file of the state directory that only the daemon may read.
 */
import { join } from 'node:path'
import { describeError, OverlayError, systemErrorCode } from '../model/errors'
import { IdentitySecret } from '../model/identity-secret'
import { writeFileAtomically } from './atomic-file'
import { PRIVATE_MODE, readPrivately } from './private-file'

/** The file has 119 bytes. */
const MOST_BYTES = 4096

/** The file in a state directory. */
export const identityPath = (directory: string): string => join(directory, 'host-identity.pem')

export type FoundIdentity =
  | { readonly kind: 'none' }
  | { readonly kind: 'found'; readonly secret: IdentitySecret }
  | { readonly kind: 'refused'; readonly reason: string }

/** Reads the identity. Anything wrong with the file is returned, never thrown; no reason contains the key. */
export async function readIdentity(directory: string): Promise<FoundIdentity> {
  const path = identityPath(directory)
  try {
    const secret = IdentitySecret.fromText(await readPrivately(path, MOST_BYTES))
    if (secret !== undefined) return { kind: 'found', secret }
    return { kind: 'refused', reason: `${path} has no Ed25519 key in PKCS #8` }
  } catch (error) {
    if (systemErrorCode(error) === 'ENOENT') return { kind: 'none' }
    return { kind: 'refused', reason: `${path} is not used: ${describeError(error)}` }
  }
}

/**
 * Writes the identity atomically.
 * @throws {OverlayError} `identity-file`
 */
export async function writeIdentity(directory: string, secret: IdentitySecret): Promise<void> {
  const path = identityPath(directory)
  try {
    await writeFileAtomically(path, secret.text(), PRIVATE_MODE)
  } catch (error) {
    throw new OverlayError(
      'identity-file',
      `the identity cannot be written to ${path}: ${describeError(error)}`,
      'choose another directory with --state-dir, or correct its permissions or the space on it',
      { cause: error },
    )
  }
}
