/**
 * The table of overlayctl's commands and their flags. The program, its help and the shell completions are
 * made from it.
 */

import { PEER_SORTS } from '../api/peer-order'
import { PEER_STATES } from '../api/words'
import { print } from '../host/streams'
import { readPeerQuery } from './ask/peer-query'
import { DOCKER_VERBS } from './docker-verbs'
import { ENGINE_VERBS } from './engine-verbs'
import { EXIT } from './exit'
import { CONSENT, DOCUMENT_OUTPUT, RESERVATION, YES } from './flags'
import { LEASE_VERBS } from './lease-verbs'
import { PREFIX_VERBS } from './prefix-verbs'
import { TRUST_VERBS } from './trust-verbs'
import { type Verb, verb } from './verb'

const REPORT_OUTPUT = {
  output: {
    alias: 'o',
    choices: ['text', 'json', 'yaml'],
    default: 'text',
    describe: 'text for people, json or yaml for programs',
  },
} as const
const WATCH = {
  watch: {
    alias: 'w',
    type: 'boolean',
    default: false,
    describe: 'show it again whenever it changes; q or Ctrl-C to quit',
  },
} as const
const PEER_QUERY = {
  state: {
    type: 'string',
    describe: `only peers in these states, comma separated: ${PEER_STATES.join(', ')}`,
  },
  sort: { choices: PEER_SORTS, describe: 'order (default: state, worst first)' },
} as const
const CONFIG = {
  config: {
    type: 'string',
    demandOption: true,
    describe: 'a file with the config, its JSON text, or - for standard input',
  },
} as const

const DOCUMENTS = {
  status: async () => (await import('../api/status.js')).statusSchema,
  peers: async () => (await import('../api/documents.js')).peersDocumentSchema,
  lease: async () => (await import('../api/documents.js')).leaseDocumentSchema,
  routes: async () => (await import('../api/documents.js')).routesDocumentSchema,
  ping: async () => (await import('../api/documents.js')).pingDocumentSchema,
}

async function printSchemaOf(name: keyof typeof DOCUMENTS): Promise<number> {
  const { printSchema } = await import('./show/output.js')
  await printSchema(await DOCUMENTS[name](), `overlayctl ${name} -o json`)
  return EXIT.healthy
}

