/** The table of all kinds of faults. */
import type { FaultKind } from '../fault'
import { CONFIG_FAULTS } from './config'
import { DAEMON_FAULTS } from './daemon'
import { DEVICE_FAULTS } from './device'
import { ETCD_FAULTS } from './etcd'
import { FILE_FAULTS } from './files'
import { KEY_FAULTS } from './keys'
import { UNDERLAY_FAULTS } from './underlay'

export const FAULTS: readonly FaultKind[] = [
  ...DAEMON_FAULTS,
  ...ETCD_FAULTS,
  ...DEVICE_FAULTS,
  ...UNDERLAY_FAULTS,
  ...CONFIG_FAULTS,
  ...KEY_FAULTS,
  ...FILE_FAULTS,
]
