/** Any answer of the kernel may be a failure, with any errno, before or after the thing was done: once it answers rightly again, all is as wanted. */
import winston from 'winston'
import { Reconciler } from '../../../src/daemon/reconciler'
import type { Kernel } from '../../../src/kernel/kernel'
import { formatIp, formatMac, formatPrefix, ipv4, parseIpv4Prefix } from '../../../src/model/address'
import type { Revision } from '../../../src/model/lease'
import { parseNetworkConfig } from '../../../src/model/network-config'
import { PeerTable } from '../../../src/plan/peer-table'
import { changingLease } from '../../support/changing-lease'
import { faultyKernel } from '../../support/faulty-kernel'
import { Pending, waitFor } from '../../support/wait'
import {
  existing,
  linkSpec,
  makeUnderlay,
  openKernel,
  removeUnderlay,
  requireSandbox,
  show,
} from '../kernel/network'

jest.setTimeout(120_000)

const log = winston.createLogger({ silent: true })

let kernel: Kernel

beforeAll(async () => {
  requireSandbox()
  makeUnderlay()
  kernel = await openKernel()
})
afterAll(() => {
  kernel?.close()
  removeUnderlay()
})

const range = parseNetworkConfig('{"Network":"10.5.0.0/16","Backend":{"Type":"vxlan"}}').ipv4
const subnet = parseIpv4Prefix('10.5.1.0/24')
if (range === undefined || subnet === undefined) throw new Error('no range')

const leaseOf = (number: number, generation: number) => changingLease(number, generation, 0x0a050a00)

/** What `ip` and `bridge` say of the device. */
function shown(): string[] {
  const lines = [
    ...show('ip -j route show dev flannel.1').map(({ dst, gateway }) => `route ${dst} ${gateway}`),
    ...show('ip -j neigh show dev flannel.1 nud permanent').map(
      ({ dst, lladdr }) => `neigh ${dst} ${lladdr}`,
    ),
    ...show('bridge -j fdb show dev flannel.1').map(({ mac: address, dst }) => `fdb ${address} ${dst}`),
  ]
  return lines.sort()
}

test.each([0.05, 0.3])('with a share of %d that fails, through 300 changes of peers', async (rate) => {
  const { kernel: faulty, faults } = faultyKernel(kernel, Math.random)
  const link = await linkSpec(kernel)
  const peers = new PeerTable({ range, vni: 1 }, { key: 'own', subnet, publicIp: ipv4(1), mac: link.mac })
  const target = {
    link,
    network: range.network,
    subnet,
    peers,
    directRouting: false,
    blackhole: false,
    stale: [],
    forward: false,
    surroundings: [],
  }
  const reconciler = new Reconciler(faulty, target, log)
  const stopListening = kernel.onChange((change) => reconciler.kernelChanged(change))
  const end = new AbortController()
  const running = reconciler.run(end.signal, { every: 1000, tell: () => undefined })
  try {
    faults.rate = rate
    for (let generation = 0; generation < 300; generation++) {
      const number = Math.floor(Math.random() * 40)
      const changes =
        Math.random() < 0.3 ? peers.remove(`peer${number}`) : peers.put(leaseOf(number, generation))
      reconciler.peersChanged(changes, BigInt(generation + 1) as Revision)
      if (generation % 10 === 0) await new Promise(setImmediate)
    }
    await waitFor('something to fail', () => faults.count > 0 || new Pending(`${faults.count}`))
    faults.rate = 0
    await waitFor(
      'convergence',
      () =>
        reconciler.convergence.converged ||
        new Pending(
          JSON.stringify(reconciler.convergence, (_, value) =>
            typeof value === 'bigint' ? `${value}` : value,
          ),
        ),
      { timeoutMs: 60_000 },
    )
    const wanted = [...peers.peers()].flatMap((peer) => [
      `route ${formatPrefix(peer.subnet)} ${formatIp(peer.subnet.address)}`,
      `neigh ${formatIp(peer.subnet.address)} ${formatMac(peer.mac)}`,
      `fdb ${formatMac(peer.mac)} ${formatIp(peer.publicIp)}`,
    ])
    expect(shown()).toEqual(wanted.sort())
    expect(await existing(kernel, 'flannel.1')).toMatchObject({ up: true, mac: link.mac, mtu: link.mtu })
  } finally {
    end.abort()
    await running
    stopListening()
  }
})
