/** The commands about who may do what: part of the table of commands. */
import { EXIT } from '../exit'
import { CONSENT, DOCUMENT_OUTPUT, RESERVATION } from '../flags'
import { type Verb, verb } from '../verb'

export const TRUST_VERBS: readonly Verb[] = [
  verb({
    path: 'identity',
    describe:
      "print this host's identity, by which it signs its lease; the daemon makes one if there is none",
    examples: [['identity', 'what an operator pins: overlayctl enroll --key=...']],
    run: async (_, { local }) => {
      const { runIdentity } = await import('../verbs/identity.js')
      await runIdentity(await local())
      return EXIT.healthy
    },
  }),
  verb({
    path: 'enroll',
    describe:
      'make what one host needs in etcd: a reservation, a role and a user that can write the keys of that ' +
      'host alone, and the pin of its identity; prints the environment file for the host',
    options: {
      ...RESERVATION,
      key: {
        type: 'string',
        describe: 'pin this identity: the one that `overlayctl identity` prints on the host',
      },
      user: { type: 'string', describe: 'user and role of etcd (default: overlayd- and the subnet)' },
      certificate: {
        type: 'boolean',
        default: false,
        describe: 'the host shows a certificate of that name, so the user gets no password',
      },
      'new-password': {
        type: 'boolean',
        default: false,
        describe: 'give a host that is enrolled already another password',
      },
    },
    examples: [
      ['enroll --public-ip=192.0.2.12 > host2.env', 'a host with a user of its own'],
      ['enroll --public-ip=192.0.2.12 --key="$(ssh host2 sudo overlayctl identity)"', 'pin its identity too'],
      ['enroll --public-ip=192.0.2.12 --user=host2 --certificate', 'one that shows a certificate'],
    ],
    run: async (flags, { settings }) => {
      const { runEnroll } = await import('../verbs/enroll.js')
      await runEnroll(await settings(), flags)
      return EXIT.healthy
    },
  }),
  verb({
    path: 'unenroll',
    args: '<subnet>',
    describe:
      'take all rights from a host that is dead, stolen or not needed: its user, role, pin and lease in etcd',
    positionals: {
      subnet: { type: 'string', demandOption: true, describe: 'the subnet, as in 10.5.12.0/24' },
    },
    options: {
      force: { type: 'boolean', default: false, describe: 'even if the host lives' },
      ...CONSENT,
    },
    examples: [
      ['unenroll 10.5.42.0/24', 'asks whether the host lives, then you'],
      ['unenroll --force --yes 10.5.42.0/24', 'a stolen host that still runs'],
    ],
    run: async ({ subnet, force, 'dry-run': dryRun, yes }, { settings }) => {
      const { runUnenroll } = await import('../verbs/unenroll.js')
      await runUnenroll(await settings(), subnet, { force, dryRun, yes })
      return EXIT.healthy
    },
  }),
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
      const { printAuditSchema, runAudit } = await import('../verbs/audit.js')
      if (schema) await printAuditSchema()
      else await runAudit(await settings(), { output, last })
      return EXIT.healthy
    },
  }),
]
