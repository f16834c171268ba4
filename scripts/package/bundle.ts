/** One JavaScript file with both programs and all they need, beside it the two native addons, and V8's cache of it. */
import { createHash } from 'node:crypto'
import { chmod, copyFile, mkdir, readdir, readFile, writeFile } from 'node:fs/promises'
import { createRequire } from 'node:module'
import { dirname, join, resolve } from 'node:path'
import { build, type OnLoadResult, type Plugin } from 'esbuild'

const HERE = __dirname
export const ROOT = resolve(HERE, '../..')

/** Files of the bundle that are programs. */
export const PROGRAMS = ['overlayd', 'overlayctl'] as const

/** The two addons, for one architecture. */
export interface Addons {
  readonly netlink: string
  readonly koffi: string
}

/**
 * Writes the bundle into a directory, without the cache.
 * @param node what the programs' first lines name
 */
export async function writeBundle(
  directory: string,
  addons: Addons,
  version: string,
  node = '/usr/bin/env node',
): Promise<void> {
  await mkdir(directory, { recursive: true })
  const { code, packages } = await bundleCode(version)
  const name = `bundle-${createHash('sha256').update(code).digest('hex').slice(0, 12)}`
  await writeFile(join(directory, `${name}.js`), code)
  await writeFile(join(directory, 'NOTICES'), await notices(packages))
  for (const [addon, file] of Object.entries(addons)) {
    await copyFile(file, join(directory, `${addon}.node`))
    await chmod(join(directory, `${addon}.node`), 0o644)
  }
  for (const file of ['launch', 'make-cache', ...PROGRAMS].map((stem) => `${stem}.js`)) {
    const text = await readFile(join(HERE, 'runtime', file), 'utf8')
    await writeFile(join(directory, file), text.replace('@BUNDLE@', name).replace(/^#!.*/, `#!${node}`), {
      mode: text.startsWith('#!') ? 0o755 : 0o644,
    })
  }
}

interface Code {
  readonly code: Uint8Array
  /** Folders of the packages whose code is in it. */
  readonly packages: readonly string[]
}

async function bundleCode(version: string): Promise<Code> {
  const { outputFiles, metafile } = await build({
    absWorkingDir: ROOT,
    metafile: true,
    entryPoints: [join(HERE, 'entry.ts')],
    write: false,
    bundle: true,
    // Names stay as they are, for stack traces: to keep them beside short ones (keepNames) costs a call for each function at each start.
    minifyWhitespace: true,
    minifySyntax: true,
    platform: 'node',
    target: 'node20',
    format: 'cjs',
    charset: 'ascii',
    legalComments: 'none',
    // An expression for vm.Script: a function that is given what a module gets, and the object to export to.
    banner: { js: '(function(require,exported,__filename,__dirname){var module={exports:exported};' },
    footer: { js: 'Object.assign(exported,module.exports)})' },
    alias: {
      // By import yargs 17 is the ES module, which looks for its files by import.meta.
      yargs: require.resolve('yargs'),
      'yargs/helpers': require.resolve('yargs/helpers'),
      // Its index would bring the protocols of wireless devices along.
      'node-netlink': join(dirname(require.resolve('node-netlink')), 'raw.js'),
    },
    plugins: [
      fixedVersion(version),
      addonLoaders(),
      protocolAsJson(),
      codecsAhead(),
      noDescriptors(),
      noWebAssembly(),
      englishOnly(),
      withoutColours(),
    ],
    logLevel: 'warning',
  })
  const [output] = outputFiles
  if (output === undefined) throw new Error('esbuild made no bundle')
  const folders = Object.keys(metafile.inputs).map(
    (input) => /^.*node_modules\/(@[^/]+\/)?[^/]+/.exec(input)?.[0],
  )
  const packages = [...new Set(folders.filter((folder) => folder !== undefined)), 'node_modules/koffi']
  return { code: output.contents, packages: packages.sort() }
}

/** The licences of what is in the bundle, as they ask for. */
async function notices(packages: readonly string[]): Promise<string> {
  const parts = packages.map(async (folder) => {
    const { name, version, license } = JSON.parse(await readFile(join(ROOT, folder, 'package.json'), 'utf8'))
    const files = (await readdir(join(ROOT, folder))).filter((file) =>
      /^(licen[sc]e|copying|notice)/i.test(file),
    )
    const texts = await Promise.all(files.sort().map((file) => readFile(join(ROOT, folder, file), 'utf8')))
    return [`==== ${name} ${version} (${license})`, ...texts.map((text) => text.trim())].join('\n\n')
  })
  return `${(await Promise.all(parts)).join('\n\n')}\n`
}

