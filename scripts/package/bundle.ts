/** One JavaScript file with both programs and all they need, beside it the two native addons, and V8's cache of it. */
import { createHash } from 'node:crypto'
import { chmod, copyFile, mkdir, readdir, readFile, writeFile } from 'node:fs/promises'
import { createRequire } from 'node:module'
import { dirname, join, resolve } from 'node:path'
import { build, type Plugin } from 'esbuild'

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
    minify: true,
    keepNames: true,
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
    plugins: [fixedVersion(version), addonLoaders(), protocolAsJson(), noDescriptors(), englishOnly()],
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
  const call = /loadSync\)\(`\$\{__dirname\}\/\.\.\/proto\/rpc\.proto`/
  return {
    name: 'protocol-as-json',
    setup({ onLoad }) {
      onLoad({ filter: /\/etcd3\/lib\/connection-pool\.js$/ }, async ({ path }) => {
        const source = await readFile(path, 'utf8')
        if (!call.test(source)) throw new Error(`${path} does not load its protocol as it used to`)
        const protocol = readProtocol(resolve(dirname(path), '../proto/rpc.proto'), path)
        return { contents: source.replace(call, () => `fromJSON)(${protocol}`) }
      })
    },
  }
}

/** The protocol as JSON, by the parser that etcd3 itself would use. */
function readProtocol(file: string, from: string): string {
  const loader = createRequire(from).resolve('@grpc/proto-loader')
  const { Root } = createRequire(loader)('protobufjs') as typeof import('protobufjs')
  const root = new Root().loadSync(file, { keepCase: true }).toJSON()
  for (const part of Object.values(root.nested ?? {})) if (isNamespace(part)) keepUsed(part)
  return JSON.stringify(root)
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

/** What makes them, and what is there instead. */
const DESCRIPTORS = [
  ["root.toDescriptor('proto3').file", '[]'],
  ["message.toDescriptor('proto3')", '{ $type: { toObject: () => ({}) } }'],
  ["enumType.toDescriptor('proto3')", '{ $type: { toObject: () => ({}) } }'],
] as const

/** The protocol once more, as descriptors for servers that offer reflection: 25 ms and 4 MB of each start, and nobody reads them. */
function noDescriptors(): Plugin {
  return {
    name: 'no-descriptors',
    setup({ onLoad }) {
      onLoad({ filter: /\/@grpc\/proto-loader\/build\/src\/index\.js$/ }, async ({ path }) => {
        let source = await readFile(path, 'utf8')
        for (const [made, instead] of DESCRIPTORS) {
          if (!source.includes(made)) throw new Error(`${path} does not make descriptors as it used to`)
          source = source.replace(made, () => instead)
        }
        return { contents: source }
      })
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
