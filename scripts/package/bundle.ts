/**
 * Two JavaScript files with both programs and all their libraries: overlayctl has a small one of its own.
 * Beside them are the two native addons and V8's caches.
 */
import { createHash } from 'node:crypto'
import { chmod, copyFile, mkdir, readdir, readFile, writeFile } from 'node:fs/promises'
import { dirname, join, resolve } from 'node:path'
import { build, type OnLoadResult, type Plugin } from 'esbuild'
import { MODULES, readPageFiles, STYLES } from '../../src/cli/ui/page-files'
import { demandSmall, giveElsewhere, takeElsewhere } from './control'
import { writeProtocol } from './protocol'
import { startParts } from './start-parts'

const HERE = __dirname
export const ROOT = resolve(HERE, '../..')

/** Files of the bundle that are programs. */
export const PROGRAMS = ['overlayd', 'overlayctl'] as const
export type Program = (typeof PROGRAMS)[number]

/** By it Docker follows overlayd: `overlayctl docker enable` puts it in its place. */
const DROP_IN = 'docker.service.d/40-overlayd.conf'

/** The two addons, for one architecture. */
export interface Addons {
  readonly netlink: string
  readonly koffi: string
}

/** The file whose exports are the product's programs. */
const ENTRY = join(HERE, 'entry.ts')
/** That of overlayctl's own bundle. */
const CONTROL_ENTRY = join(HERE, 'control-entry.ts')

/** Names of the files that are bundles: the large one, and overlayctl's own. */
export const BUNDLE_FILE = /^(?:bundle|overlayctl)-[0-9a-f]{12}\.js$/

export interface BundleOptions {
  /** The interpreter in the programs' first lines; that of overlayd goes on with an option. */
  readonly node?: string
  /** Another file than the product's, with exports of the same form: see entry.ts. */
  readonly entry?: string
  /** Programs to write a start file for; default: both. */
  readonly programs?: readonly Program[]
  /** Further plugins of esbuild. */
  readonly plugins?: readonly Plugin[]
  /** Whether to write a source map beside the bundle. */
  readonly sourceMap?: boolean
}

/**
 * Writes the bundle into a directory, without the cache.
 * @returns the folders of the libraries in it, from the project's root
 */
export async function writeBundle(
  directory: string,
  addons: Addons,
  version: string,
  options: BundleOptions = {},
): Promise<readonly string[]> {
  const { node = '/usr/bin/env -S node', programs = PROGRAMS } = options
  await mkdir(directory, { recursive: true })
  const names = { BUNDLE: '', CONTROL: '' }
  const used: string[] = []
  const add = async (role: keyof typeof names, stem: string, { code, map, packages }: Code) => {
    const name = `${stem}-${createHash('sha256').update(code).digest('hex').slice(0, 12)}`
    await writeFile(join(directory, `${name}.js`), code)
    if (options.sourceMap === true) await writeFile(join(directory, `${name}.js.map`), map)
    names[role] = name
    used.push(...packages)
  }
  const taken = new Set<string>()
  if (programs.includes('overlayctl')) {
    const own = { ...options, entry: CONTROL_ENTRY, plugins: [takeElsewhere(ROOT, taken)] }
    const control = await bundleCode(directory, version, own)
    demandSmall(control.packages)
    await add('CONTROL', 'overlayctl', control)
  }
  const plugins = [...(options.plugins ?? []), ...(taken.size > 0 ? [giveElsewhere(ROOT, taken)] : [])]
  const large = await bundleCode(directory, version, { ...options, plugins })
  await add('BUNDLE', 'bundle', large)
  const whole = options.entry === undefined ? startParts(large.map, directory, ROOT) : []
  const written = { ...names, WHOLE: JSON.stringify(whole) }
  const packages = [...new Set(used)].sort()
  await writeFile(join(directory, 'NOTICES'), await notices(packages))
  for (const [addon, file] of Object.entries(addons)) {
    await copyFile(file, join(directory, `${addon}.node`))
    await chmod(join(directory, `${addon}.node`), 0o644)
  }
  await mkdir(join(directory, dirname(DROP_IN)), { recursive: true })
  await copyFile(join(ROOT, 'scripts/systemd', DROP_IN), join(directory, DROP_IN))
  for (const file of ['launch', 'make-cache', ...programs].map((stem) => `${stem}.js`)) {
    const text = await readFile(join(HERE, 'runtime', file), 'utf8')
    const named = text.replace(/@(BUNDLE|CONTROL|WHOLE)@/g, (_, role: keyof typeof written) => written[role])
    await writeFile(join(directory, file), named.replace(/^#!.* node/, `#!${node}`), {
      mode: text.startsWith('#!') ? 0o755 : 0o644,
    })
  }
  return packages
}

interface Code {
  readonly code: Uint8Array
  /** The source map. */
  readonly map: string
  /** Folders of the packages whose code is in it. */
  readonly packages: readonly string[]
}

