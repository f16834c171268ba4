/** The parts of the status document about probing. */
import { z } from 'zod'

/** What probing knows of a peer; see {@link meshSchema}. */
export const probeSchema = z.object({
  /**
   * `unknown`: not probed yet. `answering`. `suspect`: fewer than three probes in a row were lost.
   * `unreachable`: more.
   */
  reach: z.enum(['unknown', 'answering', 'suspect', 'unreachable']),
  /**
   * Of an unreachable peer. `overlay`: its PublicIP answers, and its overlay address does not. `underlay`:
   * neither does.
   */
  layer: z.enum(['underlay', 'overlay']).optional(),
  /** Smoothed round trip through the overlay. */
  rttMs: z.number().optional(),
  /** Of the last probes through the overlay, at most 32; from 0 to 1. */
  loss: z.number().optional(),
  /** Since the last answer through the overlay. */
  answeredSecondsAgo: z.number().optional(),
  /**
   * Whether packets of the device's MTU get through; absent before one was tried. `lost`: no smaller size
   * that is of use gets through either, or the size is searched.
   */
  fullSize: z.enum(['passes', 'lost']).optional(),
  /** Bytes of the largest packet that gets through, where that is less than the device's MTU. */
  pathMtu: z.number().optional(),
})

/** How the other hosts answer echo requests of this host. */
export const meshSchema = z.object({
  /** `off`: by `--probe=off`. `impossible`: `reason` says why. */
  state: z.enum(['on', 'off', 'impossible']),
  reason: z.string().optional(),
  /** The peers that are probed all the time; the others are probed in turn. */
  watched: z.number(),
  /** The number of peers for each `reach` of a peer's `probe`; a host with both families is two. */
  peers: z.object({
    unknown: z.number(),
    answering: z.number(),
    suspect: z.number(),
    unreachable: z.number(),
  }),
  /** The unreachable peers by layer. */
  unreachable: z.object({ underlay: z.number(), overlay: z.number() }),
  /** Peers whose path carries smaller packets than the device sends; absent of an older daemon. */
  smallerPathMtu: z.number().optional(),
  /** Mean of the watched peers' round trips and losses. */
  rttMs: z.number().optional(),
  loss: z.number().optional(),
})

export type ProbeStatus = z.infer<typeof probeSchema>
export type MeshStatus = z.infer<typeof meshSchema>
