/** Neighbours of a link, as the kernel knows them (linux/neighbour.h). */
import type { IpAddress } from '../address'

/** A neighbour that the kernel has asked (ARP, neighbour discovery). */
export interface AskedNeighbour {
  readonly address: IpAddress
  /**
   * `answered`: now or before, or a program has set its MAC. `failed`: the kernel has asked in vain
   * (NUD_FAILED). `asking`: it asks (NUD_INCOMPLETE); where packets keep coming it asks again and again.
   */
  readonly state: 'answered' | 'asking' | 'failed'
}
