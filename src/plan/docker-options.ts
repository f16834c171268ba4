/** Docker's options out of subnet.env, as flannel's dist/mk-docker-opts.sh writes them, byte for byte. */

export interface DockerOptionsRequest {
  /** Write one variable per option. */
  readonly individual: boolean
  /** Write all options in one variable. Neither of the two asked for means both. */
  readonly combined: boolean
  /** Name of the one variable. */
  readonly key: string
  /** Whether Docker is told who masquerades. */
  readonly ipMasq: boolean
}

const PREFIX = 'DOCKER_OPT_'

/**
 * The text of the options file.
 * @param variables subnet.env's variables over those of the environment: options that are there already are kept
 * @returns the text, or why there is none
 */
export function dockerOptions(
  variables: Readonly<Record<string, string | undefined>>,
  request: DockerOptionsRequest,
): { readonly text: string; readonly problem?: never } | { readonly text?: never; readonly problem: string } {
  const options = new Map<string, string>()
  for (const [name, value] of Object.entries(variables)) {
    if (name.startsWith(PREFIX) && value !== undefined) options.set(name, value)
  }
  const { FLANNEL_SUBNET: subnet, FLANNEL_MTU: mtu, FLANNEL_IPMASQ: masq } = variables
  if (subnet) options.set(`${PREFIX}BIP`, `--bip=${subnet}`)
  if (mtu) options.set(`${PREFIX}MTU`, `--mtu=${mtu}`)
  if (masq && request.ipMasq) {
    // Who masquerades for the overlay is one of the two, so Docker gets the opposite.
    const opposite = { true: 'false', false: 'true' }[masq]
    if (opposite === undefined)
      return { problem: `FLANNEL_IPMASQ is "${masq}", which is neither true nor false` }
    options.set(`${PREFIX}IPMASQ`, `--ip-masq=${opposite}`)
  }
  const sorted = [...options].sort(([a], [b]) => (a < b ? -1 : 1))
  const both = request.individual === request.combined
  const lines = request.individual || both ? sorted.map(([name, value]) => `${name}="${value}"`) : []
  if (request.combined || both) {
    const before = variables[request.key]
    const start = before ? `${before} ` : ''
    lines.push(`${request.key}="${start}${sorted.map(([, value]) => ` ${value}`).join('')}"`)
  }
  return { text: lines.map((line) => `${line}\n`).join('') }
}
