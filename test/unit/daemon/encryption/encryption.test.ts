/** What the part says of itself where no keeper runs, and how a host's readiness follows. */
import { Encryption } from '../../../../src/daemon/encryption/encryption'
import { Ways } from '../../../../src/daemon/encryption/ways'
import { summary, unready } from '../../../../src/daemon/node/describe-node'
import type { NodeView } from '../../../../src/daemon/node/parts'
import type { Overlay } from '../../../../src/daemon/overlay/overlay'
import type { HostPlan } from '../../../../src/plan/host-plan'
import { peer } from '../../plan/encryption/support'
import { lease } from '../../plan/support'

const overlays = [{ peers: { size: 2 } }, { peers: { size: 1 } }] as unknown as readonly Overlay[]

const encryption = (plan: HostPlan['encryption'], mode: 'prefer' | 'required' = 'prefer'): Encryption => {
  const config = { backend: { encryption: plan && { mode, port: 51_820 } } }
  const hostPlan = { encryption: plan, inputs: { config } } as unknown as HostPlan
  return new Encryption({} as ConstructorParameters<typeof Encryption>[0], overlays, new Ways(), hostPlan, {
    isRemembered: false,
    staleVnis: [],
  })
}

test('a network without encryption has no state', async () => {
  const none = encryption(undefined)
  expect([none.state(), none.encryptionOf(peer(1)), none.problem, none.blockage]).toEqual([
    undefined,
    undefined,
    undefined,
    undefined,
  ])
  expect(await none.dropped()).toBeUndefined()
})

test('a host that cannot encrypt sends to all peers of all families in clear', () => {
  const unable = encryption({ kind: 'unable', reason: 'no WireGuard', fix: 'load it' })
  expect(unable.state()).toEqual({
    kind: 'unable',
    mode: 'prefer',
    reason: 'no WireGuard',
    fix: 'load it',
    peers: { encrypted: 0, clear: 3, none: 0 },
  })
  expect(unable.encryptionOf(peer(1))).toEqual({ word: 'clear', obstacle: { kind: 'unable' } })
  expect(unable.blockage).toBeUndefined()
})

describe('a host whose other parts are well', () => {
  const convergence = { converged: true, revision: 7n, failing: 0, contests: [], operations: 0 }
  const view = (state: Pick<Encryption, 'problem' | 'blockage'>): NodeView =>
    ({
      lease: { state: { kind: 'held' }, own: lease('10.5.7.0/24'), expiresInSeconds: undefined },
      overlays: [{ peers: { size: 0 }, reconciler: { convergence } }],
      firewall: { problem: undefined },
      wayIn: { findings: [], made: new Set() },
      underlay: {
        problem: undefined,
        current: { link: { name: 'eth0', mtu: 1500 }, carrier: undefined },
      },
      encryption: state,
      holdBack: { size: 0 },
      configProblem: undefined,
      plan: { overlays: [], inputs: { config: { backend: {} } } },
    }) as unknown as NodeView

  test('is ready, and its line says that encryption is not in order', () => {
    const troubled = view({ problem: 'port in use', blockage: undefined })
    expect(unready(troubled, 60)).toBeUndefined()
    expect(summary(troubled, true, [])).toMatch(/, encryption not in order$/)
    expect(summary(view({ problem: undefined, blockage: undefined }), true, [])).toMatch(/, healthy$/)
  })

  test('is not ready while encryption is required and this host itself is the cause that nothing goes', () => {
    expect(unready(view({ problem: 'port in use', blockage: 'port in use' }), 60)).toBe(
      'encryption required, and not possible',
    )
  })
})
