/**
 * A reconciler in the network of `kernel/network.ts`, without a daemon. Tests change its peers, record its
 * operations, and read the device as `ip` and `bridge` show it.
 */
import winston from 'winston'
import { AddressGuard } from '../../../src/daemon/overlay/address-guard'
import { Reconciler } from '../../../src/daemon/overlay/reconciler'
import type { ReconcilerOptions, Target } from '../../../src/daemon/overlay/target'
import type { Logger } from '../../../src/daemon/tell/logger'
import type { Kernel } from '../../../src/kernel/kernel'
import { formatIp, formatMac, formatPrefix, type Prefix } from '../../../src/model/address'
import type { LinkSpec } from '../../../src/model/kernel/link'
import type { ObjectOperation } from '../../../src/model/kernel/objects'
import { PeerTable } from '../../../src/plan/peers/peer-table'
import { ipv4Range, net } from '../../unit/plan/support'
import {
  address,
  linkSpec,
  makeUnderlay,
  openKernel,
  PARENT_ADDRESS,
  removeUnderlay,
  requireSandbox,
  show,
} from '../kernel/network'

/**
 * Makes the underlay before the tests of a file, and opens the kernel for all of them; removes both after.
 */
export function kernelOfFile(): () => Kernel {
  let kernel: Kernel | undefined
  beforeAll(async () => {
    requireSandbox()
    makeUnderlay()
    kernel = await openKernel()
  })
  afterAll(() => {
    kernel?.close()
    removeUnderlay()
  })
  return () => {
    if (kernel === undefined) throw new Error('the kernel is not open')
    return kernel
  }
}

export interface ReconcilerSite {
  /** The device that the reconciler makes. */
  readonly link: LinkSpec
  readonly peers: PeerTable
  readonly reconciler: Reconciler
}

export interface SiteFields extends Partial<Pick<Target, 'blackhole' | 'forward' | 'unconfirmed'>> {
  /** Fields of the network config; by default 10.5.0.0/16. */
  readonly config?: object
  /** This host's own; by default 10.5.1.0/24. */
  readonly subnet?: Prefix
  readonly log?: Logger
  readonly options?: ReconcilerOptions
}

/** @param kernel what the reconciler sees; it may fail, record or call back */
export async function makeReconciler(
  kernel: Kernel,
  {
    config,
    subnet = net('10.5.1.0/24'),
    log = winston.createLogger({ silent: true }),
    options,
    ...target
  }: SiteFields = {},
): Promise<ReconcilerSite> {
  const range = ipv4Range(config)
  const link = await linkSpec(kernel)
  const own = { key: 'own', subnet, publicIp: address(PARENT_ADDRESS), mac: link.mac }
  const peers = new PeerTable({ range, vni: 1 }, own)
  const all: Target = {
    link,
    network: range.network,
    subnet,
    peers,
    directRouting: false,
    blackhole: false,
    stale: [],
    forward: false,
    ...target,
  }
  const addresses = new AddressGuard(peers, [], log)
  const protect = (links: readonly Prefix[]) => addresses.protect(links)
  return { link, peers, reconciler: new Reconciler(kernel, all, protect, log, options) }
}

/** A silent log, and its lines of level `info`. */
export function infoLines(): { readonly log: Logger; readonly lines: string[] } {
  const lines: string[] = []
  const log = winston.createLogger({ silent: true })
  log.info = ((line: string) => lines.push(line)) as unknown as typeof log.info
  return { log, lines }
}

/** The kernel, which records the operations on objects, and calls back before it answers. */
export function recordingKernel(kernel: Kernel): {
  readonly kernel: Kernel
  readonly operations: ObjectOperation[]
  readonly before: { addresses?: () => void; apply?: () => void }
} {
  const operations: ObjectOperation[] = []
  const before: { addresses?: () => void; apply?: () => void } = {}
  const recording: Kernel = Object.create(kernel, {
    addresses: {
      value: (...args: Parameters<Kernel['addresses']>) => {
        before.addresses?.()
        return kernel.addresses(...args)
      },
    },
    apply: {
      value: (...args: Parameters<Kernel['apply']>) => {
        operations.push(...args[1])
        before.apply?.()
        return kernel.apply(...args)
      },
    },
  })
  return { kernel: recording, operations, before }
}

/** What `ip` and `bridge` say of the device, sorted. */
export const shownObjects = (): string[] =>
  [
    ...show('ip -j route show dev flannel.1').map(({ dst, gateway }) => `route ${dst} ${gateway}`),
    ...show('ip -j neigh show dev flannel.1 nud permanent').map(
      ({ dst, lladdr }) => `neigh ${dst} ${lladdr}`,
    ),
    ...show('bridge -j fdb show dev flannel.1').map(({ mac, dst }) => `fdb ${mac} ${dst}`),
  ].sort()

/** What {@link shownObjects} is to be for these peers. */
export const expectedObjects = (peers: PeerTable): string[] =>
  [...peers.peers()]
    .flatMap((peer) => [
      `route ${formatPrefix(peer.subnet)} ${formatIp(peer.subnet.address)}`,
      `neigh ${formatIp(peer.subnet.address)} ${formatMac(peer.mac)}`,
      `fdb ${formatMac(peer.mac)} ${formatIp(peer.publicIp)}`,
    ])
    .sort()