/** The version is that of the package the bundle is made of; there is no package.json beside it. */
function fixedVersion(version: string): Plugin {
  return {
    name: 'fixed-version',
    setup({ onLoad }) {
      onLoad({ filter: /\/src\/daemon\/version\.ts$/ }, () => ({
        contents: `export const readVersion = () => ${JSON.stringify(version)}`,
      }))
    },
  }
}

/** The packages' own loaders search for the addon in node_modules; here it lies beside the bundle. */
function addonLoaders(): Plugin {
  const loaders: Readonly<Record<string, string>> = {
    'node-gyp-build': `module.exports = () => require('./netlink.node')`,
    koffi: `module.exports = require('./koffi.node')`,
  }
  return {
    name: 'addon-loaders',
    setup({ onResolve, onLoad }) {
      onResolve({ filter: /^(node-gyp-build|koffi)$/ }, ({ path }) => ({ path, namespace: 'addon' }))
      onResolve({ filter: /\.node$/, namespace: 'addon' }, ({ path }) => ({ path, external: true }))
      onLoad({ filter: /.*/, namespace: 'addon' }, ({ path }) => ({ contents: loaders[path] ?? '' }))
    },
  }
}

/** etcd3 parses its protocol's text at each start, from a file; here it is parsed once, now. */
function protocolAsJson(): Plugin {
  return {
    name: 'protocol-as-json',
    setup({ onLoad }) {
      onLoad({ filter: /\/etcd3\/lib\/connection-pool\.js$/ }, ({ path }) =>
        patched(path, [
          [
            /loadSync\)\(`\$\{__dirname\}\/\.\.\/proto\/rpc\.proto`/,
            `fromJSON)(${JSON.stringify(readProtocol())}`,
          ],
        ]),
      )
    },
  }
}

/** A file of a library with other texts in the place of some that must be there. */
async function patched(
  path: string,
  changes: readonly (readonly [string | RegExp, string])[],
): Promise<OnLoadResult> {
  let contents = await readFile(path, 'utf8')
  for (const [before, after] of changes) {
    if (contents.split(before).length === 1) throw new Error(`${path} has no "${before}" as it used to`)
    contents = contents.replace(before, () => after)
  }
  return { contents }
}

type Protobufjs = typeof import('protobufjs')

/** As etcd3 itself would load it. */
const protobufjs = (): Protobufjs => {
  const loader = createRequire(require.resolve('etcd3')).resolve('@grpc/proto-loader')
  return createRequire(loader)('protobufjs')
}

/** The part of the protocol that is used, as JSON. */
function readProtocol(): Namespace {
  const file = join(dirname(require.resolve('etcd3')), '../proto/rpc.proto')
  const root = new (protobufjs().Root)().loadSync(file, { keepCase: true }).toJSON()
  for (const part of Object.values(root.nested ?? {})) if (isNamespace(part)) keepUsed(part)
  return root
}

/** What src/etcd calls; a client makes objects of every service and message it knows at each start. */
const SERVICES: ReadonlySet<string> = new Set(['KV', 'Watch', 'Lease', 'Auth'])
const AUTH_METHODS: ReadonlySet<string> = new Set(['Authenticate'])

type Namespace = import('protobufjs').INamespace
type Part = import('protobufjs').AnyNestedObject

const isNamespace = (part: Part): part is Namespace => 'nested' in part && !('fields' in part)
const isService = (part: Part): part is import('protobufjs').IService => 'methods' in part

/** Leaves out the services that are not used, and the messages that only they use. */
function keepUsed(namespace: Namespace): void {
  const parts = namespace.nested ?? {}
  const kept = new Set<string>()
  const keep = (text: string): void => {
    for (const name of Object.keys(parts)) {
      if (
        kept.has(name) ||
        isService(parts[name] as Part) ||
        !new RegExp(`"(\\w+\\.)*${name}[".]`).test(text)
      )
        continue
      kept.add(name)
      keep(JSON.stringify(parts[name]))
    }
  }
  const services = Object.entries(parts).filter(([, part]) => isService(part))
  if (services.length === 0) return
  for (const [name, service] of services) {
    if (!SERVICES.has(name) || !isService(service)) continue
    if (name === 'Auth') {
      service.methods = Object.fromEntries(
        Object.entries(service.methods).filter(([method]) => AUTH_METHODS.has(method)),
      )
    }
    kept.add(name)
    keep(JSON.stringify(service))
  }
  namespace.nested = Object.fromEntries(Object.entries(parts).filter(([name]) => kept.has(name)))
}

