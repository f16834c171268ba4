import { HostIdentity } from '../../../../src/daemon/encryption/host-identity'
import { Proof } from '../../../../src/daemon/node/proof'
import type { HostEntry, IdentityKey } from '../../../../src/model/host-record'
import { IdentitySecret } from '../../../../src/model/identity-secret'
import type { LeaseSignature, Revision } from '../../../../src/model/lease'
import { HostBook } from '../../../../src/plan/trust/host-book'
import { lease } from '../../plan/support'
import { stateDirectory } from '../state-directory'

const state = stateDirectory()

const OWN = lease('10.5.2.0/24')
const pinned = (identity: IdentityKey): HostEntry => ({
  name: '10.5.2.0-24',
  modRevision: 1n as Revision,
  subnet: OWN.subnet,
  record: { identity },
})
const proofWith = (entries: readonly HostEntry[] | undefined, own = OWN) => {
  const identity = new HostIdentity(state.directory, state.log)
  return { identity, proof: new Proof(new HostBook(entries), identity, own, state.log) }
}

test('a host without a pin makes no identity, and signs nothing', async () => {
  const { identity, proof } = proofWith([])
  await proof.renew()
  expect([identity.key, proof.pin, proof.problem]).toEqual([undefined, 'none', undefined])
  expect(proof.signed(OWN.value)).toBe(OWN.value)
  expect(state.printed).toBe('')
})

test('a pin that comes is told once, and a pin that goes too', async () => {
  const { identity, proof } = proofWith([])
  const key = await identity.demand()
  proof.hosts.replace([pinned(key)])
  await proof.renew()
  await proof.renew()
  expect([proof.pin, proof.problem]).toEqual(['own', undefined])
  expect(proof.signed(OWN.value)).toHaveProperty('signature')
  expect(state.printed.match(/10\.5\.2\.0\/24 is pinned to the identity of this host/g)).toHaveLength(1)
  proof.hosts.replace([])
  await proof.renew()
  expect(proof.signed(OWN.value)).toBe(OWN.value)
  expect(state.printed).toContain('10.5.2.0/24 has no pin any more')
})

test('a pin of another identity is a problem that names the one of this host', async () => {
  const { identity, proof } = proofWith([pinned(IdentitySecret.generate().publicKey())])
  await proof.renew()
  expect(proof.pin).toBe('other')
  expect(proof.problem).toContain(`that of this host is ${identity.key}`)
})

test('until etcd has told what is pinned, a lease that was signed stays signed', async () => {
  const signed = { ...OWN, value: { ...OWN.value, signature: 'x' as LeaseSignature } }
  const { proof } = proofWith(undefined, signed)
  await proof.renew()
  expect(proof.signed(OWN.value)).toHaveProperty('signature')
  proof.hosts.replace([])
  expect(proof.signed(OWN.value)).toBe(OWN.value)
})
