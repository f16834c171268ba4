/** `overlayctl lease add` and `lease remove`: further subnets of this host. */
import { daemonIsDown, orderDaemon, readDaemon } from '../../client/daemon-socket'
import { readDockerNetworks } from '../../host/docker-socket'
import { readEngineFiles } from '../../host/engine-files'
import { complain, print } from '../../host/streams'
import { formatPrefix, isNetwork, type Prefix, parseIpPrefix } from '../../model/address'
import { commandsFor, networkOfRunDirectory } from '../../model/commands'
import { OverlayError } from '../../model/errors'
import type { Options } from '../../options/schema'
import { UsageError } from '../../options/usage-error'
import { type NetworkOfEngine, usersOf } from '../../plan/host/block-users'
import { readBridgeUse } from '../ask/bridge-use'

export interface LeaseAddFlags {
  readonly length: number | undefined
  readonly ipv6: boolean
}

/** Milliseconds for the daemon's answer. It gives the choice ten seconds of them. */
const DEADLINE = 15_000
/** Milliseconds for dockerd's answer. */
const DOCKER_DEADLINE = 10_000

/** @throws {OverlayError} the daemon's refusal; {UsageError} */
export async function runLeaseAdd(options: Options, { length, ipv6 }: LeaseAddFlags): Promise<void> {
  const runDirectory = options['run-dir']
  if (length !== undefined && !(Number.isSafeInteger(length) && length >= 0 && length <= 128))
    throw new UsageError(`the flag --length is ${length}: expected a prefix length, as in --length=24`)
  const body = {
    schema: 1,
    ...(ipv6 && { family: 'IPv6' as const }),
    ...(length !== undefined && { length }),
  } as const
  const answer = await orderDaemon(runDirectory, 'addSubnet', body, DEADLINE)
  if (answer === undefined) throw daemonIsDown(runDirectory)
  const { added, unaware } = answer
  tell(runDirectory, `added: ${added}, a further subnet of this host`)
  if (unaware !== undefined) tell(runDirectory, unaware)
}

/** @throws {OverlayError} `lease-remove` with the users of the subnet; the daemon's refusal */
export async function runLeaseRemove(options: Options, text: string): Promise<void> {
  const runDirectory = options['run-dir']
  const block = parseIpPrefix(text)
  if (block === undefined || !isNetwork(block))
    throw new UsageError(`${JSON.stringify(text.slice(0, 64))} is not a subnet as in 10.5.243.0/24`)
  const document = await readDaemon(runDirectory, 'prefixes')
  if (document === undefined) throw daemonIsDown(runDirectory)
  const name = formatPrefix(block)
  // The daemon refuses what is no further subnet of this host.
  const row = document.prefixes.find(({ prefix, own, further }) => own && further === true && prefix === name)
  if (row !== undefined) {
    // Of one that another host has, what others announce in it is not for this host to withdraw.
    const isCounted = (own: boolean): boolean => own || row.state === 'wins'
    const users = usersOf(block, {
      bridges: await readBridgeUse([block]),
      networks: await readNetworks(),
      announced: document.prefixes.flatMap(({ prefix: other, host, own }) => {
        const prefix = parseIpPrefix(other)
        return prefix === undefined || host === undefined || (own && other === name) || !isCounted(own)
          ? []
          : [{ prefix, host }]
      }),
    })
    if (users.length > 0)
      throw new OverlayError(
        'lease-remove',
        `${name} is in use: ${users.join('; ')}`,
        'remove those networks and withdraw those prefixes first',
      )
  }
  const answer = await orderDaemon(runDirectory, 'removeSubnet', { schema: 1, prefix: name }, DEADLINE)
  if (answer === undefined) throw daemonIsDown(runDirectory)
  tell(runDirectory, `given back: ${answer.removed}`)
}

/** What container engines have, whether it runs or not. */
async function readNetworks(): Promise<NetworkOfEngine[]> {
  const docker: readonly { name: string; subnets: readonly Prefix[] }[] =
    (await readDockerNetworks(AbortSignal.timeout(DOCKER_DEADLINE))) ?? []
  const { files, problems } = await readEngineFiles()
  for (const problem of problems) complain(`overlayctl: ${problem}`)
  return [
    ...docker.map(({ name, subnets }) => ({ name: `the network ${name} of Docker`, subnets })),
    ...files.map(({ name, path, subnets }) => ({ name: `the network ${name} in ${path}`, subnets })),
  ]
}

const tell = (runDirectory: string, text: string): void =>
  void print(`${commandsFor(networkOfRunDirectory(runDirectory), text)}\n`)
