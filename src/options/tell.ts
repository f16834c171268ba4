/** The options in use as text: for other programs of this host, and for the log. */
import { resolve } from 'node:path'
import { formatIp, type IpAddress } from '../model/address'
import { type Options, parseOptions } from './schema'
import { COMMANDS, isPath, OPTION_NAMES, OPTIONS, type OptionName } from './table'
import type { OptionTexts } from './texts'

const SECRETS: ReadonlySet<OptionName> = new Set(['etcd-password'])

/** Options that {@link shareableOptions} leaves out: commands, secrets, and patterns, whose text is lost. */
const isShared = (name: OptionName): boolean =>
  !COMMANDS.has(name) && !SECRETS.has(name) && OPTIONS[name].value.kind !== 'patterns'

const isAddress = (name: OptionName): boolean => OPTIONS[name].value.kind === 'address'

/**
 * The options in use as text, for another program of this host. The password is left out: a program may have
 * access to the control socket only to read the metrics.
 */
export function shareableOptions(options: Options): OptionTexts {
  return Object.fromEntries(
    OPTION_NAMES.filter(isShared).map((name) => {
      const value = options[name]
      if (Array.isArray(value)) return [name, value.map(String)]
      if (value === undefined || value === '') return [name, '']
      // The other program may run in another working directory.
      if (isPath(name)) return [name, resolve(String(value))]
      return [name, isAddress(name) ? formatIp(value as IpAddress) : String(value)]
    }),
  )
}

/**
 * The options that differ from their defaults, for the log: `etcd-prefix=/a iface=eth0`. Secrets are masked.
 */
export function describeOptions(options: Options): string {
  const defaults = parseOptions({}, {})
  return OPTION_NAMES.filter((name) => String(options[name]) !== String(defaults[name]))
    .map((name) => `${name}=${describeValue(name, options[name])}`)
    .join(' ')
}

function describeValue(name: OptionName, value: Options[OptionName]): string {
  if (SECRETS.has(name)) return '(not shown)'
  if (isAddress(name)) return formatIp(value as IpAddress)
  return [value]
    .flat()
    .map((each) => (each instanceof RegExp ? each.source : String(each)))
    .join(',')
}
