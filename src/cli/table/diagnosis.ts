/** The commands that find out what is wrong, and change nothing: part of the table of commands. */

import { DOCUMENT_OUTPUT, WATCH } from '../flags'
import { type Verb, verb } from '../verb'
import { printSchemaOf } from './schema'

const REPORT_OUTPUT = {
  output: {
    alias: 'o',
    choices: ['text', 'json', 'yaml'],
    default: 'text',
    describe: 'text for people, json or yaml for programs',
  },
} as const

export const DIAGNOSIS_VERBS: readonly Verb[] = [
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
      const { runRoutes } = await import('../verbs/routes.js')
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
      const { runPing } = await import('../verbs/ping.js')
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
      const { runUi } = await import('../verbs/ui.js')
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
      const { runDoctor } = await import('../verbs/doctor.js')
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
      const { runEvents } = await import('../verbs/events.js')
      return runEvents((await local())['run-dir'], { output, follow, since, kind: [kind].flat(), peer })
    },
  }),
  verb({
    path: 'metrics',
    describe: "print the daemon's metrics in Prometheus's text format",
    examples: [['metrics | grep -v ^#', 'only the values']],
    run: async (_, { local }) => {
      const { runMetrics } = await import('../verbs/events.js')
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
      const { runBundle } = await import('../verbs/bundle.js')
      return runBundle(await settings(), output)
    },
  }),
]
