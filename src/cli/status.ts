/** `overlayctl status`: asks the daemon; when it does not run, shows what etcd and the kernel say. */

import type { Options } from '../daemon/options'
import type { Status } from '../daemon/status'
import { readDaemonStatus } from './daemon-status'
import { EXIT } from './exit'
import { readLocalStatus } from './local-status'
import { renderStatus } from './render-status'

/** Prints the status and answers the exit code. */
export async function runStatus(options: Options, output: 'text' | 'json'): Promise<number> {
  const status = (await readDaemonStatus(options['run-dir'])) ?? (await readLocalStatus(options))
  process.stdout.write(output === 'json' ? `${JSON.stringify(status, undefined, 2)}\n` : renderStatus(status))
  return exitCode(status)
}

function exitCode(status: Status): number {
  if (status.state === 'healthy') return EXIT.healthy
  const nothing = !status.daemon.running && !status.etcd.connected && status.device === undefined
  return nothing ? EXIT.unreachable : EXIT.degraded
}
