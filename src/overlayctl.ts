#!/usr/bin/env node
/** The operator's entry: its commands and their flags. Each command loads only what it needs. */
import yargs from 'yargs'
import { hideBin } from 'yargs/helpers'
import { EXIT } from './cli/exit'
import { ETCD_OPTIONS, parseOptions, UsageError, yargsOptions } from './daemon/options'
import { readVersion } from './daemon/version'
import { describeError, OverlayError } from './model/errors'

const OUTPUT = {
  output: {
    alias: 'o',
    choices: ['text', 'json'],
    default: 'text',
    describe: 'text for people, json for programs',
  },
} as const

const ETCD = yargsOptions(ETCD_OPTIONS)
const LOCAL = yargsOptions(['run-dir', 'subnet-file'])
/** With it a further network's run directory is found. */
const PREFIX = yargsOptions(['etcd-prefix'])
const JSON_ARGUMENT = {
  type: 'string',
  demandOption: true,
  describe: "the config's JSON text; - reads it",
} as const

// As in overlayd: nothing of it helps an operator.
process.noDeprecation = true

async function main(): Promise<number> {
  // As it is for --help and --version.
  let code: number = EXIT.healthy
  await yargs(await readWords())
    .scriptName('overlayctl')
    .usage(
      'overlayctl: looks after overlayd, the overlay network of this host.\n\nUsage: overlayctl <command>',
    )
    .command(
      'status',
      'show network, lease, device, etcd and peers; exit code 0 healthy, 1 degraded, 2 nothing reachable',
      (command) =>
        command.options({
          ...LOCAL,
          ...ETCD,
          ...OUTPUT,
        }),
      async ({ output, ...flags }) => {
        const { runStatus } = await import('./cli/status.js')
        code = await runStatus(parseOptions(flags, process.env), output)
      },
    )
    .command(
      'doctor',
      'look for what is wrong and say how to mend it; changes nothing; exit code 0 ok, 1 warnings, 2 problems',
      (command) =>
        command
          .options({
            ...LOCAL,
            ...ETCD,
            ...OUTPUT,
            only: {
              type: 'string',
              describe: 'only these checks, comma separated; a name that does not exist lists them',
            },
            peer: {
              type: 'string',
              describe: 'probe only the peer with this PublicIP, subnet or container address',
            },
          })
          .example('$0 doctor', 'look at everything, and probe all peers')
          .example('$0 doctor --only=udp,mtu,reach --peer=10.5.42.0/24', 'why is that host not reached?'),
      async ({ output, only = '', peer = '', ...flags }) => {
        const { runDoctor } = await import('./cli/doctor/doctor.js')
        code = await runDoctor(parseOptions(flags, process.env), { output, only, peer })
      },
    )
    .command(
      'events',
      'show what the daemon has done of late, and what it does',
      (command) =>
        command
          .options({
            ...LOCAL,
            ...PREFIX,
            ...OUTPUT,
            follow: { alias: 'f', type: 'boolean', default: false, describe: 'go on with what happens' },
            since: { type: 'string', describe: 'only what is not older, as in 90s, 10m, 2h, 1d' },
            kind: {
              type: 'string',
              array: true,
              describe: 'only these kinds, comma separated; one that does not exist lists them',
            },
            peer: { type: 'string', describe: 'only about the peer with this subnet or PublicIP' },
          })
          .example('$0 events --since=10m', 'what happened in the last ten minutes')
          .example('$0 events -f --kind=peer-rejected,kernel-repair -o json', 'for a program that watches'),
      async ({ output, follow, since = '', kind = [], peer = '', ...flags }) => {
        const { runEvents } = await import('./cli/events.js')
        const { 'run-dir': runDirectory } = parseOptions(flags, process.env)
        code = await runEvents(runDirectory, { output, follow, since, kind, peer })
      },
    )
    .command(
      'metrics',
      "print the daemon's metrics in Prometheus's text format",
      (command) => command.options({ ...LOCAL, ...PREFIX }),
      async (flags) => {
        const { runMetrics } = await import('./cli/events.js')
        code = await runMetrics(parseOptions(flags, process.env)['run-dir'])
      },
    )
    .command('config', 'read, check and write the network config in etcd', (config) =>
      config
        .command(
          'get',
          'print it as it is; exit code 1 when it is missing or not valid',
          (command) => command.options(ETCD),
          async (flags) => {
            const { getConfig } = await import('./cli/config.js')
            await getConfig(parseOptions(flags, process.env))
            code = EXIT.healthy
          },
        )
        .command(
          'validate <json>',
          'say what a config means, or what is wrong with it',
          (command) => command.positional('json', JSON_ARGUMENT),
          async ({ json }) => {
            const { validateConfig } = await import('./cli/config.js')
            await validateConfig(json)
            code = EXIT.healthy
          },
        )
        .command(
          'set <json>',
          'check it, then write it over what is there',
          (command) =>
            command.positional('json', JSON_ARGUMENT).options({
              ...ETCD,
              'if-absent': { type: 'boolean', default: false, describe: 'leave one that is there' },
            }),
          async ({ json, 'if-absent': ifAbsent, ...flags }) => {
            const { setConfig } = await import('./cli/config.js')
            await setConfig(parseOptions(flags, process.env), json, ifAbsent)
            code = EXIT.healthy
          },
        )
        .demandCommand(1, 'get, validate or set is wanted'),
    )
    .command(
      'reserve',
      'keep a subnet for a host, however long it is away: the one it has, or a new one',
      (command) =>
        command.options({
          ...ETCD,
          'public-ip': { type: 'string', describe: "the host's IPv4 address, as its lease names it" },
          'public-ipv6': { type: 'string', describe: 'its IPv6 address, in a network that has IPv6' },
          subnet: {
            type: 'string',
            describe: 'which one (default: what the host has, else any that is free)',
          },
          'ipv6-subnet': { type: 'string', describe: 'the same of IPv6' },
          mac: { type: 'string', describe: "of the host's VXLAN device (default: what it has, else random)" },
        }),
      async ({ 'public-ip': ip, 'public-ipv6': ipv6, subnet, 'ipv6-subnet': subnet6, mac, ...flags }) => {
        const { runReserve } = await import('./cli/reservations.js')
        const wanted = { 'public-ip': ip, 'public-ipv6': ipv6, subnet, 'ipv6-subnet': subnet6, mac }
        await runReserve(parseOptions(flags, process.env), wanted)
        code = EXIT.healthy
      },
    )
    .command(
      'release <subnet>',
      'end a reservation; a live lease is left alone',
      (command) =>
        command
          .positional('subnet', { type: 'string', demandOption: true, describe: 'as in 10.5.12.0/24' })
          .options({
            ...ETCD,
            yes: { type: 'boolean', default: false, describe: 'do not ask' },
          }),
      async ({ subnet, yes, ...flags }) => {
        const { runRelease } = await import('./cli/reservations.js')
        await runRelease(parseOptions(flags, process.env), subnet, yes)
        code = EXIT.healthy
      },
    )
    .command(
      'docker-opts',
      "write Docker's options out of subnet.env, as flannel's mk-docker-opts.sh does",
      (command) =>
        command.options({
          f: { type: 'string', default: '/run/flannel/subnet.env', describe: 'subnet.env' },
          d: { type: 'string', default: '/run/docker_opts.env', describe: 'file to write' },
          i: {
            type: 'boolean',
            default: false,
            describe: 'one variable per option (neither -i nor -c: both)',
          },
          c: { type: 'boolean', default: false, describe: 'all options in one variable' },
          k: { type: 'string', default: 'DOCKER_OPTS', describe: 'name of that variable' },
          m: { type: 'boolean', default: false, describe: 'leave out --ip-masq' },
        }),
      async ({ f, d, i, c, k, m }) => {
        const { runDockerOptions } = await import('./cli/docker-options.js')
        await runDockerOptions({ input: f, output: d }, { individual: i, combined: c, key: k, ipMasq: !m })
        code = EXIT.healthy
      },
    )
    .demandCommand(1, 'a command is wanted')
    .version(readVersion())
    .parserConfiguration({ 'camel-case-expansion': false, 'boolean-negation': false })
    .wrap(100)
    .strict()
    .exitProcess(false)
    .fail((message, error) => {
      throw error ?? new UsageError(message, 'see overlayctl --help')
    })
    .parseAsync()
  return code
}

/** The command line; the flags of docker-opts are read as the shell script reads them whose place it takes. */
async function readWords(): Promise<string[]> {
  const [command = '', ...words] = hideBin(process.argv)
  const isForYargs = words.some((word) => word === '--help' || word === '--version')
  if (command !== 'docker-opts' || isForYargs) return hideBin(process.argv)
  const { splitGetopts } = await import('./cli/docker-options.js')
  return [command, ...splitGetopts(words)]
}

/** What stands between us and an answer, as against an answer that is bad. */
function isUnreachable(error: unknown): boolean {
  return error instanceof OverlayError && (error.code.startsWith('etcd-') || error.code === 'control-socket')
}

// A reader that has seen enough, as head, is no failure.
process.stdout.on('error', (error: NodeJS.ErrnoException) => {
  if (error.code !== 'EPIPE') throw error
  process.exit(EXIT.healthy)
})

main().then(
  (code) => {
    process.exitCode = code
  },
  (error: unknown) => {
    process.stderr.write(`overlayctl: ${describeError(error)}\n`)
    process.exitCode = error instanceof UsageError || isUnreachable(error) ? EXIT.usage : EXIT.degraded
  },
)
