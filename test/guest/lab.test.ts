/** A cluster in the guest: overlayd works on this kernel as on that of the integration tests. */
import { DatagramCounter, VXLAN_PORT } from '../lab/datagrams'
import { Lab } from '../lab/lab'
import { patient } from '../lab/patience'

jest.setTimeout(patient(60_000))

let lab: Lab

beforeAll(async () => {
  lab = await Lab.create({ hosts: 2 })
  await lab.startAll()
})
afterAll(() => lab?.close())

test('containers of two hosts reach each other both ways, by VXLAN', async () => {
  const [left, right] = [await lab.host(1).addContainer(), await lab.host(2).addContainer()]
  const counter = await DatagramCounter.start(lab.host(1).namespace, 'eth0', [VXLAN_PORT])
  expect(await lab.ping(left, right, { count: 20 })).toMatchObject({ received: 20, lost: 0 })
  expect(await counter.read(VXLAN_PORT)).toEqual({ in: 20, out: 20 })
  expect(await lab.ping(right, left, { count: 20 })).toMatchObject({ received: 20, lost: 0 })
  expect(await counter.read(VXLAN_PORT)).toEqual({ in: 40, out: 40 })
})
