/** Networks of container engines other than Docker, as the files say that the engines read. */
import type { Prefix } from './address'

/** `cni`: nerdctl, containerd and Nomad. `podman`: Podman with netavark. */
export const ENGINES = ['cni', 'podman'] as const
export type Engine = (typeof ENGINES)[number]

/** The name of a network that nobody named. */
export const DEFAULT_NAME = 'overlay'

/** The commands that make networks, which the files name that they have made. */
export const COMMANDS: Readonly<Record<Engine, string>> = {
  cni: 'overlayctl cni',
  podman: 'overlayctl podman-network',
}
/** How the names of bridges begin that the commands and the engines give. */
export const BRIDGE_NAMES: Readonly<Record<Engine, string>> = { cni: 'cni', podman: 'pod' }
/** The units that keep a file right, and which file. */
export const ENGINE_UNITS: Readonly<Record<Engine, { readonly unit: string; readonly path: string }>> = {
  cni: { unit: 'overlayd-cni.path', path: '/etc/cni/net.d/30-overlayd.conflist' },
  podman: { unit: 'overlayd-podman.path', path: '/etc/containers/networks/overlay.json' },
}

/** The command that writes a network into a file, or prints it. */
export const commandFor = (engine: Engine, name: string, path: string | undefined): string =>
  [
    COMMANDS[engine],
    ...(name === DEFAULT_NAME ? [] : [`--name=${name}`]),
    ...(path === undefined ? [] : [`--output=${path}`]),
  ].join(' ')

export interface EngineFile {
  readonly engine: Engine
  readonly path: string
  /** Of the network. */
  readonly name: string
  /** From which its containers get addresses. */
  readonly subnets: readonly Prefix[]
  /** Name of its bridge; `undefined` for a network without one (macvlan, ptp, ...). */
  readonly bridge: string | undefined
  /** Bytes; `undefined` where the file says nothing. */
  readonly mtu: number | undefined
  /** Whether the engine masquerades what leaves it. */
  readonly masquerades: boolean
  /** Whether the engine lets nothing out of it. */
  readonly isInternal: boolean
  /** Whether its containers get addresses of all of the host's subnet, by flannel's plugin. */
  readonly isFlannel: boolean
  /** The command that made the file, if overlayctl did. */
  readonly madeBy: string | undefined
}

/** A file or a directory of an engine that this process could not read. */
export interface UnreadEngineFile {
  readonly path: string
  readonly why: string
  /** Whether it is for the rights of this user. */
  readonly isDenied: boolean
}

export interface EngineFiles {
  readonly files: readonly EngineFile[]
  /** Files that no engine can use either: each with the reason. */
  readonly problems: readonly string[]
  readonly unread: readonly UnreadEngineFile[]
}
