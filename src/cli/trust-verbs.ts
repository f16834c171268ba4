/** The commands about who may do what: part of the table of commands. */
import { EXIT } from './exit'
import { DOCUMENT_OUTPUT } from './flags'
import { type Verb, verb } from './verb'

export const TRUST_VERBS: readonly Verb[] = [
  verb({
    path: 'audit',
    describe: 'list what operators have written with overlayctl: who, what, when',
    options: {
      ...DOCUMENT_OUTPUT,
      last: {
        type: 'number',
        default: 50,
        describe: 'only so many records, the newest; 0: all that are kept',
      },
    },
    examples: [
      ['audit', 'the last 50 writes, the newest first'],
      ['audit --last=0 -o json', 'all writes, for a program'],
    ],
    run: async ({ output, schema, last }, { settings }) => {
      const { printAuditSchema, runAudit } = await import('./verbs/audit.js')
      if (schema) await printAuditSchema()
      else await runAudit(await settings(), { output, last })
      return EXIT.healthy
    },
  }),
]
