/** The further subnets of this host, for commands that make networks of containers. */
import { readFurtherSubnets } from '../../api/status-parts'
import { readDaemon } from '../../client/daemon-socket'
import { readStateFile } from '../../host/state-file'
import { complain } from '../../host/streams'
import { formatPrefix, networkOf, type Prefix } from '../../model/address'
import { describeError, isOverlayError } from '../../model/errors'
import { prefixName } from '../../model/prefixes'
import type { Options } from '../../options/schema'

/**
 * Asks the daemon; where none runs, its state file tells what it had.
 * @param own the subnet of subnet.env: a host with another lease has none of these further subnets
 * @returns none where that is not known, which is said
 */
export async function readFurther(
  options: Pick<Options, 'run-dir' | 'state-dir'>,
  own: Prefix | undefined,
): Promise<readonly Prefix[]> {
  if (own === undefined) return []
  const subnet = networkOf(own.address, own.length)
  try {
    const status = await readDaemon(options['run-dir'], 'briefStatus')
    if (status !== undefined) {
      const { lease } = status
      return lease?.subnet === formatPrefix(subnet) ? readFurtherSubnets(lease.further) : []
    }
    const { state } = await readStateFile(options['state-dir'])
    const name = state?.own.key.split('/').at(-1)?.split('&')[0]
    if (state === undefined || name !== prefixName(subnet)) return []
    return readFurtherSubnets(
      (state.announced ?? []).flatMap(({ prefix, further }) => (further ? [prefix] : [])),
    )
  } catch (error) {
    if (!isOverlayError(error)) throw error
    complain(`overlayctl: whether this host has further subnets is not known: ${describeError(error)}`)
    return []
  }
}
