/**
 * A network with fewer subnets than hosts. A host without a subnet says so, waits, and takes a subnet that
 * becomes free.
 */
import { ETCD_PREFIX, Lab } from '../../lab/lab'
import { patient } from '../../lab/patience'

jest.setTimeout(patient(60_000))

/** Two subnets. */
const CONFIG =
  '{"Network":"10.5.0.0/16","SubnetMin":"10.5.1.0","SubnetMax":"10.5.2.0","Backend":{"Type":"vxlan"}}'

let lab: Lab

beforeAll(async () => {
  lab = await Lab.create({ hosts: 3, config: CONFIG })
})
afterAll(() => lab?.close())

test('the third host waits with a reason, and gets the subnet of the first that is gone', async () => {
  const [first, second, third] = [lab.host(1), lab.host(2), lab.host(3)]
  first.start()
  second.start()
  await lab.waitConverged()
  third.start()
  const waiting = await third.waitForStatus(
    'it waits for a subnet',
    ({ daemon }) => daemon.phase === 'waiting-for-subnet',
  )
  expect(waiting.problems.join('\n')).toContain('lease: no /24 is free between 10.5.1.0 and 10.5.2.0')
  const { subnet } = await first.subnetEnv()
  await first.stop('SIGKILL')
  await lab.client.delete().key(`${ETCD_PREFIX}/subnets/${subnet.replace('.1/', '.0-')}`)
  await third.waitConverged(1)
  expect((await third.subnetEnv()).subnet).toBe(subnet)
  await second.waitConverged(1)
})
