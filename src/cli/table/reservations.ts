/** The commands about the leases of other hosts: part of the table of commands. */
import { EXIT } from '../exit'
import { CONSENT, RESERVATION, YES } from '../flags'
import { type Verb, verb } from '../verb'

export const RESERVATION_VERBS: readonly Verb[] = [
  verb({
    path: 'reserve',
    describe: 'reserve a subnet for a host, however long it is away: its present one, or a new one',
    options: RESERVATION,
    examples: [
      ['reserve --public-ip=192.0.2.11', "that host's subnet, or any free one"],
      ['reserve --public-ip=192.0.2.12 --subnet=10.5.42.0/24', 'this subnet'],
    ],
    run: async (
      { 'public-ip': ip, 'public-ipv6': ipv6, subnet, 'ipv6-subnet': subnet6, mac },
      { settings },
    ) => {
      const { runReserve } = await import('../verbs/reservations.js')
      const wanted = { 'public-ip': ip, 'public-ipv6': ipv6, subnet, 'ipv6-subnet': subnet6, mac }
      await runReserve(await settings(), wanted)
      return EXIT.healthy
    },
  }),
  verb({
    path: 'release',
    args: '<subnet>',
    describe: 'end a reservation; a live lease is not touched',
    positionals: {
      subnet: { type: 'string', demandOption: true, describe: 'the subnet, as in 10.5.12.0/24' },
    },
    options: YES,
    examples: [['release 10.5.42.0/24', 'any host may take it then']],
    run: async ({ subnet, yes }, { settings }) => {
      const { runRelease } = await import('../verbs/reservations.js')
      await runRelease(await settings(), subnet, yes)
      return EXIT.healthy
    },
  }),
  verb({
    path: 'evict',
    args: '<key>',
    describe: 'delete the lease of a host that is gone, or an unreadable key; a live host is left alone',
    positionals: {
      key: {
        type: 'string',
        demandOption: true,
        describe: 'its subnet as in 10.5.12.0/24, or its name under subnets/ as shown by peers',
      },
    },
    options: {
      force: { type: 'boolean', default: false, describe: 'even if something answers at its PublicIP' },
      ...CONSENT,
    },
    examples: [
      ['evict 10.5.12.0/24', 'asks whether its host is alive, then you, then deletes its lease'],
      ["evict 'not-a-subnet'", 'a key that cannot be read'],
    ],
    run: async ({ key, force, 'dry-run': dryRun, yes }, { settings }) => {
      const { runEvict } = await import('../verbs/evict.js')
      await runEvict(await settings(), key, { force, dryRun, yes })
      return EXIT.healthy
    },
  }),
]
