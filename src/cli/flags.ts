/** Flags that several commands take. */
import { OUTPUTS } from './show/output'

export const DOCUMENT_OUTPUT = {
  output: {
    alias: 'o',
    choices: OUTPUTS,
    default: 'text',
    describe: 'text for people (wide: nothing left out), json or yaml for programs',
  },
  schema: { type: 'boolean', default: false, describe: 'print the JSON Schema of -o json' },
} as const

export const YES = {
  yes: { alias: 'y', type: 'boolean', default: false, describe: 'do not ask' },
} as const

export const CONSENT = {
  'dry-run': { type: 'boolean', default: false, describe: 'only show what would be done' },
  ...YES,
} as const

/** The host that a subnet is reserved for, and the subnet. */
export const RESERVATION = {
  'public-ip': { type: 'string', describe: "the host's IPv4 address, as its lease names it" },
  'public-ipv6': { type: 'string', describe: 'its IPv6 address, in a network that has IPv6' },
  subnet: {
    type: 'string',
    describe: 'the subnet to reserve (default: the one the host has, else any free one)',
  },
  'ipv6-subnet': { type: 'string', describe: 'the same for IPv6' },
  mac: {
    type: 'string',
    describe: "MAC of the host's VXLAN device (default: the one it has, else random)",
  },
} as const

export const WATCH = {
  watch: {
    alias: 'w',
    type: 'boolean',
    default: false,
    describe: 'show it again whenever it changes; q or Ctrl-C to quit',
  },
} as const
