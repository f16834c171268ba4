/** The keeper of encryption while etcd answers for the first time since a start from the state file. */
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import winston from 'winston'
import { EncryptionKeeper } from '../../src/daemon/encryption/encryption-keeper'
import { HostWireguard } from '../../src/daemon/encryption/host-wireguard'
import { Ways } from '../../src/daemon/encryption/ways'
import type { Kernel } from '../../src/kernel/kernel'
import { WireguardDevices } from '../../src/kernel/wireguard/devices'
import type { Peer } from '../../src/model/lease'
import { planEncryption, type WireguardPlan } from '../../src/plan/encryption/encryption-plan'
import {
  existing,
  linkSpec,
  makeUnderlay,
  openKernel,
  removeDevice,
  removeUnderlay,
  reported,
  requireSandbox,
} from '../integration/kernel/network'
import { patient } from '../lab/patience'
import { announcement, key, peer } from '../unit/plan/encryption/support'
import { config, net } from '../unit/plan/support'

jest.setTimeout(patient(60_000))

const PREFER = config({ Network: '10.5.0.0/16', Backend: { Type: 'vxlan', Encryption: 'prefer' } })
const log = winston.createLogger({ silent: true })
const never = new AbortController().signal

let directory: string
let kernel: Kernel
let wireguard: HostWireguard
let plan: WireguardPlan

beforeAll(async () => {
  requireSandbox()
  directory = mkdtempSync(join(tmpdir(), 'remembered-'))
  makeUnderlay()
  kernel = await openKernel()
  wireguard = new HostWireguard(kernel, { encryption: 'auto', 'state-dir': directory }, log)
  const ability = await wireguard.ability(PREFER)
  const link = await linkSpec(kernel)
  const { local } = link
  if (local === undefined) throw new Error('the device sends from no address')
  const overlay = { family: 'IPv4', link, publicIp: local, subnet: net('10.5.7.0/24') } as const
  const made = planEncryption(PREFER, [overlay], 1500, ability)
  if (made?.kind !== 'on') throw new Error(`this host cannot encrypt: ${made?.reason}`)
  plan = made
})
afterAll(async () => {
  wireguard?.close()
  for (const { link } of plan?.slots ?? []) await removeDevice(kernel, link.name)
  kernel?.close()
  removeUnderlay()
  rmSync(directory, { recursive: true })
  expect(reported).toEqual([])
})

/** @param isRemembered asked as often as the keeper does */
const keeper = (peers: readonly Peer[], isRemembered: () => boolean, looked: () => void = () => undefined) =>
  new EncryptionKeeper(
    kernel,
    wireguard,
    new Ways(),
    {
      plan: () => plan,
      vni: () => 1,
      families: [{ family: 'IPv4', peers: () => peers, touch: () => undefined, isSettled: () => true }],
      isRemembered,
      staleVnis: [],
      maxKeyAge: 0,
      isAnnounced: () => true,
      abilityChanged: async () => undefined,
      waysChanged: () => undefined,
      looked,
    },
    log,
  )

async function peersOf(name: string): Promise<string[]> {
  const devices = await WireguardDevices.open(kernel, (error) => reported.push(error))
  if (devices === undefined) throw new Error('this kernel has no WireGuard')
  try {
    return [...((await devices.read((await existing(kernel, name)).index))?.peers.keys() ?? [])]
  } finally {
    devices.close()
  }
}

test('a peer that the state file does not know stays, also when etcd answers in the middle of the pass', async () => {
  const [{ link }] = plan.slots
  // An earlier run has made the tunnel.
  const earlier = keeper([peer(2, announcement(2))], () => false)
  await earlier.prepare(never)
  earlier.close()
  expect(await peersOf(link.name)).toEqual([key(4)])
  // The state file is older. etcd answers after the pass has asked for the first time.
  const answers = [true]
  let looks = 0
  const now = keeper(
    [],
    () => answers.pop() ?? false,
    () => {
      looks += 1
    },
  )
  await now.prepare(never)
  expect(await peersOf(link.name)).toEqual([key(4)])
  expect(looks).toBe(0)
  // By what etcd says, the host is gone.
  await now.prepare(never)
  expect(await peersOf(link.name)).toEqual([])
  expect(looks).toBe(1)
  now.close()
})
