/** The command line of overlayd. */
import { daemonHelp } from './documented'
import { checkForeignFlag, foreignFlagNames, isForeignBoolean } from './foreign-flags'
import { type GivenFlag, readGoFlags } from './go-flags'
import { type Options, parseFlag, parseOptions } from './schema'
import { isBoolean, isOption, variableName } from './table'
import { straysIn } from './texts'

export type Invocation =
  | {
      readonly kind: 'run'
      readonly options: Options
      /** Flags and variables that were given and have no effect. */
      readonly warnings: readonly string[]
    }
  | { readonly kind: 'help'; readonly text: string }
  | { readonly kind: 'version' }

/**
 * Reads overlayd's command line.
 * @param argv the words after the program's name
 * @throws {UsageError} naming the flag or variable, its value, and what is expected
 */
export async function parseCommandLine(argv: readonly string[], env: NodeJS.ProcessEnv): Promise<Invocation> {
  const given = readGoFlags(argv, (name) => (isOption(name) ? isBoolean(name) : isForeignBoolean(name)))
  const flags: Record<string, string[]> = {}
  for (const { name, value } of given) {
    if (isOption(name)) flags[name] = [...(flags[name] ?? []), value]
  }
  // --help and --version are answered even if other flags are wrong.
  if (parseFlag('help', flags)) return { kind: 'help', text: await daemonHelp() }
  if (parseFlag('version', flags)) return { kind: 'version' }
  const warnings = [
    ...readForeignFlags(
      given.filter(({ name }) => !isOption(name)),
      env,
    ),
    ...straysIn(env, flags),
    ...(flags['etcd-password'] === undefined
      ? []
      : [
          '--etcd-password shows in the process list, which every user of this host can read: ' +
            'set FLANNELD_ETCD_PASSWORD in a file that only root can read instead',
        ]),
  ]
  return { kind: 'run', options: parseOptions(flags, env), warnings }
}

/**
 * One warning for all flags and variables of flannel without effect.
 * @throws {UsageError} if one of them cannot be ignored
 */
function readForeignFlags(given: readonly GivenFlag[], env: NodeJS.ProcessEnv): string[] {
  const last = new Map(given.map((flag) => [flag.name, flag]))
  const seen = foreignFlagNames.flatMap((name) => {
    const flag = last.get(name)
    const variable = env[variableName(name)] ?? ''
    if (flag === undefined && variable === '') return []
    const where = flag === undefined ? variableName(name) : `--${name}`
    checkForeignFlag(flag ?? { name, value: variable }, where)
    return [where]
  })
  return seen.length === 0 ? [] : [`flannel flags without effect in overlayd: ${seen.join(', ')}`]
}
