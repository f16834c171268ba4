/** `overlayctl docker-network`: prints or runs the command that makes a network of Docker in the overlay. */
import { createDockerNetwork, dockerIsDown, readDockerNetworks } from '../../host/docker-socket'
import { print } from '../../host/streams'
import { readSubnetVariables } from '../../host/subnet-env'
import { formatPrefix, parseIpv4Prefix, parseIpv6Prefix } from '../../model/address'
import { OverlayError } from '../../model/errors'
import type { Options } from '../../options/schema'
import { createCommand, createRequest, planNetwork } from '../../plan/host/docker-network'
import { optionsOfNetworks } from '../../plan/host/docker-options'
import { readFurther } from '../ask/further-subnets'
import { readLength, readPart } from '../ask/subnet-part'

/** Milliseconds for all of it. */
const DEADLINE = 30_000
const CODE = 'docker-network'
/** The name in the printed command. */
const EXAMPLE = 'overlay'

export interface DockerNetworkFlags {
  /** Name of the network to make; `undefined`: the command is printed. */
  readonly create: string | undefined
  /** A part of the subnet. */
  readonly subnet: string | undefined
  /** Prefix length of the part. */
  readonly size: string | undefined
}

/** @throws {OverlayError} `docker-network` for what does not fit; `docker`; `subnet-file` */
export async function runDockerNetwork(
  options: Options,
  { create, subnet, size }: DockerNetworkFlags,
): Promise<void> {
  const signal = AbortSignal.timeout(DEADLINE)
  const subnetFile = options['subnet-file']
  const part = subnet === undefined ? undefined : readPart(subnet, CODE)
  const length = size === undefined ? undefined : readLength(size, CODE)
  const variables = await readSubnetVariables(subnetFile)
  const own = parseIpv4Prefix(variables['FLANNEL_SUBNET'] ?? '')
  if (own === undefined) {
    throw new OverlayError(
      CODE,
      `${subnetFile} has no IPv4 subnet`,
      'start overlayd first, or name the file with --subnet-file',
    )
  }
  const present = await readDockerNetworks(signal)
  if (present === undefined && (part === undefined || create !== undefined)) throw dockerIsDown()
  const planned = planNetwork(
    {
      name: create ?? EXAMPLE,
      subnet: own,
      subnet6: parseIpv6Prefix(variables['FLANNEL_IPV6_SUBNET'] ?? ''),
      further: await readFurther(options, own),
      options: optionsOfNetworks(variables, { ipMasq: true }),
      part,
      length,
    },
    present ?? [],
  )
  if (!planned.ok) throw new OverlayError(planned.problem.code, planned.problem.text)
  if (create === undefined) {
    print(`${createCommand(planned.value).join(' ')}\n`)
    return
  }
  await createDockerNetwork(createRequest(planned.value), signal)
  print(`network ${create}: ${planned.value.parts.map(formatPrefix).join(' and ')}\n`)
}
