#!/usr/bin/env node
/** The operator's entry: its commands and their flags. Each command loads only what it needs. */
import yargs, { type Argv } from 'yargs'
import { hideBin } from 'yargs/helpers'
import { EXIT } from './cli/exit'
import { nearest } from './cli/nearest'
import { OUTPUTS } from './cli/output'
import { readPeerQuery } from './cli/peer-query'
import { ETCD_OPTIONS, parseOptions, UsageError, yargsOptions } from './daemon/options'
import { PEER_SORTS } from './daemon/peer-order'
import { PEER_STATES } from './daemon/status'
import { readVersion } from './daemon/version'
import { describeError, OverlayError } from './model/errors'

const REPORT_OUTPUT = {
  output: {
    alias: 'o',
    choices: ['text', 'json'],
    default: 'text',
    describe: 'text for people, json for programs',
  },
} as const
const DOCUMENT_OUTPUT = {
  output: {
    alias: 'o',
    choices: OUTPUTS,
    default: 'text',
    describe: 'text for people (wide: nothing left out), json or yaml for programs',
  },
  schema: { type: 'boolean', default: false, describe: 'print the JSON Schema of -o json' },
} as const
const WATCH = {
  watch: { alias: 'w', type: 'boolean', default: false, describe: 'show it again whenever it changes' },
} as const
const PEER_QUERY = {
  state: {
    type: 'string',
    describe: `only peers in these states, comma separated: ${PEER_STATES.join(', ')}`,
  },
  sort: { choices: PEER_SORTS, describe: 'by what (default: state, the worst first)' },
} as const
const CONSENT = {
  'dry-run': { type: 'boolean', default: false, describe: 'only show what would be done' },
  yes: { alias: 'y', type: 'boolean', default: false, describe: 'do not ask' },
} as const

