/** Whether Docker may start, or has to wait for the subnet of this host. */

/** overlayd's unit as systemd shows it. The texts are systemd's, and the status text is overlayd's. */
export interface OverlaydUnit {
  /** LoadState: `loaded`, `masked`, `not-found`. */
  readonly load: string
  /** ActiveState: `active`, `activating`, `inactive`, `failed`. */
  readonly active: string
  /** Whether systemd is about to start, stop or restart the unit. */
  readonly hasJob: boolean
  /** StatusText, or empty. */
  readonly text: string
}

export interface DockerWaitFacts {
  /** Whether subnet.env is there and not empty. */
  readonly hasSubnet: boolean
  /** `undefined` where systemd does not tell. */
  readonly unit: OverlaydUnit | undefined
  /** Milliseconds since Docker's start was asked for. */
  readonly waited: number
}

export type DockerWait =
  | { readonly kind: 'start' }
  /** Docker keeps the subnet of its first start for its containers, so it does not start without one. */
  | { readonly kind: 'wait'; readonly for: 'subnet' }
  /** A subnet of an earlier run is there. The starting overlayd may get another one. */
  | { readonly kind: 'wait'; readonly for: 'overlayd' }

/** Milliseconds. A starting overlayd may have to wait for etcd for any time, so Docker waits no longer. */
export const LONGEST_OF_START = 30_000

const CHANGING: readonly string[] = ['activating', 'deactivating', 'reloading']

export function dockerWait({ hasSubnet, unit, waited }: DockerWaitFacts): DockerWait {
  if (!hasSubnet) return { kind: 'wait', for: 'subnet' }
  const changes = unit !== undefined && (unit.hasJob || CHANGING.includes(unit.active))
  return changes && waited < LONGEST_OF_START ? { kind: 'wait', for: 'overlayd' } : { kind: 'start' }
}

/** The properties of {@link OverlaydUnit}. */
export const UNIT_PROPERTIES = ['LoadState', 'ActiveState', 'Job', 'StatusText'] as const

/**
 * @param shown by `systemctl show`: lines of NAME=VALUE
 * @returns `undefined` where the unit's state is missing
 */
export function parseOverlaydUnit(shown: string): OverlaydUnit | undefined {
  const value = (name: (typeof UNIT_PROPERTIES)[number]): string =>
    new RegExp(`^${name}=(.*)$`, 'm').exec(shown)?.[1] ?? ''
  const active = value('ActiveState')
  if (active === '') return undefined
  return { load: value('LoadState'), active, hasJob: /^[1-9]/.test(value('Job')), text: value('StatusText') }
}