export const VERBS: readonly Verb[] = [
  verb({
    path: 'status',
    describe:
      'show network, lease, device, etcd and peers; exit code 0 healthy, 1 degraded, 2 nothing reachable',
    options: {
      ...DOCUMENT_OUTPUT,
      ...WATCH,
      peers: { type: 'boolean', default: false, describe: 'list all peers instead of a few' },
      ...PEER_QUERY,
      match: {
        type: 'string',
        describe: 'only peers that contain this text, or have or announce this address',
      },
    },
    examples: [
      ['status', 'everything on one screen'],
      ['status --watch', 'and again whenever it changes'],
      ['status --state=rejected,failing -o yaml', 'with those peers, for programs'],
    ],
    run: async ({ output, watch, schema, peers, state, sort, match }, { local }) => {
      if (schema) return printSchemaOf('status')
      const { statusView } = await import('./verbs/views.js')
      const isListed = peers || [state, sort, match].some((flag) => flag !== undefined)
      const query = isListed ? readPeerQuery({ state, sort, match }) : undefined
      const { showStatus } = await import('./verbs/status.js')
      return showStatus(await local(), { output, watch }, statusView(query))
    },
  }),
  verb({
    path: 'peers',
    args: '[match]',
    describe: 'list the other hosts; exit code 2 if they are not known',
    positionals: {
      match: {
        type: 'string',
        describe: 'only peers that contain this text, or have or announce this address',
      },
    },
    options: { ...DOCUMENT_OUTPUT, ...WATCH, ...PEER_QUERY },
    examples: [
      ['peers', 'all peers, worst first'],
      ['peers 10.5.42.7', 'on which host is that container?'],
      ['peers --state=rejected --sort=public-ip', 'hosts whose leases are rejected'],
    ],
    run: async ({ output, watch, schema, match, state, sort }, { local }) => {
      if (schema) return printSchemaOf('peers')
      const query = readPeerQuery({ state, sort, match })
      const { showStatus } = await import('./verbs/status.js')
      const { peersView } = await import('./verbs/views.js')
      return showStatus(await local(), { output, watch }, peersView(query))
    },
  }),
  verb({
    path: 'lease',
    describe: "show this host's own lease; exit code 0 held, 1 not, 2 not known",
    options: { ...DOCUMENT_OUTPUT, ...WATCH },
    examples: [
      ['lease', 'which subnet, since when and for how long'],
      ['lease -o json | jq -r .lease.subnet', 'for a script'],
    ],
    run: async ({ output, watch, schema }, { local }) => {
      if (schema) return printSchemaOf('lease')
      const { showStatus } = await import('./verbs/status.js')
      const { leaseView } = await import('./verbs/views.js')
      return showStatus(await local(), { output, watch }, leaseView())
    },
  }),
  ...LEASE_VERBS,
  verb({
    path: 'routes',
    args: '[match]',
    describe:
      "compare the kernel's objects for peers with what they should be; " +
      'exit code 0 in sync, 1 not, 2 not known',
    positionals: {
      match: { type: 'string', default: '', describe: 'only objects that contain this text' },
    },
    options: {
      ...DOCUMENT_OUTPUT,
      state: {
        type: 'string',
        default: '',
        describe: 'only these states, comma separated: missing, wrong, extra, foreign, unknown, in-sync',
      },
    },
    examples: [
      ['routes', 'every route, nexthop, neighbour and FDB entry'],
      ['routes --state=missing,wrong,extra,foreign', 'only objects that are not as they should be'],
    ],
    run: async ({ output, schema, state, match }, { local }) => {
      if (schema) return printSchemaOf('routes')
      const { runRoutes } = await import('./verbs/routes.js')
      return runRoutes(await local(), { output, state, match })
    },
  }),
  verb({
    path: 'ping',
    args: '<target>',
    describe:
      'ping another host past the overlay, through it, and with large packets; ' +
      'exit code 0 all answered, 1 not, 2 not known',
    positionals: {
      target: {
        type: 'string',
        demandOption: true,
        describe: "the host's PublicIP or subnet, or the address of a container",
      },
    },
    options: {
      ...DOCUMENT_OUTPUT,
      count: { alias: 'c', type: 'number', default: 5, describe: 'packets of each kind, 1 to 100' },
    },
    examples: [
      ['ping 10.5.42.7', 'which host has that container, and which layer fails?'],
      ['ping 192.0.2.42 -o json', 'for a program'],
    ],
    run: async ({ output, schema, target, count }, { local }) => {
      if (schema) return printSchemaOf('ping')
      const { runPing } = await import('./verbs/ping.js')
      return runPing(await local(), target, { output, count })
    },
  }),
  verb({
    path: 'ui',
    describe:
      'serve a page that shows the hosts as a picture, as a table and live, until Ctrl-C; ' +
      'or write it into one file; it changes nothing',
    options: {
      listen: {
        type: 'string',
        default: '127.0.0.1:0',
        describe: 'address of this host and port to serve on; port 0: any that is free',
      },
      output: {
        type: 'string',
        default: '',
        describe:
          'write the page as it is now into this file, which must not exist, or - for standard output',
      },
    },
    examples: [
      ['ui', 'prints the address to open in a browser'],
      ['ui --listen=127.0.0.1:8080', 'for a browser elsewhere: ssh -L 8080:127.0.0.1:8080 HOST'],
      ['ui --output=hosts.html', 'a file that opens without a server'],
    ],
    run: async ({ listen, output }, { local }) => {
      const { runUi } = await import('./verbs/ui.js')
      return runUi(await local(), { listen, output })
    },
  }),
  verb({
    path: 'doctor',
    describe:
      'find out what is wrong and how to fix it; changes nothing; ' +
      'exit code 0 all well, 1 warnings or checks that were not possible, 2 problems',
    options: {
      ...REPORT_OUTPUT,
      watch: { ...WATCH.watch, describe: 'make the checks again and again; q or Ctrl-C to quit' },
      only: {
        type: 'string',
        describe: 'only these checks, comma separated; an unknown name lists all',
      },
      peer: {
        type: 'string',
        describe: 'probe only the peer with this PublicIP, subnet or address, which it has or announces',
      },
    },
    examples: [
      ['doctor', 'check everything, and probe all peers'],
      ['doctor --only=udp,mtu,reach --peer=10.5.42.0/24', 'why is that host not reachable?'],
      ['doctor --watch --only=bridge,firewall', 'while someone mends it'],
    ],
    run: async ({ output, watch, only = '', peer = '' }, { settings }) => {
      const { runDoctor } = await import('./verbs/doctor.js')
      return runDoctor(await settings(), { output, watch, only, peer })
    },
  }),
  verb({
    path: 'events',
    describe: 'show what the daemon has done recently, and what it does',
    options: {
      output: {
        alias: 'o',
        choices: ['text', 'json'],
        default: 'text',
        describe: 'text for people, json for programs: one object per line',
      },
      follow: { alias: 'f', type: 'boolean', default: false, describe: 'keep printing new events' },
      since: { type: 'string', describe: 'only events not older than this, as in 90s, 10m, 2h, 1d' },
      kind: {
        type: 'string',
        array: true,
        describe: 'only these kinds, comma separated; an unknown one lists all',
      },
      peer: { type: 'string', describe: 'only events about the peer with this subnet, PublicIP or address' },
    },
    examples: [
      ['events --since=10m', 'what happened in the last ten minutes'],
      ['events -f --kind=peer-rejected,kernel-repair -o json', 'for a program that watches'],
    ],
    run: async ({ output, follow, since = '', kind = [], peer = '' }, { local }) => {
      const { runEvents } = await import('./verbs/events.js')
      return runEvents((await local())['run-dir'], { output, follow, since, kind: [kind].flat(), peer })
    },
  }),
  verb({
    path: 'metrics',
    describe: "print the daemon's metrics in Prometheus's text format",
    examples: [['metrics | grep -v ^#', 'only the values']],
    run: async (_, { local }) => {
      const { runMetrics } = await import('./verbs/events.js')
      return runMetrics((await local())['run-dir'])
    },
  }),
  verb({
    path: 'bundle',
    describe:
      'write one file for whoever is to find out what is wrong: state, rules, log, doctor; no secrets',
    options: {
      output: {
        type: 'string',
        default: '',
        describe:
          'the file, which must not exist, or - for standard output ' +
          '(default: overlayd-bundle-HOST-TIME.tar.gz here)',
      },
    },
    examples: [
      ['bundle', 'as root, to have all parts; prints what is in it'],
      ['bundle --output=- | ssh support.example tee host7.tar.gz', 'without a file here'],
    ],
    run: async ({ output }, { settings }) => {
      const { runBundle } = await import('./verbs/bundle.js')
      return runBundle(await settings(), output)
    },
  }),
  verb({
    path: 'config get',
    describe: 'print the network config as it is in etcd; exit code 1 if it is missing or not valid',
    examples: [['config get', 'the JSON text in etcd']],
    run: async (_, { settings }) => {
      const { getConfig } = await import('./verbs/config.js')
      await getConfig(await settings())
      return EXIT.healthy
    },
  }),
  ...(['config validate', 'config check'] as const).map((path) =>
    verb({
      path,
      args: '<config>',
      describe:
        path === 'config check'
          ? 'the same as config validate'
          : 'explain a config, or say what is wrong with it',
      positionals: CONFIG,
      isOfHost: false,
      examples: [
        [`${path} network.json`, 'a config in a file'],
        [`${path} - < network.json`, 'from standard input'],
      ],
      run: async ({ config }) => {
        const { validateConfig } = await import('./verbs/config.js')
        await validateConfig(config)
        return EXIT.healthy
      },
    }),
  ),
  verb({
    path: 'config set',
    args: '<config>',
    describe: 'check a config, show its effect on the existing hosts, and write it',
    positionals: CONFIG,
    options: {
      'if-absent': { type: 'boolean', default: false, describe: 'do not replace an existing config' },
      ...CONSENT,
    },
    examples: [
      [`config set '{"Network":"10.5.0.0/16","Backend":{"Type":"vxlan"}}'`, 'create a network'],
      ['config set --dry-run network.json', 'what would happen to the hosts?'],
    ],
    run: async ({ config, 'if-absent': ifAbsent, 'dry-run': dryRun, yes }, { settings }) => {
      const { setConfig } = await import('./verbs/config.js')
      await setConfig(await settings(), config, { ifAbsent, dryRun, yes })
      return EXIT.healthy
    },
  }),
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
      const { runReserve } = await import('./verbs/reservations.js')
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
      const { runRelease } = await import('./verbs/reservations.js')
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
      const { runEvict } = await import('./verbs/evict.js')
      await runEvict(await settings(), key, { force, dryRun, yes })
      return EXIT.healthy
    },
  }),
  ...PREFIX_VERBS,
  ...TRUST_VERBS,
  verb({
    path: 'drain',
    describe: "give this host's subnet back while overlayd keeps running; the other hosts remove it",
    options: {
      undo: { type: 'boolean', default: false, describe: 'take it again' },
      ...CONSENT,
    },
    examples: [
      ['drain --dry-run', 'who uses the subnet?'],
      ['drain', 'asks, then gives it back'],
      ['drain --undo', 'takes the same subnet again, if it is still free'],
    ],
    run: async ({ undo, 'dry-run': dryRun, yes }, { local }) => {
      const { runDrain } = await import('./verbs/drain.js')
      return runDrain(await local(), { undo, dryRun, yes })
    },
  }),
  verb({
    path: 'rotate-key',
    describe: "change this host's WireGuard key now, without losing a packet",
    examples: [
      ['rotate-key', 'asks the daemon; other hosts move to the next key, and the former one is deleted'],
      ['events -f --kind=encryption-key', 'how far is it?'],
    ],
    run: async (_, { local }) => {
      const { runRotateKey } = await import('./verbs/rotate-key.js')
      await runRotateKey(await local())
      return EXIT.healthy
    },
  }),
  verb({
    path: 'teardown',
    describe:
      'remove what overlayd made on this host: device, routes, rules, files; only while it is stopped',
    options: {
      lease: {
        type: 'boolean',
        default: false,
        describe: 'give the lease in etcd back too, unless it is reserved',
      },
      ...CONSENT,
    },
    examples: [
      ['teardown --dry-run', 'what is there to remove?'],
      ['teardown --lease', 'for good, after: systemctl stop overlayd'],
    ],
    run: async ({ lease, 'dry-run': dryRun, yes }, { local }) => {
      const { runTeardown } = await import('./verbs/teardown.js')
      return runTeardown(await local(), { lease, dryRun, yes })
    },
  }),
  verb({
    path: 'docker-opts',
    describe: "write Docker's options from subnet.env, like flannel's mk-docker-opts.sh",
    isOfHost: false,
    options: {
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
      networks: {
        type: 'string',
        describe:
          'share the subnet out: docker0 gets a part with this prefix length, ' +
          'and each network of Docker (compose, docker network create) another',
      },
    },
    examples: [
      ['docker-opts -c -d /run/docker_opts.env', 'as in a drop-in of docker.service'],
      [
        'docker-opts -c --networks=27 -d /dev/stdout',
        'of a /24: docker0 and 7 networks with 29 containers each',
      ],
    ],
    run: async ({ f, d, i, c, k, m, networks }, { local }) => {
      const { readBackend, readNetworks, runDockerOptions } = await import('./verbs/docker-options.js')
      const shared = networks === undefined ? {} : { networks: await readNetworks(networks) }
      const backend = await readBackend(async () => (await local())['docker-mark'])
      const request = { individual: i, combined: c, key: k, ipMasq: !m, backend, ...shared }
      await runDockerOptions(
        { input: f, output: d },
        request,
        networks === undefined ? undefined : await local(),
      )
      return EXIT.healthy
    },
  }),
  ...DOCKER_VERBS,
  verb({
    path: 'docker-network',
    describe: "print the command that makes a network of Docker on a free part of this host's subnet",
    options: {
      create: { type: 'string', describe: 'make the network, with this name' },
      subnet: { type: 'string', describe: "the part of the host's subnet, as in 10.5.7.64/27" },
      size: {
        type: 'string',
        describe: "prefix length of a free part (default: that of docker0's part, else the whole subnet)",
      },
    },
    examples: [
      ['docker-network', 'docker network create with subnet, gateway, MTU and no masquerading'],
      ['docker-network --create=web --size=28', 'makes it'],
    ],
    run: async ({ create, subnet, size }, { local }) => {
      const { runDockerNetwork } = await import('./verbs/docker-network.js')
      await runDockerNetwork(await local(), { create, subnet, size })
      return EXIT.healthy
    },
  }),
  ...ENGINE_VERBS,
  verb({
    path: 'completion',
    args: '<shell>',
    describe: 'print the completion of bash, zsh or fish',
    isOfHost: false,
    positionals: {
      shell: { choices: ['bash', 'zsh', 'fish'] as const, demandOption: true, describe: 'the shell' },
    },
    examples: [['completion bash > /etc/bash_completion.d/overlayctl', 'if no package installs it']],
    run: async ({ shell }) => {
      const { completionFor } = await import('./completion.js')
      print(completionFor(shell, VERBS))
      return EXIT.healthy
    },
  }),
  verb({
    path: 'version',
    describe: 'print the version',
    isOfHost: false,
    examples: [['version', 'the same as --version']],
    run: async () => {
      const { readVersion } = await import('../options/version.js')
      print(`${readVersion()}\n`)
      return EXIT.healthy
    },
  }),
  verb({
    path: 'help',
    args: '[command..]',
    describe: 'explain a command; overlayctl help etcd: the flags that all commands take',
    isOfHost: false,
    positionals: { command: { type: 'string', array: true, describe: 'the command' } },
    examples: [
      ['help config set', 'the same as config set --help'],
      ['help etcd', 'the flags for etcd and the daemon'],
    ],
    // src/overlayctl.ts prints the help itself, because it has all texts.
    run: async () => EXIT.healthy,
  }),
]

/** All words that may come first. */
export const FIRST_WORDS: readonly string[] = [...new Set(VERBS.map(({ path }) => path.split(' ')[0] ?? ''))]
