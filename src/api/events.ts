/** Events: kinds, and one event as the control socket sends it. */
import { z } from 'zod'

/**
 * All kinds, and what each reports. Within one version of the program a kind is never renamed, only added.
 */
export const EVENTS = {
  started: 'the daemon has started',
  ready: 'this host has its subnet, all known peers are in the kernel, and subnet.env is written',
  stopping: 'the daemon was told to stop; the kernel keeps everything',
  'peer-joined': 'a host has a lease that it did not have before',
  'peer-left': 'the lease of a host is gone from etcd',
  'peer-changed': 'the lease of a host has another address or MAC',
  'peer-rejected': 'a lease is not valid, or clashes with an older one; the host is not reached by it',
  'peer-unproven':
    'a lease is not the last one that the identity has signed that is pinned for its subnet; ' +
    'the host is not reached by it',
  'peer-accepted': 'a lease that was rejected is valid now',
  'peers-held': 'most peers disappeared from etcd at once; they are kept for a time',
  'peers-let-go': 'peers that were held are in etcd again, or are removed',
  'kernel-repair':
    'another program changed routes, neighbours, forwarding entries or nexthops; they are restored',
  'kernel-contest':
    'another program changes an object again and again, or has stopped to; it is restored less often',
  'kernel-refusal': 'the kernel refused a change; the change is tried again with backoff',
  'kernel-retry': 'the kernel refused a change once more',
  'kernel-overrun': 'notifications of the kernel were lost; everything is compared',
  'device-change': 'the VXLAN device was made, changed or restored',
  'device-problem': 'the VXLAN device cannot be made or corrected',
  'etcd-connected': 'etcd is followed',
  'etcd-lost': 'etcd does not answer; the kernel keeps everything',
  'etcd-compacted': 'etcd has removed the history that was missed; all keys are listed again',
  'etcd-listed': 'all keys were listed',
  'lease-taken': 'this host has a subnet',
  'lease-changed': "this host's lease was announced again, was reserved, or has another etcd lease",
  'lease-moved':
    'this host has another subnet than before; containers that run are cut off until Docker restarts',
  'lease-left-alone': "another key has this host's address; it is neither used nor deleted",
  'lease-renewal-problem': 'etcd does not renew the lease; the renewal is tried again',
  'lease-renewed-again': 'etcd renews the lease again',
  'lease-lost': "this host's key is gone from etcd; it is created again",
  'lease-none-free': 'no subnet is free; one that becomes free is taken',
  'lease-overlap': "the subnet lies on one of this host's own networks, since no other is free",
  'lease-regained': 'the lease is held again after it was lost, drained or in conflict',
  'lease-conflict': "another host has this host's subnet or address",
  'lease-drained': 'the subnet was given back by overlayctl drain',
  'lease-undrained': 'overlayctl drain --undo takes the subnet again',
  'config-change': 'the network config was changed and applied, or is usable again',
  'config-problem': 'the network config is missing, not valid, or needs a restart',
  'underlay-change': 'the underlay interface was chosen, or its address or MTU changed',
  'underlay-problem': 'no underlay interface can be used; everything is kept as it is',
  'mtu-limited': "the underlay carries less than the network config's MTU",
  'firewall-change': 'firewall rules were set',
  'firewall-repair': 'another program changed firewall rules; they are restored',
  'firewall-problem': 'firewall rules cannot be set',
  'way-in-problem':
    'containers have no bridge on the subnet of this host, or packets of the overlay do not get out or in',
  'way-in-ok': 'a trouble of the kind way-in-problem is over',
  'forwarding-repair': 'another program changed a kernel setting such as forwarding; it is restored',
  'prefix-announced': 'this host announces a prefix besides its subnet',
  'prefix-withdrawn': 'this host does not announce a prefix any more',
  'prefix-moved': 'an announced prefix is behind another host than before, or has come or gone',
  'prefix-refused': 'an announced prefix is not followed, and why',
  'prefix-problem': 'what this host announces is not in etcd, or is again',
  'multicast-on': 'multicast is exchanged with other hosts',
  'multicast-off': 'multicast is not exchanged any more; its device and rules are removed',
  'multicast-flooding': 'some hosts get groups that they may not want, and why',
  'multicast-selective': 'groups are sent only to hosts that want them',
  'multicast-problem':
    'the groups that this host wants cannot be announced, or keys of other hosts cannot be read',
  'encryption-on': 'this host encrypts its packets to other hosts that can decrypt them',
  'encryption-off': 'this host does not encrypt any more; its WireGuard devices are removed',
  'encryption-key': 'this host has made keys, or has changed them',
  'encryption-guard': 'packets in clear may pass again, since encryption is not required any more',
  'encryption-problem': 'encryption does not work, or not as it should; it is tried again',
  'encryption-repair':
    'another program changed WireGuard devices or the guard of encryption; they are restored',
  'peer-encrypted': 'packets to a host are encrypted from now on',
  'peer-clear': 'packets to a host that were encrypted go in clear from now on',
  'peer-cut':
    'a host gets no packets, since encryption is required and no handshake has succeeded, or no key is ' +
    'announced',
  'peer-key-replaced': 'a host announces another key in use than before, and not by a rotation',
  'peer-unreachable':
    'a host does not answer probes; the layer that fails is told, and nothing is taken away for it',
  'peer-reachable': 'a host that was unreachable answers probes again',
  'mesh-problem': 'most of the hosts that this host watches do not answer its probes, or none does',
  'mesh-restored': 'most of the hosts that this host watches answer its probes again',
  'path-mtu': 'the path to a host carries smaller packets than the device sends, or larger ones again',
  'probing-problem': 'this host cannot probe others, or can again',
  'identity-new': 'this host has made its identity, by which it signs its lease',
  'identity-pinned': 'the subnet of this host has a pin now, or none any more',
  'identity-problem': 'this host has no identity, or not the one that is pinned for its subnet',
  'state-in-use': 'etcd did not answer, and this host started from its state file',
  'state-problem': 'the state file cannot be read, used or written',
  'state-repair': 'the state file was deleted or changed, and is written again',
  'subnet-file-repair': 'subnet.env was deleted or changed, and is written again',
  'subnet-file-problem': 'subnet.env cannot be written',
} as const

export type EventKind = keyof typeof EVENTS

export const EVENT_KINDS = Object.keys(EVENTS) as EventKind[]

/** A marker in the stream: events are missing, since more happened than are kept. */
export const EVENTS_LOST = 'events-lost'

export const EVENT_LEVELS = ['error', 'warn', 'info', 'debug'] as const
export type EventLevel = (typeof EVENT_LEVELS)[number]

/** What a line of the log says, for those who cannot read. */
export interface Happening {
  readonly kind: EventKind
  /** Names under which it is found: a peer's subnet and PublicIP, an object of the kernel's. */
  readonly about?: readonly string[]
  /** Name of the kernel's refusal: `EEXIST`. */
  readonly errno?: string | undefined
  /** Label -> how many, of a line that tells of several. */
  readonly tally?: Readonly<Record<string, number>>
}

/** One event as the control socket tells it: a line of JSON. Fields are only added. */
export const eventSchema = z.object({
  /** Counts all events of this run of the daemon from 1; 0 for `events-lost`, which tells of others. */
  seq: z.int().min(0),
  /** Wall clock. */
  time: z.iso.datetime(),
  level: z.enum(EVENT_LEVELS),
  kind: z.enum([...EVENT_KINDS, EVENTS_LOST]),
  about: z.array(z.string()),
  errno: z.string().optional(),
  text: z.string(),
})

export type OverlayEvent = z.infer<typeof eventSchema>
