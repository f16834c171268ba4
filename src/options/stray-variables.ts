/**
 * Finds misspelt variables. flannel silently ignores them, so the host does not do what its operator meant.
 */
import { nearest } from '../model/nearest'
import { foreignFlagNames } from './foreign-flags'

const PREFIX = 'FLANNELD_'
/**
 * Prefixes that people use by mistake: those in CentOS units, which turn their variables into flags, and our
 * own name.
 */
const WRONG_PREFIXES = ['FLANNEL_', 'OVERLAYD_', 'OVERLAY_', 'FLANNELD'] as const
/** Variables of subnet.env (flannel: pkg/subnet/subnet.go), which units often load as an environment file. */
const SUBNET_ENV = /^FLANNEL_(?:IPV6_)?(?:NETWORK|SUBNET)$|^FLANNEL_(?:MTU|IPMASQ)$/
/** Variables that Kubernetes and Docker set for a service of that name (kubernetes: envvars of services). */
const SERVICE = /^FLANNELD_(?:SERVICE_(?:HOST|PORT)|PORT(?:_\d+_(?:TCP|UDP).*)?|NAME|ENV_.*)/

/** Other names that people use for an option. */
const ALIASES: Readonly<Record<string, string>> = {
  INTERFACE: 'iface',
  INTERFACES: 'iface',
  IFACES: 'iface',
  INTERFACE_REGEX: 'iface-regex',
  ENDPOINTS: 'etcd-endpoints',
  ENDPOINT: 'etcd-endpoints',
  PREFIX: 'etcd-prefix',
  ETCD_KEY: 'etcd-prefix',
  ETCD_URL: 'etcd-endpoints',
  ETCD_SERVERS: 'etcd-endpoints',
  USERNAME: 'etcd-username',
  PASSWORD: 'etcd-password',
  MASQUERADE: 'ip-masq',
  LOG_LEVEL: 'v',
  VERBOSITY: 'v',
}

/** Most variables named in the warnings. */
const MOST_NAMED = 20

const squeeze = (name: string): string => name.toUpperCase().replaceAll(/[-_.]/g, '')
const variableOf = (option: string): string => `${PREFIX}${option.toUpperCase().replaceAll('-', '_')}`

/**
 * Finds variables that look like ours and have no effect.
 * @param options the names of all options
 * @param isGiven whether an option is given by a flag or by its own variable
 * @returns one warning each, without values: a value may be a password
 */
export function strayVariables(
  env: NodeJS.ProcessEnv,
  options: readonly string[],
  isGiven: (option: string) => boolean,
): string[] {
  const known = [...options, ...foreignFlagNames]
  const variables = new Set(known.map(variableOf))
  const exact = (rest: string): string | undefined =>
    ALIASES[rest.toUpperCase()] ?? options.find((option) => squeeze(option) === squeeze(rest))
  const near = (rest: string): string | undefined => {
    const squeezed = nearest(squeeze(rest), options.map(squeeze))
    return exact(rest) ?? options.find((option) => squeeze(option) === squeezed)
  }
  const warnings = Object.keys(env)
    .filter((name) => env[name] !== '' && !variables.has(name))
    .sort()
    .flatMap((name): string[] => {
      const upper = name.toUpperCase()
      if (upper.startsWith(PREFIX)) {
        if (SERVICE.test(name)) return []
        const meant = near(name.slice(PREFIX.length))
        return [
          `the variable ${name} is not one of overlayd's and has no effect` +
            (meant === undefined
              ? '; overlayd --help lists the flags, FLANNELD_<FLAG> is the variable'
              : `: did you mean ${variableOf(meant)}?`),
        ]
      }
      const wrong = WRONG_PREFIXES.find((prefix) => upper.startsWith(prefix))
      if (wrong === undefined || SUBNET_ENV.test(name)) return []
      const meant = exact(name.slice(wrong.length))
      if (meant === undefined || isGiven(meant)) return []
      return [`the variable ${name} has no effect: did you mean ${variableOf(meant)}?`]
    })
  const more = warnings.length - MOST_NAMED
  return more <= 0
    ? warnings
    : [...warnings.slice(0, MOST_NAMED), `and ${more} more variables without effect`]
}
