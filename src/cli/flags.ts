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
