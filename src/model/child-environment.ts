/**
 * The environment of child processes. Ours may contain the password of etcd, and whoever can inspect a child
 * could read it, so only named variables are passed on.
 */

/** Variables by which a program finds its libraries and files. None holds a secret or a setting of ours. */
const PASSED_ON = ['PATH', 'LD_LIBRARY_PATH', 'XTABLES_LIBDIR', 'XTABLES_LOCKFILE', 'TZ'] as const

/** The environment of a child. LC_ALL=C: its output is in English and ASCII, because we parse it. */
export function childEnvironment(env: NodeJS.ProcessEnv = process.env): Record<string, string> {
  const child: Record<string, string> = { LC_ALL: 'C' }
  for (const name of PASSED_ON) {
    const value = env[name]
    if (value !== undefined) child[name] = value
  }
  return child
}
