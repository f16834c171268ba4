/** Probing of both families, by a daemon that has the rights of the unit and no others. */
import { chmodSync, chownSync, mkdirSync, readFileSync } from 'node:fs'
import { dirname } from 'node:path'
import { DUAL_STACK_CONFIG, type Host, Lab } from '../../lab/lab'
import { execOk } from '../../lab/namespace'
import { patient } from '../../lab/patience'
import { Pending, waitFor } from '../../lab/wait'

jest.setTimeout(patient(120_000))

const NOBODY = 65534
/** As the unit: another user, CAP_NET_ADMIN and no other capability. */
const UNIT = [
  ...['setpriv', `--reuid=${NOBODY}`, `--regid=${NOBODY}`, '--clear-groups', '--no-new-privs'],
  ...['--inh-caps=+net_admin', '--ambient-caps=+net_admin', '--bounding-set=-all,+net_admin'],
]

let lab: Lab

beforeAll(async () => {
  lab = await Lab.create({ hosts: 3, config: DUAL_STACK_CONFIG })
  chmodSync(lab.directory, 0o755)
  for (const host of lab.hosts) {
    mkdirSync(host.stateDirectory, { recursive: true })
    for (const path of [host.runDirectory, host.stateDirectory, dirname(host.subnetFile)])
      chownSync(path, NOBODY, NOBODY)
    host.start({ wrapper: UNIT, flags: { probe: 'on' } })
  }
  await lab.waitConverged()
})
afterAll(() => lab?.close())

const probesOf = (host: Host) =>
  waitFor(
    `both families of both peers at ${host.name}`,
    async () => {
      const status = await host.status()
      if (status instanceof Pending) return status
      const { mesh, peers, state, etcd } = status
      const isSo =
        etcd.connected &&
        mesh?.peers.answering === 4 &&
        peers.every(({ probe }) => probe?.fullSize === 'passes')
      return isSo ? status : new Pending(JSON.stringify({ state, mesh, peers }))
    },
    { timeoutMs: 60_000 },
  )

test('IPv4 and IPv6 are probed, with CAP_NET_ADMIN alone', async () => {
  const status = await probesOf(lab.host(1))
  expect(status.state).toBe('healthy')
  expect(status.mesh?.watched).toBe(4)
  const pid = lab.host(1).daemon.pid
  const rights = readFileSync(`/proc/${pid}/status`, 'utf8')
  // CAP_NET_ADMIN is 12 (linux/capability.h).
  expect(rights).toMatch(new RegExp(`^CapEff:\\s*${(1 << 12).toString(16).padStart(16, '0')}$`, 'm'))
  expect(rights).toMatch(new RegExp(`^Uid:\\s*${NOBODY}\\b`, 'm'))
})

test('IPv6 alone is lost: the host is cut off in it, and IPv4 is as it was', async () => {
  const [broken, other] = [lab.host(1), lab.host(2)]
  await execOk(broken.namespace, [
    'nft',
    'table ip6 faults { chain in { type filter hook input priority 0; udp dport 8472 drop; }; }',
  ])
  try {
    const seen = await waitFor(
      'the loss of IPv6',
      async () => {
        const status = await other.status()
        if (status instanceof Pending) return status
        const lost = status.peers.filter(({ probe }) => probe?.reach === 'unreachable')
        // Where one answer of the PublicIP is lost too, the next one is waited for.
        const isSure = lost.every(({ probe }) => probe?.layer === 'overlay') && status.state === 'degraded'
        return lost.length === 1 && isSure && status.etcd.connected
          ? { status, lost }
          : new Pending(JSON.stringify(status.peers))
      },
      { timeoutMs: 40_000 },
    )
    expect(seen.lost).toMatchObject([{ publicIp: broken.address6, probe: { layer: 'overlay' } }])
    expect(seen.status.state).toBe('degraded')
  } finally {
    await execOk(broken.namespace, ['nft', 'delete table ip6 faults'])
  }
  await probesOf(other)
})
