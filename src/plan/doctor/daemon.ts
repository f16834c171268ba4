/** The daemon itself. */
import { type Check, outcome } from './finding'

export const DAEMON_CHECKS: readonly Check[] = [
  {
    name: 'daemon',
    about: 'overlayd runs and answers',
    run({ daemon, runDirectory }) {
      if (daemon.value === undefined) {
        const hangs = daemon.code === 'control-socket'
        return outcome('', [
          {
            code: hangs ? 'daemon-mute' : 'daemon-down',
            severity: 'fail',
            what: hangs ? 'overlayd does not answer' : 'overlayd does not run',
            evidence: [daemon.missing],
            breaks:
              'what the kernel has still carries traffic, but hosts that join, leave or move are not followed, and the lease ends within a day',
            fix: hangs
              ? (daemon.fix ?? 'restart it; that costs no packet')
              : `start it, or give the --run-dir that it was started with (looked in ${runDirectory})`,
            commands: [hangs ? 'systemctl restart overlayd' : 'systemctl start overlayd'],
          },
        ])
      }
      const { version, daemon: state, problems } = daemon.value
      const summary = `overlayd ${version}, ${state.phase}`
      // Their subjects have checks of their own.
      const own = problems.filter((problem) => /^(kernel|underlay|firewall): /.test(problem))
      return outcome(summary, [
        own.length === 0
          ? undefined
          : {
              code: 'daemon-problem',
              severity: 'fail',
              what: 'overlayd cannot do what it should',
              evidence: own,
              breaks: 'part of this host is not as etcd wants it',
              fix: 'the reason is in its words; it tries again by itself',
              commands: ['journalctl -u overlayd -n 50'],
            },
      ])
    },
  },
]
