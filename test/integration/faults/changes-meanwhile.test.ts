/** Peers come, go and change, and all of them are listed again, while a pass over everything is under way: nothing is lost, and who stays is left alone. */
import winston from 'winston'
import { Reconciler, type Target } from '../../../src/daemon/reconciler'
import type { Kernel } from '../../../src/kernel/kernel'
import { formatIp, formatMac, formatPrefix, ipv4, parseIpv4Prefix } from '../../../src/model/address'
import { describeObject } from '../../../src/model/describe-operation'
import type { ObjectOperation } from '../../../src/model/kernel'
import type { Lease, Revision } from '../../../src/model/lease'
import { parseNetworkConfig } from '../../../src/model/network-config'
import { PeerTable } from '../../../src/plan/peer-table'
import { changingLease } from '../../support/changing-lease'
import { Pending, waitFor } from '../../support/wait'
import {
  linkSpec,
  makeUnderlay,
  openKernel,
  removeUnderlay,
  requireSandbox,
  run,
  show,
} from '../kernel/network'

jest.setTimeout(120_000)

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

const range = parseNetworkConfig('{"Network":"10.0.0.0/8","SubnetLen":24,"Backend":{"Type":"vxlan"}}').ipv4
const subnet = parseIpv4Prefix('10.255.1.0/24')
if (range === undefined || subnet === undefined) throw new Error('no range')

const PEERS = 2000
/** Peers whose number is a multiple of it never change. */
const CONSTANT = 4

const leaseOf = (number: number, generation: number) => changingLease(number, generation, 0x0a010000)

const everyone = (generation: number): Lease[] =>
  Array.from({ length: PEERS }, (_, number) => leaseOf(number, number % CONSTANT === 0 ? 0 : generation))

/** What `ip` and `bridge` say of the device. */
const shown = (): string[] =>
  [
    ...show('ip -j route show dev flannel.1').map(({ dst, gateway }) => `route ${dst} ${gateway}`),
    ...show('ip -j neigh show dev flannel.1 nud permanent').map(
      ({ dst, lladdr }) => `neigh ${dst} ${lladdr}`,
    ),
    ...show('bridge -j fdb show dev flannel.1').map(({ mac: address, dst }) => `fdb ${address} ${dst}`),
  ].sort()

test('what comes during a pass is seen in it or after it', async () => {
  const link = await linkSpec(kernel)
  const peers = new PeerTable({ range, vni: 1 }, { key: 'own', subnet, publicIp: ipv4(1), mac: link.mac })
  const target: Target = {
    link,
    network: range.network,
    subnet,
    peers,
    directRouting: false,
    blackhole: true,
    stale: [],
    forward: false,
    surroundings: [],
  }
  const operations: ObjectOperation[] = []
  const recording: Kernel = Object.create(kernel, {
    apply: {
      value: (index: number, changes: readonly ObjectOperation[], signal?: AbortSignal) => {
        operations.push(...changes)
        return kernel.apply(index, changes, signal)
      },
    },
  })
  const lines: string[] = []
  const log = winston.createLogger({
    transports: [new winston.transports.Stream({ stream: process.stderr, silent: true })],
  })
  log.info = ((line: string) => lines.push(line)) as unknown as typeof log.info
  const reconciler = new Reconciler(recording, target, log)
  const end = new AbortController()

  let revision = 1
  /** Changes some peers, those of the next part of the pass and those of an earlier one, in each turn of the event loop. */
  async function meanwhile(pass: Promise<void>): Promise<number> {
    let isOver = false
    const over = pass.finally(() => {
      isOver = true
    })
    let turns = 0
    for (; !isOver; turns += 1) {
      revision += 1
      const number = (turns * 37) % PEERS
      const changes =
        turns % 50 === 49
          ? peers.reset(everyone(revision), [])
          : number % CONSTANT === 0
            ? []
            : turns % 3 === 0
              ? peers.remove(`peer${number}`)
              : peers.put(leaseOf(number, revision))
      reconciler.peersChanged(changes, BigInt(revision) as Revision)
      await new Promise(setImmediate)
    }
    await over
    return turns
  }

  reconciler.peersChanged(peers.reset(everyone(1), []), 1n as Revision)
  expect(await meanwhile(reconciler.syncAll(end.signal))).toBeGreaterThan(10)
  // What is nobody's goes; what somebody took away comes back, and only of that it is said.
  run('ip route add 10.254.0.0/24 via 10.254.0.0 dev flannel.1 onlink')
  run('ip route del 10.1.0.0/24')
  lines.length = 0
  expect(await meanwhile(reconciler.syncAll(end.signal))).toBeGreaterThan(5)
  expect(lines.filter((line) => line.includes('put right'))).toEqual([expect.stringContaining('and 1 more')])

  const wanted = [...peers.peers()].flatMap((peer) => [
    `route ${formatPrefix(peer.subnet)} ${formatIp(peer.subnet.address)}`,
    `neigh ${formatIp(peer.subnet.address)} ${formatMac(peer.mac)}`,
    `fdb ${formatMac(peer.mac)} ${formatIp(peer.publicIp)}`,
  ])
  wanted.sort()
  const running = reconciler.run(end.signal, { every: 1000, tell: () => undefined })
  try {
    await waitFor(
      'the last change to be in the kernel',
      () => {
        const { converged, revision: reached } = reconciler.convergence
        return (converged && reached === BigInt(revision)) || new Pending(`${reached} of ${revision}`)
      },
      { timeoutMs: 20_000, intervalMs: 1 },
    )
    // What it says is so.
    expect(shown()).toEqual(wanted)
  } finally {
    end.abort()
    await running
  }

  // The blackhole, which is on no device, and the peers that never changed were set once; the route that was taken away twice.
  const of = (address: string) =>
    operations
      .map((operation) => `${operation.kind}: ${describeObject(operation)}`)
      .filter((text) => text.includes(address))
  expect(of('10.255.1.0/24')).toHaveLength(1)
  expect(of('10.1.0.0/24')).toHaveLength(2)
  for (let number = CONSTANT; number < PEERS; number += 20 * CONSTANT) {
    const address = formatIp(ipv4(0x0a010000 + number * 256))
    expect(of(`${address}/24`)).toEqual([`set-route: the route to ${address}/24`])
  }
})
