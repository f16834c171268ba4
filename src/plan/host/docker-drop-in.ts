/** What to do with the drop-in by which Docker follows overlayd. */

/** The drop-in as it is found below /etc/systemd/system. */
export type FoundDropIn =
  | { readonly kind: 'absent' }
  | { readonly kind: 'link'; readonly target: string }
  | { readonly kind: 'file'; readonly text: string }
  /** A directory, a device. */
  | { readonly kind: 'other' }

/** The drop-in as it comes with overlayd. */
export interface ShippedDropIn {
  readonly path: string
  readonly text: string
  /**
   * Whether it stays at its path and belongs to root alone, as in a package. Then a link to the file follows
   * upgrades. Elsewhere a copy is made, because systemd runs as root what the file says.
   */
  readonly isPackaged: boolean
}

export type DropInStep =
  | { readonly kind: 'nothing' }
  | { readonly kind: 'link'; readonly target: string; readonly sets: SetAside }
  | { readonly kind: 'copy'; readonly text: string; readonly sets: SetAside }
  | { readonly kind: 'remove'; readonly sets: SetAside }
  /** The drop-in is somebody's own. */
  | { readonly kind: 'refuse'; readonly found: 'link' | 'file' | 'other' }

/** Whether the found drop-in is kept under another name, because it is somebody's own. */
type SetAside = boolean

/** Where a package has it. */
const PACKAGED = /^(?:\/usr)?\/lib\/overlayd\//

const isOurs = (found: FoundDropIn, { path, text }: ShippedDropIn): boolean =>
  (found.kind === 'link' && (found.target === path || PACKAGED.test(found.target))) ||
  (found.kind === 'file' && found.text === text)

/** @param force whether a drop-in that is somebody's own is set aside */
export function enableDropIn(found: FoundDropIn, shipped: ShippedDropIn, force: boolean): DropInStep {
  const isRight = shipped.isPackaged
    ? found.kind === 'link' && found.target === shipped.path
    : found.kind === 'file' && found.text === shipped.text
  if (isRight) return { kind: 'nothing' }
  const isForeign = found.kind !== 'absent' && !isOurs(found, shipped)
  if (found.kind !== 'absent' && isForeign && (!force || found.kind === 'other'))
    return { kind: 'refuse', found: found.kind }
  return shipped.isPackaged
    ? { kind: 'link', target: shipped.path, sets: isForeign }
    : { kind: 'copy', text: shipped.text, sets: isForeign }
}

/** @param force whether a drop-in that is somebody's own is set aside */
export function disableDropIn(found: FoundDropIn, shipped: ShippedDropIn, force: boolean): DropInStep {
  if (found.kind === 'absent') return { kind: 'nothing' }
  const isForeign = !isOurs(found, shipped)
  if (isForeign && (!force || found.kind === 'other')) return { kind: 'refuse', found: found.kind }
  return { kind: 'remove', sets: isForeign }
}

/** Settings of daemon.json that dockerd does not take twice, from the file and as flags of ours. */
const TWICE = ['bip', 'mtu', 'ip-masq', 'fixed-cidr-v6', 'default-address-pools', 'default-network-opts']
/** Those that only networks of Docker's own make flags of (`docker-opts --networks`). */
const ONLY_SHARED = TWICE.slice(3)

/** @returns names of settings in daemon.json with which dockerd would refuse to start */
export const settingsTwice = (daemonJson: Readonly<Record<string, unknown>>, isShared: boolean): string[] =>
  TWICE.filter((name) => Object.hasOwn(daemonJson, name) && (isShared || !ONLY_SHARED.includes(name)))
