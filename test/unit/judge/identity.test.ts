/** The doctor where identities are pinned. */

import { IDENTITY_CHECKS } from '../../../src/judge/checks/identity'
import type { DaemonFacts } from '../../../src/judge/facts'
import { isUnproven } from '../../../src/plan/trust/pins'

const REASON = 'its host has not proven the identity that is pinned: it has signed nothing'
const [check] = IDENTITY_CHECKS
const found = (identity: DaemonFacts['identity']) => {
  const peers = [
    { subnet: '10.5.2.0/24', publicIp: '192.0.2.12', state: 'ok', reason: REASON },
    { subnet: '10.5.3.0/24', publicIp: '192.0.2.13', state: 'rejected', reason: 'another' },
  ]
  const daemon = { ok: true, value: { identity, peers } }
  return check?.run({ daemon } as never, [])
}

test('a host without a lease has nothing to prove', () => {
  expect(found(undefined)).toMatchObject({ summary: 'no pin is known', findings: [] })
})

test('all is well where every lease is proven', () => {
  expect(found({ pin: 'own', pinned: 2, refused: 0 })).toMatchObject({ findings: [] })
})

test('a pin of another identity cuts this host off, and a lease without a proof is named', () => {
  expect(isUnproven(REASON)).toBe(true)
  expect(found({ key: 'K', pin: 'other', pinned: 2, refused: 1 })).toMatchObject({
    findings: [
      { code: 'identity-not-pinned', severity: 'fail', evidence: ['the identity of this host is K'] },
      { code: 'identity-unproven', severity: 'warn', evidence: [`10.5.2.0/24 at 192.0.2.12: ${REASON}`] },
    ],
  })
})
