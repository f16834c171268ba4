/** What every command that talks to etcd needs. */
import { etcdOptions, type Options } from '../daemon/options'
import { openEtcd } from '../etcd/client'
import { Registry } from '../etcd/registry'
import { OverlayError } from '../model/errors'

/** Milliseconds for all of etcd. */
const DEADLINE = 10_000

/** Opens etcd for one piece of work, which must be done within a deadline. */
export async function withRegistry<T>(
  options: Options,
  use: (registry: Registry, signal: AbortSignal) => Promise<T>,
): Promise<T> {
  const client = await openEtcd(etcdOptions(options))
  try {
    return await use(new Registry(client, { prefix: options['etcd-prefix'] }), AbortSignal.timeout(DEADLINE))
  } finally {
    client.close()
  }
}

/** That there is no config, and how to put one. */
export function missingConfig(options: Options): OverlayError {
  return new OverlayError(
    'no-config',
    `there is no network config under ${options['etcd-prefix']}`,
    `put one: overlayctl config set '{"Network":"10.5.0.0/16","Backend":{"Type":"vxlan"}}'`,
  )
}