const {
  'run-dir': RUN_DIR,
  'subnet-file': SUBNET_FILE,
  'state-dir': STATE_DIR,
  ...ETCD
} = yargsOptions([...ETCD_OPTIONS, 'run-dir', 'subnet-file', 'state-dir'])
const LOCAL = { 'run-dir': RUN_DIR, 'subnet-file': SUBNET_FILE }
/** With it a further network's run directory is found. */
const PREFIX = { 'etcd-prefix': ETCD['etcd-prefix'] }
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
  const cli = yargs(await readWords())
  await cli
    .scriptName('overlayctl')
    .usage(
      'overlayctl: looks after overlayd, the overlay network of this host.\n\nUsage: overlayctl <command>',
    )
    .command(
      'status',
      'show network, lease, device, etcd and peers; exit code 0 healthy, 1 degraded, 2 nothing reachable',
      (command) =>
        command
          .options({
            ...LOCAL,
            ...ETCD,
            ...DOCUMENT_OUTPUT,
            ...WATCH,
            peers: { type: 'boolean', default: false, describe: 'list all peers, not only a few' },
            ...PEER_QUERY,
            match: {
              type: 'string',
              describe: 'only peers with this in them, or this address in their subnet',
            },
          })
          .example('$0 status', 'all of it on one screen')
          .example('$0 status --watch', 'and again whenever it changes')
          .example('$0 status --state=rejected,failing -o yaml', 'with those peers, for programs'),
      async ({ output, watch, schema, peers, state, sort, match, ...flags }) => {
        const { statusView } = await import('./cli/views.js')
        if (schema) {
          code = await printSchemaOf('status')
          return
        }
        const isListed = peers || [state, sort, match].some((flag) => flag !== undefined)
        const query = isListed ? readPeerQuery({ state, sort, match }) : undefined
        const { showStatus } = await import('./cli/status.js')
        code = await showStatus(parseOptions(flags, process.env), { output, watch }, statusView(query))
      },
    )
    .command(
      'peers [match]',
      'list the other hosts; exit code 2 when neither daemon nor etcd answers',
      (command) =>
        command
          .positional('match', {
            type: 'string',
            describe: 'only peers with this in them, or this address in their subnet',
          })
          .options({ ...LOCAL, ...ETCD, ...DOCUMENT_OUTPUT, ...WATCH, ...PEER_QUERY })
          .example('$0 peers', 'all of them, the worst first')
          .example('$0 peers 10.5.42.7', 'on which host is that container?')
          .example('$0 peers --state=rejected --sort=public-ip', 'whom this host does not believe'),
      async ({ output, watch, schema, match, state, sort, ...flags }) => {
        if (schema) {
          code = await printSchemaOf('peers')
          return
        }
        const query = readPeerQuery({ state, sort, match })
        const { showStatus } = await import('./cli/status.js')
        const { peersView } = await import('./cli/views.js')
        code = await showStatus(parseOptions(flags, process.env), { output, watch }, peersView(query))
      },
    )
    .command(
      'lease',
      "show this host's own lease; exit code 0 held, 1 not, 2 nothing reachable",
      (command) =>
        command
          .options({ ...LOCAL, ...ETCD, ...DOCUMENT_OUTPUT, ...WATCH })
          .example('$0 lease', 'which subnet, since when and for how long')
          .example('$0 lease -o json | jq -r .lease.subnet', 'for a script'),
      async ({ output, watch, schema, ...flags }) => {
        if (schema) {
          code = await printSchemaOf('lease')
          return
        }
        const { showStatus } = await import('./cli/status.js')
        const { leaseView } = await import('./cli/views.js')
        code = await showStatus(parseOptions(flags, process.env), { output, watch }, leaseView())
      },
    )
    .command(
      'routes [match]',
      'show what the kernel has for the peers against what it should have; exit code 0 in sync, 1 not, 2 nothing reachable',
      (command) =>
        command
          .positional('match', { type: 'string', default: '', describe: 'only objects with this in them' })
          .options({
            ...LOCAL,
            ...ETCD,
            ...DOCUMENT_OUTPUT,
            state: {
              type: 'string',
              default: '',
              describe: 'only these, comma separated: missing, wrong, extra, foreign, in-sync',
            },
          })
          .example('$0 routes', 'every route, nexthop, neighbour and FDB entry')
          .example('$0 routes --state=missing,wrong,extra,foreign', 'only what is not as it should be'),
      async ({ output, schema, state, match, ...flags }) => {
        if (schema) {
          code = await printSchemaOf('routes')
          return
        }
        const { runRoutes } = await import('./cli/routes.js')
        code = await runRoutes(parseOptions(flags, process.env), { output, state, match })
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
            ...REPORT_OUTPUT,
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
            ...REPORT_OUTPUT,
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
      (command) =>
        command.options({ ...LOCAL, ...PREFIX }).example('$0 metrics | grep -v ^#', 'only the figures'),
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
          (command) => command.options(ETCD).example('$0 config get', 'the JSON text in etcd'),
          async (flags) => {
            const { getConfig } = await import('./cli/config.js')
            await getConfig(parseOptions(flags, process.env))
            code = EXIT.healthy
          },
        )
        .command(
          'validate <json>',
          'say what a config means, or what is wrong with it',
          (command) =>
            command
              .positional('json', JSON_ARGUMENT)
              .example('$0 config validate - < network.json', 'what is in a file'),
          async ({ json }) => {
            const { validateConfig } = await import('./cli/config.js')
            await validateConfig(json)
            code = EXIT.healthy
          },
        )
        .command(
          'set <json>',
          'check it, show what it does to the hosts there are, and write it',
          (command) =>
            command
              .positional('json', JSON_ARGUMENT)
              .options({
                ...ETCD,
                'if-absent': { type: 'boolean', default: false, describe: 'leave one that is there' },
                ...CONSENT,
              })
              .example(`$0 config set '{"Network":"10.5.0.0/16","Backend":{"Type":"vxlan"}}'`, 'begin')
              .example('$0 config set --dry-run - < network.json', 'what would become of the hosts?'),
          async ({ json, 'if-absent': ifAbsent, 'dry-run': dryRun, yes, ...flags }) => {
            const { setConfig } = await import('./cli/config.js')
            await setConfig(parseOptions(flags, process.env), json, { ifAbsent, dryRun, yes })
            code = EXIT.healthy
          },
        )
        .demandCommand(1, 'get, validate or set is wanted'),
    )
    .command(
      'reserve',
      'keep a subnet for a host, however long it is away: the one it has, or a new one',
      (command) =>
        command
          .options({
            ...ETCD,
            'public-ip': { type: 'string', describe: "the host's IPv4 address, as its lease names it" },
            'public-ipv6': { type: 'string', describe: 'its IPv6 address, in a network that has IPv6' },
            subnet: {
              type: 'string',
              describe: 'which one (default: what the host has, else any that is free)',
            },
            'ipv6-subnet': { type: 'string', describe: 'the same of IPv6' },
            mac: {
              type: 'string',
              describe: "of the host's VXLAN device (default: what it has, else random)",
            },
          })
          .example('$0 reserve --public-ip=192.0.2.11', 'what that host has, or any subnet that is free')
          .example('$0 reserve --public-ip=192.0.2.12 --subnet=10.5.42.0/24', 'this one'),
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
            yes: CONSENT.yes,
          })
          .example('$0 release 10.5.42.0/24', 'anyone may have it then'),
      async ({ subnet, yes, ...flags }) => {
        const { runRelease } = await import('./cli/reservations.js')
        await runRelease(parseOptions(flags, process.env), subnet, yes)
        code = EXIT.healthy
      },
    )
    .command(
      'drain',
      "give this host's subnet back while overlayd goes on running; the other hosts let go of it",
      (command) =>
        command
          .options({
            ...LOCAL,
            ...PREFIX,
            undo: { type: 'boolean', default: false, describe: 'take it again' },
            ...CONSENT,
          })
          .example('$0 drain --dry-run', 'who uses the subnet?')
          .example('$0 drain', 'asks, then gives it back')
          .example('$0 drain --undo', 'takes the same subnet again, if nobody has it'),
      async ({ undo, 'dry-run': dryRun, yes, ...flags }) => {
        const { runDrain } = await import('./cli/drain.js')
        code = await runDrain(parseOptions(flags, process.env), { undo, dryRun, yes })
      },
    )
    .command(
      'teardown',
      'remove what overlayd made of this host: device, routes, rules, files; only while it is stopped',
      (command) =>
        command
          .options({
            ...LOCAL,
            'state-dir': STATE_DIR,
            ...ETCD,
            lease: {
              type: 'boolean',
              default: false,
              describe: "give the lease in etcd back too, unless it's reserved",
            },
            ...CONSENT,
          })
          .example('$0 teardown --dry-run', 'what is there to remove?')
          .example('systemctl stop overlayd && $0 teardown --lease', 'for good'),
      async ({ lease, 'dry-run': dryRun, yes, ...flags }) => {
        const { runTeardown } = await import('./cli/teardown.js')
        code = await runTeardown(parseOptions(flags, process.env), { lease, dryRun, yes })
      },
    )
    .command(
      'docker-opts',
      "write Docker's options out of subnet.env, as flannel's mk-docker-opts.sh does",
      (command) =>
        command
          .options({
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
          })
          .example('$0 docker-opts -c -d /run/docker_opts.env', 'as a drop-in of docker.service has it'),
      async ({ f, d, i, c, k, m }) => {
        const { runDockerOptions } = await import('./cli/docker-options.js')
        await runDockerOptions({ input: f, output: d }, { individual: i, combined: c, key: k, ipMasq: !m })
        code = EXIT.healthy
      },
    )
    .demandCommand(1, 'a command is wanted')
    .option('debug', { type: 'boolean', default: false, describe: 'say where an error comes from' })
    .version(readVersion())
    .parserConfiguration({ 'camel-case-expansion': false, 'boolean-negation': false })
    .wrap(100)
    .strict()
    .exitProcess(false)
    .fail((message, error) => {
      throw error ?? explainUsage(message, cli)
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

/** A wrong word, with what was most likely meant. */
function explainUsage(message: string, cli: Argv): UsageError {
  const [, list = ''] = /^Unknown (?:arguments?|commands?): (.*)$/.exec(message) ?? []
  const meant = list.split(', ').flatMap((word) => meantBy(word, cli) ?? [])
  if (meant.length === 0) return new UsageError(message, 'see overlayctl --help')
  return new UsageError(message, `did you mean ${meant.join(' and ')}?`)
}

/** @param cli as it stands at the command that was being read */
function meantBy(word: string, cli: Argv): string | undefined {
  // Its own methods, which its type leaves out.
  const parser = cli as unknown as {
    getOptions(): { readonly key: object }
    getInternalMethods(): { getCommandInstance(): { getCommands(): string[] } }
  }
  const isFlag = process.argv.some((each) => each.replace(/^-+/, '-').split('=')[0] === `-${word}`)
  const words = isFlag
    ? Object.keys(parser.getOptions().key)
    : parser.getInternalMethods().getCommandInstance().getCommands()
  const found = nearest(word, words)
  return found === undefined ? undefined : `${isFlag ? '--' : ''}${found}`
}

const DOCUMENTS = {
  status: async () => (await import('./daemon/status.js')).statusSchema,
  peers: async () => (await import('./cli/views.js')).peersDocumentSchema,
  lease: async () => (await import('./cli/views.js')).leaseDocumentSchema,
  routes: async () => (await import('./cli/routes.js')).routesDocumentSchema,
}

async function printSchemaOf(name: keyof typeof DOCUMENTS): Promise<number> {
  const { printSchema } = await import('./cli/output.js')
  await printSchema(await DOCUMENTS[name](), `overlayctl ${name} -o json`)
  return EXIT.healthy
}

/** One line of what went wrong, never a stack, unless it is asked for. */
function fail(error: unknown): void {
  process.stderr.write(`overlayctl: ${describeError(error)}\n`)
  if (process.argv.includes('--debug') && error instanceof Error) process.stderr.write(`${error.stack}\n`)
  process.exitCode = error instanceof UsageError || isUnreachable(error) ? EXIT.usage : EXIT.degraded
}

process.on('uncaughtException', (error) => {
  fail(error)
  process.exit()
})
// A reader that has seen enough, as head, is no failure.
process.stdout.on('error', (error: NodeJS.ErrnoException) => {
  if (error.code !== 'EPIPE') throw error
  process.exit(EXIT.healthy)
})

main().then((code) => {
  process.exitCode = code
}, fail)
