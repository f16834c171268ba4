/** The commands about Docker, its unit, options and networks: part of the table of commands. */
import { EXIT } from '../exit'
import { type Verb, verb } from '../verb'

const UNIT_FLAGS = {
  now: { type: 'boolean', default: false, describe: 'restart Docker too, if it runs' },
  force: {
    type: 'boolean',
    default: false,
    describe: 'set a drop-in of your own with the same name aside',
  },
  root: {
    type: 'string',
    default: '',
    describe: 'root directory of a system that does not run, such as an image',
  },
} as const

export const DOCKER_VERBS: readonly Verb[] = [
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
      const { readBackend, readNetworks, runDockerOptions } = await import('../verbs/docker-options.js')
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
  verb({
    path: 'docker enable',
    describe: 'have Docker start after overlayd, on the subnet of this host, by a drop-in for its unit',
    isOfHost: false,
    options: UNIT_FLAGS,
    examples: [
      ['docker enable --now', 'and restart Docker'],
      ['docker enable --root=/mnt/image', 'in an image'],
    ],
    run: async (flags) => {
      const { runDockerEnable } = await import('../verbs/docker-unit.js')
      await runDockerEnable(flags)
      return EXIT.healthy
    },
  }),
  verb({
    path: 'docker disable',
    describe: 'take the drop-in away: Docker starts as if there were no overlayd',
    isOfHost: false,
    options: UNIT_FLAGS,
    examples: [['docker disable', 'before overlayd is removed']],
    run: async (flags) => {
      const { runDockerDisable } = await import('../verbs/docker-unit.js')
      await runDockerDisable(flags)
      return EXIT.healthy
    },
  }),
  verb({
    path: 'docker wait',
    describe: "wait until there is a subnet for Docker, and say in Docker's unit what it waits for",
    isOfHost: false,
    options: {
      f: { type: 'string', default: '/run/flannel/subnet.env', describe: 'subnet.env' },
    },
    examples: [['docker wait', 'in ExecStartPre= of docker.service, as the drop-in has it']],
    run: async ({ f }) => {
      const { runDockerWait } = await import('../verbs/docker-wait.js')
      await runDockerWait(f)
      return EXIT.healthy
    },
  }),
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
      const { runDockerNetwork } = await import('../verbs/docker-network.js')
      await runDockerNetwork(await local(), { create, subnet, size })
      return EXIT.healthy
    },
  }),
]
