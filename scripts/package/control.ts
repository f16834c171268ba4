/**
 * overlayctl's own bundle. It has what the commands need that ask only the daemon, and takes everything else
 * from the large bundle, which also has etcd's client and the kernel's: to read that costs a start as long as
 * an empty program of node takes. A module that is in both bundles is loaded twice: classes differ, and so
 * errors are told by a mark (src/model/errors.ts).
 */
import { join, relative } from 'node:path'
import type { Plugin } from 'esbuild'

/**
 * Modules that overlayctl loads on demand, and that are in its own bundle, besides those of its rehearsal.
 */
const OWN: ReadonlySet<string> = new Set([
  'src/api/documents',
  'src/api/status',
  'src/cli/completion',
  'src/cli/show/output',
  'src/cli/verbs/docker-network',
  'src/cli/verbs/docker-options',
  'src/cli/verbs/docker-wait',
  'src/cli/verbs/events',
  'src/cli/verbs/ping',
  'src/cli/verbs/prefixes',
  'src/cli/verbs/rotate-key',
  'src/cli/verbs/status',
  'src/cli/verbs/views',
  'src/client/settings',
  'src/options/version',
])

/** Libraries for etcd, the kernel and the daemon's log, by the folders that esbuild names. */
const FOREIGN = /node_modules\/(etcd3|@grpc|protobufjs|node-netlink|winston)\b/

/** @throws {Error} where overlayctl's own bundle has libraries that only the large one is to have */
export function demandSmall(packages: readonly string[]): void {
  const foreign = packages.filter((folder) => FOREIGN.test(folder))
  if (foreign.length === 0) return
  throw new Error(`overlayctl's own bundle has ${foreign.join(', ')}: a module of OWN in control.ts loads it`)
}

/**
 * Replaces the other modules that are loaded on demand by those of the large bundle.
 * @param taken gets their paths from the root, without extension
 */
export const takeElsewhere = (root: string, taken: Set<string>): Plugin => ({
  name: 'take-elsewhere',
  setup({ onResolve, onLoad, onEnd }) {
    const unseen = new Set(OWN)
    onResolve({ filter: /^\./ }, ({ path, kind, resolveDir, importer, namespace }) => {
      if (namespace === 'elsewhere') return { path, external: true }
      if (kind !== 'dynamic-import' || !importer.startsWith(join(root, 'src/'))) return undefined
      const module = relative(root, join(resolveDir, path)).replace(/\.js$/, '')
      unseen.delete(module)
      if (OWN.has(module)) return undefined
      taken.add(module)
      return { path: module, namespace: 'elsewhere' }
    })
    onLoad({ filter: /.*/, namespace: 'elsewhere' }, ({ path }) => ({
      contents: `module.exports = require('./launch.js').load().modules[${JSON.stringify(path)}]()`,
    }))
    onEnd(() => {
      if (unseen.size > 0) throw new Error(`nothing loads ${[...unseen].join(', ')}: has the module moved?`)
    })
  },
})

/** Gives the large bundle the table of the modules that are taken from it. */
export const giveElsewhere = (root: string, taken: ReadonlySet<string>): Plugin => ({
  name: 'give-elsewhere',
  setup({ onLoad }) {
    onLoad({ filter: /\/scripts\/package\/modules\.ts$/ }, () => ({
      contents: `export const modules = {${[...taken]
        .sort()
        .map((module) => `${JSON.stringify(module)}: () => require('./${module}.ts')`)
        .join(',\n')}}`,
      resolveDir: root,
    }))
  },
})
