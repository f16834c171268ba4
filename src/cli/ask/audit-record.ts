/** The record of an operator's command. */
import { randomBytes, X509Certificate } from 'node:crypto'
import { readFile } from 'node:fs/promises'
import { hostname, userInfo } from 'node:os'
import type { AuditRecord } from '../../model/audit'
import type { Options } from '../../options/schema'

/**
 * @param verb the command, as in `config set`
 * @param what what the command writes, in words
 */
export async function auditRecord(
  options: Pick<Options, 'etcd-username' | 'etcd-certfile'>,
  verb: string,
  what: string,
): Promise<AuditRecord> {
  const etcdUser = options['etcd-username'] || (await certificateName(options['etcd-certfile']))
  const who = { user: localUser(), host: hostname(), ...(etcdUser !== undefined && { etcdUser }) }
  return { time: new Date(), who, verb, what, id: randomBytes(8).toString('hex') }
}

function localUser(): string {
  const caller = process.env['SUDO_USER'] ?? ''
  if (caller !== '') return caller
  try {
    return userInfo().username
  } catch {
    // A user without an entry in /etc/passwd.
    return `user ${process.getuid?.() ?? '?'}`
  }
}

/**
 * The common name of a client certificate: etcd takes it for the user (--client-cert-auth).
 * @returns `undefined` where there is none; what is wrong with the file is told when etcd is asked
 */
async function certificateName(file: string): Promise<string | undefined> {
  if (file === '') return undefined
  try {
    const { subject } = new X509Certificate(await readFile(file))
    return /^CN=(.+)$/m.exec(subject)?.[1]
  } catch {
    return undefined
  }
}
