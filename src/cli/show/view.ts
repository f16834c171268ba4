/** A view of the status document: the part that one verb shows. */
import type { Status } from '../../api/status'
import type { Output } from './output'
import type { Screen } from './screen'

/** One view of the status. */
export interface View<Document> {
  readonly document: (status: Status) => Document
  /** For people. */
  readonly render: (status: Status, screen: Screen, wide: boolean) => string
  readonly exitCode: (status: Status) => number
  /**
   * Whether it shows few peers. With thousands of peers, most of the time goes into those that are not shown.
   */
  readonly isBrief: (output: Output) => boolean
}
