/** The commands about the network config in etcd: part of the table of commands. */
import { EXIT } from '../exit'
import { CONSENT } from '../flags'
import { type Verb, verb } from '../verb'

const CONFIG = {
  config: {
    type: 'string',
    demandOption: true,
    describe: 'a file with the config, its JSON text, or - for standard input',
  },
} as const

export const CONFIG_VERBS: readonly Verb[] = [
  verb({
    path: 'config get',
    describe: 'print the network config as it is in etcd; exit code 1 if it is missing or not valid',
    examples: [['config get', 'the JSON text in etcd']],
    run: async (_, { settings }) => {
      const { getConfig } = await import('../verbs/config.js')
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
        const { validateConfig } = await import('../verbs/config.js')
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
      const { setConfig } = await import('../verbs/config.js')
      await setConfig(await settings(), config, { ifAbsent, dryRun, yes })
      return EXIT.healthy
    },
  }),
]