async function bundleCode(directory: string, version: string, options: BundleOptions): Promise<Code> {
  const { entry = ENTRY } = options
  const plugins = [
    ...(options.plugins ?? []),
    fixedVersion(version),
    shippedBeside(),
    pageFiles(),
    addonLoaders(),
    protocolAhead(),
    noWebAssembly(),
    englishOnly(),
    withoutColours(),
    lightYargs(),
  ]
  const used = new Set<string>()
  const { outputFiles, metafile } = await build({
    absWorkingDir: ROOT,
    metafile: true,
    entryPoints: [entry],
    write: false,
    // Nothing is written there. The paths in the source map begin there.
    outdir: directory,
    sourcemap: 'external',
    sourcesContent: false,
    bundle: true,
    // Names stay long, for stack traces. Short names with the long ones kept (keepNames) cost a call for each
    // function at each start.
    minifyWhitespace: true,
    minifySyntax: true,
    platform: 'node',
    target: 'node20',
    format: 'cjs',
    // A vm.Script has no import(), and a call of it fails. Each becomes a require().
    supported: { 'dynamic-import': false },
    charset: 'ascii',
    legalComments: 'none',
    // An expression for vm.Script: a function that takes a module's arguments, and the object to export to.
    banner: { js: '(function(require,exported,__filename,__dirname){var module={exports:exported};' },
    footer: { js: 'Object.assign(exported,module.exports)})' },
    alias: {
      // An import of yargs 17 gives its ES module, which finds its files by import.meta.
      yargs: require.resolve('yargs'),
      'yargs/helpers': require.resolve('yargs/helpers'),
      // Its index would bring the protocols of wireless devices along.
      'node-netlink': join(dirname(require.resolve('node-netlink')), 'raw.js'),
    },
    plugins: plugins.map((plugin) => noting(plugin, used)),
    logLevel: 'warning',
  })
  const output = outputFiles.find(({ path }) => path.endsWith('.js'))
  if (output === undefined) throw new Error('esbuild made no bundle')
  const unused = plugins.filter(({ name }) => !used.has(name)).map(({ name }) => name)
  if (entry === ENTRY && unused.length > 0)
    throw new Error(`no file for ${unused.join(', ')}: has the file moved?`)
  const folders = Object.keys(metafile.inputs).map(
    (input) => /^.*node_modules\/(@[^/]+\/)?[^/]+/.exec(input)?.[0],
  )
  const packages = [...new Set(folders.filter((folder) => folder !== undefined)), 'node_modules/koffi']
  const map = outputFiles.find(({ path }) => path.endsWith('.map'))?.text ?? ''
  return { code: output.contents, map, packages: packages.sort() }
}

/** The same plugin; notes its name once it gives a file's contents. */
const noting = ({ name, setup }: Plugin, used: Set<string>): Plugin => ({
  name,
  setup: (build) =>
    setup({
      ...build,
      onLoad: (options, give) =>
        build.onLoad(options, (file) => {
          used.add(name)
          return give(file)
        }),
    }),
})

/** The licences of the libraries in the bundle, as the licences demand. */
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

/** The bundle has no package.json beside it, so the version is written into the code. */
function fixedVersion(version: string): Plugin {
  return {
    name: 'fixed-version',
    setup({ onLoad }) {
      onLoad({ filter: /\/src\/options\/version\.ts$/ }, () => ({
        contents: `export const readVersion = () => ${JSON.stringify(version)}`,
      }))
    },
  }
}

/** Files for systemd lie in the tree's scripts, and in the bundle's own directory. */
function shippedBeside(): Plugin {
  return {
    name: 'shipped-beside',
    setup({ onLoad }) {
      onLoad({ filter: /\/src\/options\/shipped\.ts$/ }, () => ({
        contents: `import { join } from 'node:path'
          export const shippedFile = (name) => join(__dirname, name)`,
        resolveDir: ROOT,
      }))
    },
  }
}

/** The bundle has no files of the page beside it, so they are written into the code. */
function pageFiles(): Plugin {
  return {
    name: 'page-files',
    setup({ onLoad }) {
      onLoad({ filter: /\/src\/cli\/ui\/page-files\.ts$/ }, () => ({
        contents: [
          `export const MODULES = ${JSON.stringify(MODULES)}`,
          `export const STYLES = ${JSON.stringify(STYLES)}`,
          `export const readPageFiles = () => (${JSON.stringify(readPageFiles())})`,
        ].join('\n'),
      }))
    },
  }
}

/** The packages' own loaders look for their addons in node_modules. The bundle has the addons beside it. */
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

/**
 * In place of the library that parses etcd's protocol: see protocol.ts. grpc-js would load it for its server.
 */
function protocolAhead(): Plugin {
  return {
    name: 'protocol-ahead',
    setup({ onResolve, onLoad }) {
      onResolve({ filter: /^@grpc\/proto-loader$/ }, ({ path }) => ({ path, namespace: 'protocol' }))
      onLoad({ filter: /.*/, namespace: 'protocol' }, () => ({ contents: writeProtocol(), resolveDir: ROOT }))
    },
  }
}

/** A file of a library with some texts replaced. Each of these texts must be in the file. */
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

/**
 * long multiplies with WebAssembly where it can. For the few numbers of etcd's answers the 1 MB of node for
 * WebAssembly costs more.
 */
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

/** zod has its error texts in fifty languages. One is used. */
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

/**
 * winston's colours and diagnostics are not used. Loading them opens standard output and queries the
 * terminal.
 */
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

/**
 * yargs looks for a package.json in all folders above, to learn a version that it is told anyway; the bundle
 * has none, and the error that says so takes 4 ms. It loads node:assert, which only a defect needs.
 */
function lightYargs(): Plugin {
  const instead: Readonly<Record<string, string>> = {
    'escalade/sync': `module.exports = () => { throw new Error('there is no package.json') }`,
    assert: `module.exports = {
      notStrictEqual: (...values) => require('node:assert').notStrictEqual(...values),
      strictEqual: (...values) => require('node:assert').strictEqual(...values),
    }`,
  }
  return {
    name: 'light-yargs',
    setup({ onResolve, onLoad }) {
      onResolve({ filter: /^(escalade\/sync|assert)$/ }, ({ path, importer }) =>
        /\/yargs\/build\//.test(importer) ? { path, namespace: 'light-yargs' } : undefined,
      )
      onLoad({ filter: /.*/, namespace: 'light-yargs' }, ({ path }) => ({ contents: instead[path] ?? '' }))
    },
  }
}
