#!/usr/bin/env node
/** The operator's entry: `overlayctl status`. */
import yargs from 'yargs'
import { hideBin } from 'yargs/helpers'
import { EXIT, runStatus } from './cli/status'
import { parseOptions, UsageError, yargsOptions } from './daemon/options'
import { readVersion } from './daemon/version'
import { describeError } from './model/errors'

const SHARED = yargsOptions(['run-dir', 'etcd-endpoints', 'etcd-prefix', 'subnet-file'])

async function main(): Promise<number> {
  let code: number = EXIT.usage
  await yargs(hideBin(process.argv))
    .scriptName('overlayctl')
    .usage(
      'overlayctl: looks after overlayd, the overlay network of this host.\n\nUsage: overlayctl <command>',
    )
    .command(
      'status',
      'show network, lease, device, etcd and peers; exit code 0 healthy, 1 degraded, 2 nothing reachable',
      (command) =>
        command.options({
          ...SHARED,
          output: {
            alias: 'o',
            choices: ['text', 'json'] as const,
            default: 'text' as const,
            describe: 'text for people, json for programs',
          },
        }),
      async ({ output, ...flags }) => {
        code = await runStatus(parseOptions(flags, process.env), output)
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

main().then(
  (code) => {
    process.exitCode = code
  },
  (error: unknown) => {
    process.stderr.write(`overlayctl: ${describeError(error)}\n`)
    process.exitCode = EXIT.usage
  },
)
