/**
 * Network namespaces of the sandbox, by name. Commands enter them by nsenter and not by `ip netns exec`, which would also make a
 * mount namespace of its own and hide /sys below it.
 */
import { type Command, type RunOptions, type RunResult, run, runOk } from './process'

/** Refuses to touch the network of a real machine. */
export function assertSandbox(): void {
  if (process.env['OVERLAYD_SANDBOX'] === '1') return
  throw new Error('this makes network namespaces and devices: run it as `scripts/sandbox COMMAND ...`')
}

/** The command, run inside a namespace. */
export function inNamespace(namespace: string, command: readonly string[]): Command {
  return ['nsenter', `--net=/run/netns/${namespace}`, ...command]
}

/** Runs a command in a namespace to its end. */
export function exec(namespace: string, command: Command, options?: RunOptions): Promise<RunResult> {
  return run(inNamespace(namespace, command), options)
}

/** Runs a command in a namespace that has to succeed, and answers what it printed. */
export function execOk(namespace: string, command: Command, options?: RunOptions): Promise<string> {
  return runOk(inNamespace(namespace, command), options)
}

/** Many `ip` commands in one process, in a namespace or in the sandbox itself. The first that fails ends it. */
export async function ipBatch(namespace: string | undefined, lines: readonly string[]): Promise<void> {
  if (lines.length === 0) return
  const command: Command = ['ip', '-batch', '-']
  await runOk(namespace === undefined ? command : inNamespace(namespace, command), {
    input: `${lines.join('\n')}\n`,
  })
}

/** Sets a sysctl of a namespace, e.g. `net/ipv4/ip_forward`. */
export async function setSysctl(namespace: string, name: string, value: string): Promise<void> {
  await execOk(namespace, ['tee', `/proc/sys/${name}`], { input: value })
}
