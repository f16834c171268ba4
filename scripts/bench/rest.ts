/** The cases of a daemon at rest, and of `overlayctl status`. */
import { inNamespace } from '../../test/lab/namespace'
import { type Command, runOk } from '../../test/lab/process'
import { sleep } from '../../test/lab/wait'
import type { Case } from './case'
import { onRunning } from './daemon'
import { loadSince, WATCH_EVENTS } from './etcd-load'
import { cpuSeconds, rssMb, wakeups } from './proc'

export const idle: Case = {
  name: 'idle',
  about:
    'Nothing changes. Wakeups: voluntary context switches of all threads (/proc/PID/task/*/status). RPCs ' +
    'include the streams that were opened, but not the messages on them.',
  metrics: [
    { key: 'seconds', label: 'watched for, s', digits: 0 },
    { key: 'cpuPercent', label: 'CPU, % of one', digits: 2 },
    { key: 'wakeupsPerSecond', label: 'wakeups a second', digits: 1 },
    { key: 'rssMb', label: 'RSS, MB', digits: 0, plot: 'RSS at rest' },
    { key: 'rpcs', label: 'RPCs to etcd', digits: 0, comparable: true },
    WATCH_EVENTS,
  ],
  measure: (stage) =>
    onRunning(stage, async ({ lab, pid, effort }) => {
      const seconds = effort.idleSeconds
      const rpcs = await lab.etcd.load()
      const [cpu, woken] = [cpuSeconds(pid), wakeups(pid)]
      await sleep(seconds * 1000)
      return {
        seconds,
        cpuPercent: ((cpuSeconds(pid) - cpu) / seconds) * 100,
        wakeupsPerSecond: (wakeups(pid) - woken) / seconds,
        rssMb: rssMb(pid),
        ...loadSince(rpcs, await lab.etcd.load()),
      }
    }),
}

/** Runs of each command, in turns; the fastest counts. */
const RUNS = 5

export const status: Case = {
  name: 'status',
  ownOnly: true,
  about:
    '`overlayctl status` while the daemon runs, `--version` and `--help`, from exec to the end; the fastest ' +
    `of ${RUNS} runs in turns. Bare node: \`node -e 0\`.`,
  metrics: [
    { key: 'seconds', label: '`overlayctl status`, s', digits: 3, plot: 'overlayctl status' },
    { key: 'nodeSeconds', label: 'bare node, s', digits: 3 },
    { key: 'ratio', label: 'status : bare node', digits: 1, comparable: true },
    { key: 'versionRatio', label: '--version : bare node', digits: 1, comparable: true },
    { key: 'helpRatio', label: '--help : bare node', digits: 1, comparable: true },
  ],
  measure: (stage) =>
    onRunning(stage, async ({ host, subject }) => {
      const within = (...command: Command) => inNamespace(host.namespace, command)
      const { node, status, version, help } = await fastestOf({
        node: within(process.execPath, '-e', '0'),
        status: within(...subject.control, 'status', `--run-dir=${host.runDirectory}`),
        version: within(...subject.control, '--version'),
        help: within(...subject.control, '--help'),
      })
      return {
        seconds: status,
        nodeSeconds: node,
        ratio: status / node,
        versionRatio: version / node,
        helpRatio: help / node,
      }
    }),
}

/** @returns the least seconds that each command took */
async function fastestOf<Name extends string>(
  commands: Readonly<Record<Name, Command>>,
): Promise<Record<Name, number>> {
  const least = {} as Record<Name, number>
  for (let run = 0; run < RUNS; run++) {
    for (const [name, command] of Object.entries(commands) as [Name, Command][]) {
      const start = performance.now()
      await runOk(command)
      const seconds = (performance.now() - start) / 1000
      least[name] = Math.min(seconds, least[name] ?? seconds)
    }
  }
  return least
}
