/** Fabricated hosts for the page, in the form of a real status. */
import { type PeerStatus, type Status, statusSchema } from '../../../../src/api/status'
import { STATUS } from '../fixtures'

/** A host that answers. @param number from 0 to 65,535: its subnet and its address */
export const peer = (number: number, fields: Partial<PeerStatus> = {}): PeerStatus => ({
  subnet: `10.${5 + (number >> 8)}.${number & 255}.0/24`,
  publicIp: `192.0.${number >> 8}.${number & 255}`,
  mac: '02:00:00:00:00:02',
  state: 'ok',
  probe: { reach: 'answering', rttMs: 0.31, loss: 0, answeredSecondsAgo: 2, fullSize: 'passes' },
  ...fields,
})

export const statusWith = (peers: readonly PeerStatus[], fields: Partial<Status> = {}): Status =>
  statusSchema.parse({ ...STATUS, ...fields, peers })
