/** Neighbours of a link, as the kernel knows them (linux/neighbour.h). */
import type { IpAddress } from '../address'

/** A neighbour that has not answered the kernel (ARP, neighbour discovery). */
export interface UnansweredNeighbour {
  readonly address: IpAddress
  /**
   * `failed`: the kernel has asked in vain (NUD_FAILED). `asking`: it asks (NUD_INCOMPLETE); where packets
   * keep coming it asks again and again.
   */
  readonly state: 'asking' | 'failed'
}
