/** The commands about Docker's unit: part of the table of commands. */
import { EXIT } from './exit'
import { type Verb, verb } from './verb'

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
    path: 'docker enable',
    describe: 'have Docker start after overlayd, on the subnet of this host, by a drop-in for its unit',
    isOfHost: false,
    options: UNIT_FLAGS,
    examples: [
      ['docker enable --now', 'and restart Docker'],
      ['docker enable --root=/mnt/image', 'in an image'],
    ],
    run: async (flags) => {
      const { runDockerEnable } = await import('./verbs/docker-unit.js')
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
      const { runDockerDisable } = await import('./verbs/docker-unit.js')
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
      const { runDockerWait } = await import('./verbs/docker-wait.js')
      await runDockerWait(f)
      return EXIT.healthy
    },
  }),
]
