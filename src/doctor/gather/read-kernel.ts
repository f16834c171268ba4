/** Facts from the kernel over netlink. */

import type {
  DeviceFacts,
  Facts,
  FactValues,
  KernelFacts,
  Known,
  MulticastFacts,
  WireguardFacts,
} from '../../judge/facts'
import {
  addressWithin,
  deviceName,
  type OverlayFacts,
  peersOf,
  rangeOf,
  sampleAddress,
  vniOf,
} from '../../judge/overlay'
import { MulticastDevice } from '../../kernel/bridges/multicast'
import type { KernelReader } from '../../kernel/kernel'
import { looksInto, type TableObject } from '../../kernel/nftables/netfilter-objects'
import { FAMILIES, parseIpPrefix } from '../../model/address'
import { SLOTS } from '../../model/lease'
import { type Destination, EVERY_GROUP } from '../../model/multicast'
import { attempt } from '../../model/result'
import { wireguardLinkName, wireguardTable } from '../../plan/encryption/encryption-plan'
import { wantedSets } from '../../plan/multicast/rules'
import { multicastLinkName } from '../../plan/reconcile/desired'

export async function readKernel(
  kernel: KernelReader,
  facts: Pick<Facts, 'daemon' | 'config'>,
): Promise<KernelFacts> {
  const { links, addresses, defaultRoutes } = await kernel.hostNetwork()
  const routes = []
  const devices: DeviceFacts[] = []
  for (const family of FAMILIES) {
    routes.push(...(await kernel.underlayRoutes(family)))
    const link = links.find(({ name }) => name === deviceName(facts, family))
    if (link === undefined) continue
    const { network } = rangeOf(facts.config.value, family) ?? {}
    const elsewhere = { network, routes: true, links: [] }
    devices.push({ family, link, objects: await kernel.observe(family, link.index, elsewhere) })
  }
  return { links, addresses, defaultRoutes, routes, devices }
}

/** Only where the network config asks for multicast. */
export async function readMulticast(
  open: () => Promise<KernelReader>,
  facts: Known<'kernel' | 'config', 'daemon'>,
): Promise<MulticastFacts | undefined> {
  const name = multicastLinkName(vniOf(facts))
  const link = facts.kernel.value.links.find((each) => each.name === name)
  if (facts.config.value.backend.multicast === undefined || link === undefined) return undefined
  const ignore = (): void => undefined
  const multicast = await MulticastDevice.open(await open(), () => name, ignore, ignore)
  try {
    const table = await attempt('multicast', () => multicast.tables.read({ family: 'netdev', name }))
    const destinations = await multicast.destinations(link.index)
    const isForAll = ({ mac }: Destination): boolean => mac === EVERY_GROUP
    return {
      link,
      destinations: destinations.filter(isForAll).map(({ address }) => address),
      lists: destinations.filter((each) => !isForAll(each)),
      wanted: await readWanted(multicast, name, table.value ?? []),
      chains: table.value?.flatMap(({ chain }) => chain ?? []),
      bridges: await multicast.bridges(),
    }
  } finally {
    multicast.close()
  }
}

/**
 * Only where the network config asks for encryption, and a device is there.
 * @throws {OverlayError} `no-net-admin`
 */
export async function readWireguard(
  open: () => Promise<KernelReader>,
  facts: Known<'kernel' | 'config', 'daemon'>,
): Promise<FactValues['wireguard']> {
  const config = facts.config.value
  const vni = vniOf(facts)
  const found = SLOTS.flatMap((slot) => {
    const link = facts.kernel.value.links.find(({ name }) => name === wireguardLinkName(slot, vni))
    return link === undefined ? [] : [{ slot, link }]
  })
  if (config.backend.encryption === undefined || found.length === 0) return undefined
  // A host without encryption loads no code of it.
  const { WireguardDevices } = await import('../../kernel/wireguard/devices.js')
  const devices = await WireguardDevices.open(await open(), () => undefined)
  try {
    const read = async ({ slot, link }: (typeof found)[number]): Promise<WireguardFacts> => ({
      slot,
      link,
      device: await devices?.read(link.index),
      hasRule6:
        config.ipv6 === undefined ? undefined : await devices?.isRule6Right(link, wireguardTable(slot, vni)),
    })
    return await Promise.all(found.map(read))
  } finally {
    devices?.close()
  }
}

/** The sets that rules read; an unreadable one is left out. */
async function readWanted(multicast: MulticastDevice, name: string, objects: readonly TableObject[]) {
  const used = wantedSets().filter(({ name }) => looksInto(objects, name))
  const sets = await attempt('multicast', () => multicast.tables.readSets({ family: 'netdev', name }, used))
  return Object.fromEntries((sets.value ?? []).map(({ family, addresses }) => [family, addresses]))
}

export async function readWays(
  kernel: KernelReader,
  facts: OverlayFacts & Pick<Facts, 'prefixes'>,
): Promise<FactValues['ways']> {
  const own = (facts.prefixes.value?.prefixes ?? []).filter((row) => row.own)
  const addresses = new Set([
    ...peersOf(facts).flatMap((peer) => [peer.publicIp, sampleAddress(peer.subnet)]),
    ...own.flatMap(({ prefix: text }) => {
      const prefix = parseIpPrefix(text)
      return prefix === undefined ? [] : [addressWithin(prefix)]
    }),
  ])
  const ways = await Promise.all(
    [...addresses].map(
      async (address) => [address, await attempt('ways', () => kernel.lookUp(address))] as const,
    ),
  )
  return new Map(ways.flatMap(([address, way]) => (way.ok ? [[address, way.value] as const] : [])))
}
