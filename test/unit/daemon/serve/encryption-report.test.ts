/** What status, problems and warnings say about encryption. */
import { problemText } from '../../../../src/api/problems'
import { statusSchema } from '../../../../src/api/status'
import type { EncryptionState } from '../../../../src/daemon/encryption/encryption-state'
import {
  encryptionWarnings,
  reportEncryption,
  reportPeerEncryption,
} from '../../../../src/daemon/serve/encryption-report'
import { encryptionProblems, warningsOf } from '../../../../src/daemon/serve/find-problems'
import {
  describeObstacle,
  type EncryptionObstacle,
  type PeerEncryption,
} from '../../../../src/plan/encryption/peer-encryption'
import { announcement, peer } from '../../plan/encryption/support'

type On = Extract<EncryptionState, { readonly kind: 'on' }>

const ON: On = {
  kind: 'on',
  mode: 'prefer',
  devices: [{ name: 'fl-wg.1', port: 51_820 }],
  peers: { encrypted: 2, clear: 1, none: 0 },
  withoutKey: 1,
  silent: 0,
  lacking: [],
  refused: new Map(),
  since: 1_000_000,
  problem: undefined,
}
const UNABLE: EncryptionState = {
  kind: 'unable',
  mode: 'prefer',
  reason: 'the kernel of this host has no WireGuard',
  fix: 'load the module',
  peers: { encrypted: 0, clear: 3, none: 0 },
}
const SILENT: EncryptionObstacle = { kind: 'no-handshake', tries: 2, port: 51_820 }
const NO_KEY: EncryptionObstacle = { kind: 'no-key' }

const lacking = (number: number, word: PeerEncryption['word'], obstacle: EncryptionObstacle) => ({
  peer: peer(number, announcement(number)),
  encryption: { word, obstacle },
})

const report = async (state: EncryptionState | undefined, dropped?: [bigint, bigint]) => {
  const counts = dropped && { droppedIn: dropped[0], droppedOut: dropped[1] }
  const { encryption } = await reportEncryption(
    { state: () => state, dropped: async () => counts },
    1_090_400,
  )
  return statusSchema.shape.encryption.parse(encryption)
}

const problems = (state: EncryptionState | undefined, problem?: string): [string, string][] =>
  encryptionProblems({ problem, state: () => state }).map((each) => [each.code, problemText(each)])

describe('the part of the status', () => {
  test('is absent without encryption', async () => {
    expect(await report(undefined)).toBeUndefined()
  })

  test('of a host that encrypts', async () => {
    expect(await report(ON)).toEqual({
      mode: 'prefer',
      state: 'on',
      devices: [{ name: 'fl-wg.1', port: 51_820 }],
      peers: { encrypted: 2, clear: 1, none: 0 },
      withoutKey: 1,
      silent: 0,
      keyAgeSeconds: 90,
    })
  })

  test('has dropped packets, refused keys and the problem, where there are any', async () => {
    const refused = new Map([[peer(9).key, 'key-twin' as const]])
    const state: On = { ...ON, mode: 'required', refused, since: undefined, problem: 'no room' }
    expect(await report(state, [3n, 1n])).toMatchObject({
      mode: 'required',
      refused: [{ key: '10.5.9.0-24', reason: 'an older lease announces the same key' }],
      dropped: { in: 3, out: 1 },
      problem: 'no room',
    })
  })

  test('lists some of many refused keys', async () => {
    const refused = new Map(Array.from({ length: 50 }, (_, i) => [peer(i).key, 'own-key' as const]))
    expect((await report({ ...ON, refused }))?.refused).toHaveLength(20)
  })

  test('of a host that cannot encrypt', async () => {
    expect(await report(UNABLE)).toEqual({
      mode: 'prefer',
      state: 'unable',
      reason: 'the kernel of this host has no WireGuard',
      fix: 'load the module',
      devices: [],
      peers: { encrypted: 0, clear: 3, none: 0 },
    })
  })
})

test.each<[EncryptionObstacle, string]>([
  [NO_KEY, 'it announces no key'],
  [{ kind: 'refused', refusal: 'differs' }, 'its key is not used: its two families announce different keys'],
  [{ ...SILENT, tries: 0 }, 'no handshake with it yet'],
  [{ ...SILENT, tries: 1 }, 'it answers no handshake on UDP port 51820 (1 try)'],
  [SILENT, 'it answers no handshake on UDP port 51820 (2 tries)'],
  [{ kind: 'unable' }, 'this host cannot encrypt'],
])('the reason of a peer: %j', (obstacle, text) => {
  expect(describeObstacle(obstacle)).toBe(text)
  expect(reportPeerEncryption({ word: 'clear', obstacle })).toEqual({
    encryption: 'clear',
    encryptionReason: text,
  })
})

test('a peer that is encrypted has no reason, and one of another network no field', () => {
  expect(reportPeerEncryption({ word: 'encrypted', obstacle: undefined })).toEqual({
    encryption: 'encrypted',
  })
  expect(reportPeerEncryption(undefined)).toEqual({})
})

describe('problems and warnings', () => {
  test('of a host where all is well there are none', () => {
    expect(problems(ON)).toEqual([])
    expect(problems(undefined)).toEqual([])
    expect(warningsOf({ peers: [] }, ON)).toEqual([])
    expect(warningsOf({ peers: [] }, undefined)).toEqual([])
  })

  test('what the keeper cannot do is a problem', () => {
    expect(problems(ON, 'UDP port 51820 is in use')).toEqual([
      ['encryption-problem', 'encryption: UDP port 51820 is in use'],
    ])
  })

  test('peers that get no packets are a problem, with names', () => {
    const cut = [lacking(2, 'none', NO_KEY), lacking(3, 'none', SILENT)]
    expect(problems({ ...ON, mode: 'required', lacking: cut })).toEqual([
      [
        'encryption-cut',
        'encryption: required, and 2 peers get no packets: 10.5.2.0/24 (it announces no key), ' +
          '10.5.3.0/24 (it answers no handshake on UDP port 51820 (2 tries))',
      ],
    ])
    const many = Array.from({ length: 9 }, (_, i) => lacking(i + 1, 'none', NO_KEY))
    expect(problems({ ...ON, lacking: many })[0]?.[1]).toMatch(
      /9 peers get no packets: .*10\.5\.5\.0\/24 \(it announces no key\), and 4 more$/,
    )
  })

  test('peers with keys that get packets in clear are a warning; those without keys are none', () => {
    const state = { ...ON, lacking: [lacking(2, 'clear', SILENT), lacking(3, 'clear', NO_KEY)] }
    expect(problems(state)).toEqual([])
    expect(encryptionWarnings(state)).toEqual([
      'encryption: 1 peer with keys gets packets in clear: ' +
        '10.5.2.0/24 (it answers no handshake on UDP port 51820 (2 tries))',
    ])
  })

  test('a host that cannot encrypt works, with a warning', () => {
    expect(problems(UNABLE)).toEqual([])
    expect(warningsOf({ peers: [] }, UNABLE)).toEqual([
      'encryption: packets go in clear, because the kernel of this host has no WireGuard; load the module',
    ])
  })
})
