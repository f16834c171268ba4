import { chmodSync, readFileSync, statSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { HostIdentity } from '../../../../src/daemon/encryption/host-identity'
import { encodeLeaseValue, unsignedText } from '../../../../src/etcd/codec/lease-codec'
import { identityPath, readIdentity } from '../../../../src/host/identity-file'
import { ipv4 } from '../../../../src/model/address'
import { IdentitySecret, IdentityVerifier } from '../../../../src/model/identity-secret'
import type { Lease, LeaseValue } from '../../../../src/model/lease'
import { announcement } from '../../plan/encryption/support'
import { lease } from '../../plan/support'
import { stateDirectory } from '../state-directory'

const state = stateDirectory()

const opened = async (): Promise<HostIdentity> => {
  const identity = new HostIdentity(state.directory, state.log)
  expect(await identity.open()).toBe(true)
  return identity
}
const VALUE: LeaseValue = lease('10.5.2.0/24').value
const vtep = VALUE.vtep && { ...VALUE.vtep, wireguard: announcement(1) }

test('an identity is made once, in a file for this user alone, and found again', async () => {
  const { key: first } = await opened()
  expect(statSync(identityPath(state.directory)).mode & 0o777).toBe(0o600)
  expect(state.printed).toContain(`info  identity: this host has a new identity, ${first}`)
  state.printed = ''
  expect((await opened()).key).toBe(first)
  expect(state.printed).toBe('')
})

test('a value is signed if it has keys, or has to be, and else is byte for byte that of flannel', async () => {
  const closed = new HostIdentity(state.directory, state.log)
  expect(closed.sign({ ...VALUE, vtep }, true)).not.toHaveProperty('signature')
  const identity = await opened()
  expect(encodeLeaseValue(identity.sign(VALUE, false))).toBe(encodeLeaseValue(VALUE))
  const verifier = new IdentityVerifier(await identity.demand())
  for (const [value, isPinned] of [
    [VALUE, true],
    [{ ...VALUE, vtep }, false],
  ] as const) {
    const { signature, ...signed } = identity.sign(value, isPinned)
    if (signature === undefined) throw new Error('not signed')
    expect(verifier.isSigned({ text: encodeLeaseValue(signed), signature })).toBe(true)
    // The same value has the same signature: nothing is written again.
    expect(identity.sign(value, isPinned).signature).toBe(signature)
  }
})

test.each([
  ['open to others', (path: string) => chmodSync(path, 0o644), /others may use it/],
  ['torn', (path: string) => writeFileSync(path, '-----BEGIN'), /has no Ed25519 key/],
])('a file that is %s is of no use: another identity is made, with a warning', async (_, spoil, reason) => {
  const { key: first } = await opened()
  spoil(identityPath(state.directory))
  state.printed = ''
  expect((await opened()).key).not.toBe(first)
  expect(state.printed).toMatch(reason)
  expect((await readIdentity(state.directory)).kind).toBe('found')
})

test('a directory that takes no file leaves a host without an identity, and is told once', async () => {
  const identity = new HostIdentity(join(state.directory, 'missing', 'file'), state.log)
  writeFileSync(join(state.directory, 'missing'), '')
  expect(await identity.open()).toBe(false)
  expect(await identity.open()).toBe(false)
  expect(state.printed.match(/cannot be written/g)).toHaveLength(1)
  expect(identity.problem).toContain('cannot be written')
  await expect(identity.demand()).rejects.toMatchObject({ code: 'identity-file' })
})

describe('serials', () => {
  /** A lease in etcd with that value. */
  const leaseOf = (value: LeaseValue): Lease => {
    const { signature, serial } = value
    const signed = signature && { text: unsignedText(value), signature, ...(serial && { serial }) }
    return { ...lease('10.5.2.0/24'), value, ...(signed && { signed }) }
  }
  const other = (identity: HostIdentity) => identity.sign({ ...VALUE, publicIp: ipv4(7) }, true)

  test('grow with each value, and start at the time', async () => {
    const identity = await opened()
    const before = Date.now()
    const { serial: first = 0 } = identity.sign(VALUE, true)
    expect(first).toBeGreaterThanOrEqual(before)
    expect(identity.sign(VALUE, true).serial).toBe(first)
    expect(other(identity).serial).toBeGreaterThan(first)
  })

  test('go on above those of an earlier run, also where the clock was set back', async () => {
    const identity = await opened()
    const future = Date.now() + 86_400_000
    identity.learn(leaseOf(sign({ ...VALUE, serial: future })))
    // The same value: nothing is written again.
    expect(identity.sign(VALUE, true)).toEqual(sign({ ...VALUE, serial: future }))
    expect(other(identity).serial).toBe(future + 1)
    identity.learn(leaseOf(sign({ ...VALUE, serial: future - 5 })))
    expect(identity.sign(VALUE, true).serial).toBe(future + 2)
  })

  test('are given to what an overlayd of before has signed', async () => {
    const identity = await opened()
    identity.learn(leaseOf(sign(VALUE)))
    expect(identity.sign(VALUE, true).serial).toBeGreaterThan(0)
  })

  test('of others, or of nobody, count for nothing', async () => {
    const identity = await opened()
    const future = Date.now() + 86_400_000
    const theirs = { ...VALUE, serial: future }
    identity.learn(leaseOf({ ...theirs, signature: IdentitySecret.generate().sign(unsignedText(theirs)) }))
    identity.learn(leaseOf(theirs))
    expect(identity.sign(VALUE, true).serial).toBeLessThan(future)
  })

  test('tell a former lease of this host from the last one, and from that of another', async () => {
    const identity = await opened()
    const first = identity.sign(VALUE, true)
    expect(identity.isFormer(leaseOf(first))).toBe(false)
    const second = other(identity)
    expect([first, second, VALUE].map((value) => identity.isFormer(leaseOf(value)))).toEqual([
      true,
      false,
      false,
    ])
    const later = { ...VALUE, serial: (second.serial ?? 0) + 1 }
    expect(identity.isFormer(leaseOf(sign(later)))).toBe(false)
  })

  /** Signs with the identity in the state.directory, as an earlier run has. */
  function sign(value: LeaseValue): LeaseValue {
    const secret = IdentitySecret.fromText(readFileSync(identityPath(state.directory), 'utf8'))
    if (secret === undefined) throw new Error('no identity')
    return { ...value, signature: secret.sign(unsignedText(value)) }
  }
})
