/** Access to etcd for commands. */

import { demandEtcd } from '../../client/settings'
import { openEtcd } from '../../etcd/client/client'
import { Registry } from '../../etcd/registry'
import { OverlayError } from '../../model/errors'
import { etcdOptions } from '../../options/etcd'
import type { Options } from '../../options/schema'

/** Milliseconds for all calls of etcd. */
const DEADLINE = 10_000

/** Opens etcd for one piece of work with a deadline. */
export async function withRegistry<T>(
  options: Options,
  use: (registry: Registry, signal: AbortSignal) => Promise<T>,
  deadline = DEADLINE,
): Promise<T> {
  demandEtcd(options)
  const client = await openEtcd(etcdOptions(options))
  try {
    return await use(new Registry(client, { prefix: options['etcd-prefix'] }), AbortSignal.timeout(deadline))
  } finally {
    client.close()
  }
}

/** The error where there is no config, with the command that puts one. */
export function missingConfig(options: Options): OverlayError {
  return new OverlayError(
    'no-config',
    `there is no network config under ${options['etcd-prefix']}`,
    `put one: overlayctl config set '{"Network":"10.5.0.0/16","Backend":{"Type":"vxlan"}}'`,
  )
}
