/**
 * The table of overlayctl's commands and their flags, in the order of the help. The program, its help and the
 * shell completions are made from it.
 */

import { print } from '../host/streams'
import { EXIT } from './exit'
import { CONFIG_VERBS } from './table/config'
import { DIAGNOSIS_VERBS } from './table/diagnosis'
import { DOCKER_VERBS } from './table/docker'
import { ENGINE_VERBS } from './table/engines'
import { HOST_VERBS } from './table/host'
import { LEASE_VERBS } from './table/lease'
import { PREFIX_VERBS } from './table/prefixes'
import { RESERVATION_VERBS } from './table/reservations'
import { STATUS_VERBS } from './table/status'
import { TRUST_VERBS } from './table/trust'
import { type Verb, verb } from './verb'

export const VERBS: readonly Verb[] = [
  ...STATUS_VERBS,
  ...LEASE_VERBS,
  ...DIAGNOSIS_VERBS,
  ...CONFIG_VERBS,
  ...RESERVATION_VERBS,
  ...PREFIX_VERBS,
  ...TRUST_VERBS,
  ...HOST_VERBS,
  ...DOCKER_VERBS,
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