/** What in protobufjs' own code writes a function for a message type, by the name of the function. */
const WRITERS = {
  encode: 'encoder',
  decode: 'decoder',
  verify: 'verifier',
  fromObject: 'converter.fromObject',
  toObject: 'converter.toObject',
} as const

/** protobufjs writes JavaScript for each message type and compiles it when the type is first used, at each start; here it is written once, now. */
function codecsAhead(): Plugin {
  return {
    name: 'codecs-ahead',
    setup({ onLoad }) {
      onLoad({ filter: /\/protobufjs\/src\/type\.js$/ }, async ({ path }) => {
        const calls = Object.entries(WRITERS).map(
          ([name, writer]) => [`${writer}(this)(`, `written(this, '${name}', ${writer})(`] as const,
        )
        const { contents } = await patched(path, [
          ...calls,
          ['Type.generateConstructor(this)()', `written(this, 'ctor', Type.generateConstructor)()`],
        ])
        const codecs = messageTypes(protobufjs().Root.fromJSON(readProtocol()).resolveAll()).map(
          (type) => `${JSON.stringify(type.fullName)}: ${writeCodec(type)}`,
        )
        return {
          contents: `${contents}
const CODECS = {${codecs.join(',\n')}}
function written(type, name, write) { return CODECS[type.fullName]?.[name] ?? write(type) }`,
        }
      })
    },
  }
}

function messageTypes(namespace: import('protobufjs').NamespaceBase): import('protobufjs').Type[] {
  const { Type, Namespace } = protobufjs()
  return namespace.nestedArray.flatMap((part) => [
    ...(part instanceof Type ? [part] : []),
    ...(part instanceof Namespace ? messageTypes(part) : []),
  ])
}

/** An object of functions that take what the generated code refers to, as what {@link WRITERS} make does. */
function writeCodec(type: import('protobufjs').Type): string {
  const { encoder, decoder, verifier, converter, Type } = protobufjs()
  const sources = {
    encode: encoder(type),
    decode: decoder(type),
    verify: verifier(type),
    fromObject: converter.fromObject(type),
    toObject: converter.toObject(type),
    ctor: Type.generateConstructor(type),
  }
  const functions = Object.entries(sources).map(
    ([name, source]) => `${name}: ({ Writer, Reader, types, util } = {}) => ${source.toString()}`,
  )
  return `{${functions.join(',\n')}}`
}

/** The protocol once more, as descriptors for servers that offer reflection: 25 ms and 4 MB of each start, and nobody reads them. */
function noDescriptors(): Plugin {
  return {
    name: 'no-descriptors',
    setup({ onLoad }) {
      onLoad({ filter: /\/@grpc\/proto-loader\/build\/src\/index\.js$/ }, ({ path }) =>
        patched(path, [
          ["root.toDescriptor('proto3').file", '[]'],
          ["message.toDescriptor('proto3')", '{ $type: { toObject: () => ({}) } }'],
          ["enumType.toDescriptor('proto3')", '{ $type: { toObject: () => ({}) } }'],
        ]),
      )
    },
  }
}

/** long multiplies by WebAssembly where it can. For the few numbers of etcd's answers that is dearer than without: it brings in a part of node of 1 MB. */
function noWebAssembly(): Plugin {
  return {
    name: 'no-web-assembly',
    setup({ onLoad }) {
      onLoad({ filter: /\/long\/(umd\/)?index\.js$/ }, ({ path }) =>
        patched(path, [['new WebAssembly.Instance(', 'null && new WebAssembly.Instance(']]),
      )
    },
  }
}

/** zod says what is wrong in fifty languages, of which it is asked for one. */
function englishOnly(): Plugin {
  return {
    name: 'english-only',
    setup({ onLoad }) {
      onLoad({ filter: /\/zod\/v4\/locales\/index\.(js|cjs)$/ }, ({ path }) => ({
        contents: `export { default as en } from ${JSON.stringify(join(dirname(path), 'en.js'))}`,
      }))
    },
  }
}

/** Of winston nothing is used that colours, or tells of itself; to load that opens standard output and looks at the terminal. */
function withoutColours(): Plugin {
  const instead: Readonly<Record<string, string>> = {
    '@colors/colors/safe': 'module.exports = {}',
    '@dabh/diagnostics': 'module.exports = () => () => false',
  }
  return {
    name: 'without-colours',
    setup({ onResolve, onLoad }) {
      onResolve({ filter: /^@(colors\/colors\/safe|dabh\/diagnostics)$/ }, ({ path }) => ({
        path,
        namespace: 'unused',
      }))
      onLoad({ filter: /.*/, namespace: 'unused' }, ({ path }) => ({ contents: instead[path] ?? '' }))
    },
  }
}
