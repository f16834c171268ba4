/** A view of the status document: the part that one verb shows. */
import type { Status } from '../../api/status'
import type { Whereabouts } from '../ask/whereabouts'
import type { Output } from './output'
import type { Screen } from './screen'

/** One view of the status. */
export interface View<Document> {
  /** The text that peers are looked for by; absent where none are. */
  readonly sought?: string
  /** @param where of the text that peers are looked for by */
  readonly document: (status: Status, where?: Whereabouts) => Document
  /** For people. */
  readonly render: (status: Status, screen: Screen, wide: boolean, where?: Whereabouts) => string
  readonly exitCode: (status: Status) => number
  /**
   * Whether it shows few peers. With thousands of peers, most of the time goes into those that are not shown.
   */
  readonly isBrief: (output: Output) => boolean
}
