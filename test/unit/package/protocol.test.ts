/**
 * The bundle has etcd's protocol as code, and only the part that is used. Without a method that is called, a
 * command fails there alone.
 */
import { readdirSync, readFileSync } from 'node:fs'
import { createRequire } from 'node:module'
import { join } from 'node:path'
import fc from 'fast-check'
import type { Enum, Field, Type } from 'protobufjs'
import { LOAD_OPTIONS, PROTOCOL, usedMethods, writeProtocol } from '../../../scripts/package/protocol'

const ETCD = join(__dirname, '../../../src/etcd')

/** Methods of the service Auth in the source, as `etcd.auth.userGet(...)`. */
const called = (): string[] =>
  readdirSync(ETCD, { recursive: true, encoding: 'utf8' })
    .filter((file) => file.endsWith('.ts'))
    .flatMap((file) => [...readFileSync(join(ETCD, file), 'utf8').matchAll(/\.auth\s*\.(\w+)\(/g)])
    .map(([, method = '']) => method.replace(/^./, (letter) => letter.toUpperCase()))

test('the bundle has the methods of logins, users and roles that src/etcd calls, and no others', () => {
  const used = new Set(['Authenticate', ...called()])
  expect(used.size).toBeGreaterThan(5)
  const methods = usedMethods().get('etcdserverpb.Auth') ?? []
  expect(methods.map(({ name }) => name).sort()).toEqual([...used].sort())
})

interface MethodDefinition {
  readonly path: string
  readonly originalName: string
  readonly requestStream: boolean
  readonly responseStream: boolean
  readonly requestSerialize: (object: object) => Buffer
  readonly responseDeserialize: (bytes: Buffer) => object
}
interface Loader {
  readonly loadSync: (file: string, options: object) => Record<string, Record<string, MethodDefinition>>
}

const etcd3 = createRequire(require.resolve('etcd3'))
const library: Loader = etcd3('@grpc/proto-loader')

/** The module that the bundle has in the library's place. */
function written(): Loader {
  const exported = {}
  new Function('require', 'exports', writeProtocol())(require, exported)
  return exported as Loader
}

/** A message's object, with each field absent or with any value. */
function objectOf(type: Type, depth = 0): fc.Arbitrary<object> {
  const fields = type.fieldsArray.filter(({ resolvedType }) => depth < 3 || !isMessage(resolvedType))
  const entries = fields.map((field) => [field.name, fieldValue(field, depth)] as const)
  return fc.record(Object.fromEntries(entries), { requiredKeys: [] })
}

const isMessage = (type: Type | Enum | null): type is Type => type !== null && 'fieldsArray' in type

function fieldValue(field: Field, depth: number): fc.Arbitrary<unknown> {
  const one = isMessage(field.resolvedType)
    ? objectOf(field.resolvedType, depth + 1)
    : scalarOf(field.type, field.resolvedType)
  return field.repeated ? fc.array(one, { maxLength: 2 }) : one
}

function scalarOf(type: string, values: Enum | null): fc.Arbitrary<unknown> {
  if (values !== null) return fc.constantFrom(...Object.keys(values.values))
  if (type === 'bytes') return fc.uint8Array({ maxLength: 4 }).map((bytes) => Buffer.from(bytes))
  if (type === 'string') return fc.string({ maxLength: 4 })
  if (type === 'bool') return fc.boolean()
  if (type === 'int64') return fc.bigInt({ min: -(2n ** 63n), max: 2n ** 63n - 1n }).map(String)
  if (type === 'uint64') return fc.bigInt({ min: 0n, max: 2n ** 64n - 1n }).map(String)
  if (type === 'int32') return fc.integer()
  if (type === 'uint32') return fc.nat()
  throw new Error(`the protocol has a field of type ${type}`)
}

describe('the code in the place of the library', () => {
  const ours = written().loadSync(PROTOCOL, LOAD_OPTIONS)
  const theirs = library.loadSync(PROTOCOL, LOAD_OPTIONS)

  test.each(
    [...usedMethods()].flatMap(([service, methods]) => methods.map((method) => ({ service, method }))),
  )('$service, $method.name: same names, same bytes, same objects', ({ service, method }) => {
    const [own, other] = [ours, theirs].map((definitions) => definitions[service]?.[method.name])
    if (own === undefined || other === undefined) throw new Error('the method is missing')
    const { path, originalName, requestStream, responseStream } = other
    expect(own).toMatchObject({ path, originalName, requestStream, responseStream })
    const { resolvedRequestType: request, resolvedResponseType: response } = method
    if (request === null || response === null) throw new Error('a type is missing')
    const pairs = fc.tuple(objectOf(request), objectOf(response))
    fc.assert(
      fc.property(pairs, ([asked, answered]) => {
        expect(own.requestSerialize(asked)).toEqual(other.requestSerialize(asked))
        const bytes = Buffer.from(response.encode(response.fromObject(answered)).finish())
        expect(own.responseDeserialize(bytes)).toEqual(other.responseDeserialize(bytes))
      }),
      { numRuns: 20 },
    )
  })
})
