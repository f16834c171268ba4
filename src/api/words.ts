/**
 * Versions and words of the documents, apart from the schemas: the daemon writes documents, and never pays
 * for the schemas by which others read them.
 */

export const STATUS_SCHEMA = 1

/** Raised when a field is removed or changes its meaning. Within one number fields are only added. */
export const DOCUMENT_SCHEMA = 1

/** Peers in a brief document: few enough that the whole status fits on one screen. */
export const BRIEF_PEERS = 8

export const PEER_STATES = ['ok', 'held', 'pending', 'failing', 'rejected'] as const
export type PeerState = (typeof PEER_STATES)[number]

export const ENCRYPTION_WORDS = ['encrypted', 'clear', 'none'] as const

/**
 * What `overlayctl ping` sends packets to. `underlay`: the host's PublicIP. `overlay`: its address on the
 * VXLAN device. `full-size`: the same with packets of the device's MTU. `container`: the container.
 */
export const PING_PARTS = ['underlay', 'overlay', 'full-size', 'container'] as const
export type PingPart = (typeof PING_PARTS)[number]

/**
 * `in-sync`: as desired. `missing`: desired, and not in the kernel. `wrong`: desired, and in the kernel with
 * other values. `extra`: in a place of ours, and not desired; overlayd removes it. `foreign`: of another
 * program, in the overlay's network; overlayd leaves it alone. `unknown`: in the kernel, and it is not known
 * whether it is desired.
 */
export const OBJECT_STATES = ['missing', 'wrong', 'extra', 'foreign', 'unknown', 'in-sync'] as const
export type ObjectState = (typeof OBJECT_STATES)[number]
