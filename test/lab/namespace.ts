/**
 * Network namespaces of the sandbox, by name. Commands enter them with nsenter: `ip netns exec` would also
 * create a mount namespace and mount another /sys in it.
 */
import { type Command, type RunOptions, type RunResult, run, runOk } from './process'

/** @throws {Error} outside of the sandbox, to protect the network of a real machine */
export function assertSandbox(): void {
  if (process.env['OVERLAYD_SANDBOX'] === '1') return
  throw new Error('this creates network namespaces and devices: run it as `scripts/sandbox COMMAND ...`')
}

/** The command, run inside a namespace. */
export function inNamespace(namespace: string, command: readonly string[]): Command {
  return ['nsenter', `--net=/run/netns/${namespace}`, ...command]
}

/** Runs a command in a namespace. Any exit code is accepted. */
export function exec(namespace: string, command: Command, options?: RunOptions): Promise<RunResult> {
  return run(inNamespace(namespace, command), options)
}

/** Runs a command in a namespace; it has to succeed. @returns its standard output */
export function execOk(namespace: string, command: Command, options?: RunOptions): Promise<string> {
  return runOk(inNamespace(namespace, command), options)
}

/**
 * Runs many `ip` commands in one process. The first that fails stops the batch and is thrown.
 * @param namespace undefined for the sandbox itself
 */
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
