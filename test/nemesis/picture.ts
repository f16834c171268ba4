/** The observed state of a lab at one moment: plain data, the input of the invariants. */
import type { Status } from '../../src/api/status'
import type { KernelView } from '../lab/kernel-view'

/** A key under subnets/. */
export interface KeyPicture {
  /** The key's last part, as in `10.5.7.0-24`; as a JSON string if it has unusual characters. */
  readonly name: string
  /** From the value; absent if the value is not a lease. */
  readonly owner?: { readonly publicIp: string; readonly mac: string }
  /** Id of the etcd lease that the key is bound to; `0` for none. */
  readonly etcdLease: string
}

export interface ProcessPicture {
  readonly pid: number
  /** Resident memory, in KiB. */
  readonly rss: number
  readonly descriptors: number
  readonly threads: number
}

/** Objects of a host that could be left over. One line per object, sorted. */
export interface ObjectsPicture {
  readonly links: readonly string[]
  /** All nexthop objects of the host with device and gateway, without ids. */
  readonly nexthops: readonly string[]
  /** Routing rules. */
  readonly rules: readonly string[]
  /** Rules and user chains of iptables, tables of nft. */
  readonly firewall: readonly string[]
  /** Files in the directories of the state file, of the control socket and of subnet.env. */
  readonly files: readonly string[]
  /** Listening TCP and UNIX sockets in the host's network namespace. */
  readonly sockets: readonly string[]
}

export interface HostPicture {
  readonly name: string
  /** The host's address on the underlay. */
  readonly address: string
  /** The daemon's status; a text with the reason if it could not be read. */
  readonly status: Status | string
  /** Answer of GET /readyz; code 0 if there was none. */
  readonly readyz: { readonly code: number; readonly body: string }
  /** FLANNEL_SUBNET of subnet.env, as `10.5.7.1/24`; empty without that file. */
  readonly subnetEnv: string
  /** The overlay device; absent if it does not exist. */
  readonly device?: { readonly mac: string; readonly up: boolean }
  readonly kernel: KernelView
  readonly objects: ObjectsPicture
  /** The daemon's process; absent if it does not run. */
  readonly process?: ProcessPicture
  /** IPv4 forwarding of the host and of the overlay device: `1` or `0` each. */
  readonly forwarding: readonly string[]
}

export interface EtcdPicture {
  readonly keys: readonly KeyPicture[]
  /** Ids of the etcd leases that exist. */
  readonly leases: readonly string[]
  readonly alarms: readonly string[]
}

export interface Picture {
  readonly hosts: readonly HostPicture[]
  readonly etcd: EtcdPicture
  /** Pairs of hosts: the container of the first gets no answer from the container of the second. */
  readonly unreached: readonly string[]
}

/** Result of `overlayctl doctor` on one host: exit code, and the lines of its output that are not `ok`. */
export interface DoctorPicture {
  readonly host: string
  readonly code: number | null
  readonly output: string
}

/** Observations of a whole round. */
export interface RoundPicture {
  /** Pings between hosts whose traffic no fault may touch; `pair` is `host5 -> host6`. */
  readonly pings: readonly { readonly pair: string; readonly sent: number; readonly lost: number }[]
  /** Daemons that exited by themselves: exit code or signal, and the end of the log. */
  readonly ends: readonly { readonly host: string; readonly how: string }[]
  /** Bytes that each host's daemons logged in the round, and how often the host's daemon was started. */
  readonly logs: readonly { readonly host: string; readonly bytes: number; readonly starts: number }[]
}

/** The subnet of subnet.env spelled as in etcd's keys: `10.5.7.0-24`; empty without subnet.env. */
export const subnetOfEnv = ({ subnetEnv }: HostPicture): string => subnetEnv.replace(/\d+\/(\d+)$/, '0-$1')
