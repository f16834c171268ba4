/**
 * etcd's protocol as JavaScript. At each start etcd3 would parse the protocol's text, make an object of each
 * message and field, and let protobufjs write and compile the functions of each message. All of this is done
 * here once, when the bundle is made, for the part of the protocol that is used. At run time only the reader
 * and the writer of protobufjs are left.
 */
import { createRequire } from 'node:module'
import { dirname, join } from 'node:path'
import type { Method, NamespaceBase, Root, Type } from 'protobufjs'

/** The libraries that etcd3 itself loads. */
const LOADER = createRequire(require.resolve('etcd3')).resolve('@grpc/proto-loader')
const fromLoader = createRequire(LOADER)
const protobufjs = (): typeof import('protobufjs') => fromLoader('protobufjs')

/** The services that src/etcd calls. */
const SERVICES: ReadonlySet<string> = new Set(['KV', 'Watch', 'Lease', 'Auth'])
/** Methods of `Auth` that src/etcd calls, and the login of etcd3 itself. The other services are whole. */
const AUTH_METHODS: ReadonlySet<string> = new Set([
  ...['Authenticate', 'UserAdd', 'UserGet', 'UserDelete', 'UserChangePassword', 'UserGrantRole'],
  ...['RoleAdd', 'RoleGet', 'RoleDelete', 'RoleGrantPermission'],
])

/** The options with which etcd3 loads the protocol. `keepCase` is for the parser alone. */
export const LOAD_OPTIONS = { keepCase: true, longs: String, enums: String, defaults: true, oneofs: true }
const CONVERSIONS = '{ longs: String, enums: String, defaults: true, oneofs: true }'

/** The file that etcd3 loads. */
export const PROTOCOL = join(dirname(require.resolve('etcd3')), '../proto/rpc.proto')

/** Full names of the services that are used, and their methods. */
export function usedMethods(): ReadonlyMap<string, readonly Method[]> {
  const { Namespace, Root, Service } = protobufjs()
  const found = new Map<string, readonly Method[]>()
  const visit = (namespace: NamespaceBase): void => {
    for (const part of namespace.nestedArray) {
      if (part instanceof Service && SERVICES.has(part.name)) {
        const methods = part.methodsArray.filter(({ name }) => part.name !== 'Auth' || AUTH_METHODS.has(name))
        found.set(part.fullName.replace(/^\./, ''), methods)
      } else if (part instanceof Namespace) visit(part)
    }
  }
  const root: Root = new Root().loadSync(PROTOCOL, LOAD_OPTIONS)
  root.resolveAll()
  visit(root)
  return found
}

/**
 * The source of a module in place of @grpc/proto-loader. `loadSync` returns the services that are used,
 * without the descriptions of messages, which are for servers with reflection.
 */
export function writeProtocol(): string {
  const services = usedMethods()
  const methods = [...services.values()].flat()
  const sent = withParts(methods.map(({ resolvedRequestType }) => resolvedRequestType))
  const received = withParts(methods.map(({ resolvedResponseType }) => resolvedResponseType))
  const messages = [...new Set([...sent, ...received])].map(
    (type) => `${quote(type.fullName)}: ${writeMessage(type, sent.has(type), received.has(type))}`,
  )
  const definitions = [...services].map(
    ([service, used]) => `${quote(service)}: ${writeService(service, used)}`,
  )
  return `const { Reader, Writer, util } = require(${quote(fromLoader.resolve('protobufjs/minimal'))})
// The functions of a message are made at its first use, when all messages that the functions call exist.
class Message {
  constructor(functions) { this.functions = functions }
  setUp() { return Object.assign(this, this.functions()) }
  encode(...args) { return this.setUp().encode(...args) }
  decode(...args) { return this.setUp().decode(...args) }
  fromObject(...args) { return this.setUp().fromObject(...args) }
  toObject(...args) { return this.setUp().toObject(...args) }
}
const method = (path, originalName, streams, request, response) => ({
  path, originalName, requestStream: streams[0], responseStream: streams[1],
  requestSerialize: (object) => request.encode(request.fromObject(object)).finish(),
  responseDeserialize: (bytes) => response.toObject(response.decode(bytes), ${CONVERSIONS}),
})
const messages = {
${messages.join(',\n')}
}
const services = {
${definitions.join(',\n')}
}
exports.loadSync = () => services
`
}

const quote = (text: string): string => JSON.stringify(text)

/** The messages, and those that they consist of. */
function withParts(types: readonly (Type | null)[]): ReadonlySet<Type> {
  const { Type } = protobufjs()
  const found = new Set<Type>()
  const visit = (type: Type): void => {
    if (found.has(type)) return
    found.add(type)
    for (const { resolvedType } of type.fieldsArray) if (resolvedType instanceof Type) visit(resolvedType)
  }
  for (const type of types) if (type !== null) visit(type)
  return found
}

/** The functions that protobufjs writes call the type of the field N `types[N]`. */
function writeMessage(type: Type, isSent: boolean, isReceived: boolean): string {
  const { converter, decoder, encoder, Type } = protobufjs()
  const types = type.fieldsArray.map(({ resolvedType }) => {
    if (resolvedType === null) return 'null'
    if (resolvedType instanceof Type) return `messages[${quote(resolvedType.fullName)}]`
    return `{ values: ${JSON.stringify({ ...resolvedType.valuesById, ...resolvedType.values })} }`
  })
  const functions = {
    ctor: Type.generateConstructor(type),
    ...(isSent ? { fromObject: converter.fromObject(type), encode: encoder(type) } : {}),
    ...(isReceived ? { decode: decoder(type), toObject: converter.toObject(type) } : {}),
  }
  const written = Object.entries(functions).map(([name, source]) => `${name}: ${source.toString()}`)
  return `new Message(() => {
const types = [${types.join(', ')}]
return { ${written.join(',\n')} }
})`
}

function writeService(service: string, methods: readonly Method[]): string {
  const written = methods.map(
    ({ name, requestStream, responseStream, resolvedRequestType, resolvedResponseType }) => {
      if (resolvedRequestType === null || resolvedResponseType === null)
        throw new Error(`${service}: a message of ${name} is not in the protocol`)
      const parts = [
        quote(`/${service}/${name}`),
        quote(name.replace(/^./, (letter) => letter.toLowerCase())),
        `[${requestStream === true}, ${responseStream === true}]`,
        `messages[${quote(resolvedRequestType.fullName)}]`,
        `messages[${quote(resolvedResponseType.fullName)}]`,
      ]
      return `${name}: method(${parts.join(', ')})`
    },
  )
  return `{ ${written.join(',\n')} }`
}
