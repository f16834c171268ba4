/**
 * The parts of the large bundle that V8's cache gets whole. A rehearsal cannot run them: they need etcd and a
 * kernel that obeys. A start runs nearly all of their functions, so none of them has to be compiled then.
 */
import { relative, resolve } from 'node:path'
import { decode } from '@jridgewell/sourcemap-codec'

/** Files, from the root, of which a start without peers runs more than three quarters, and the first join. */
const PARTS: readonly RegExp[] = [
  /^src\/daemon\/(?:(?:keepers|loop|node|overlay|prefixes|start|tell|way-in)\/)?[^/]+$/,
  /^src\/etcd\/(?:(?:codec|follow)\/)?[^/]+$/,
  /^src\/firewall\/[^/]+$/,
  /^src\/judge\/(?:overlay\.ts|way-in\.ts|packet-path\/[^/]+)$/,
  /^src\/kernel\/(?:(?:events|netlink|objects)\/)?[^/]+$/,
  /^src\/plan\/(?:(?:firewall|objects|peers|reconcile)\/)?[^/]+$/,
  // What protocol.ts writes: etcd's protocol.
  /^protocol:/,
  /^node_modules\/@grpc\/grpc-js\/src\/(?:client|client-interceptors|internal-channel|retrying-call)\.ts$/,
  /^node_modules\/@grpc\/grpc-js\/src\/(?:load-balancer-pick-first|load-balancing-call|transport)\.ts$/,
  /^node_modules\/@grpc\/grpc-js\/src\/(?:resolver-dns|resolving-|subchannel)[a-z-]*\.ts$/,
]

/** Lines and columns of a script, from 0: first line and column, and those after the end. */
export type Range = readonly [line: number, column: number, endLine: number, endColumn: number]

interface SourceMap {
  /** Relative to the folder of the map. */
  readonly sources: readonly string[]
  readonly mappings: string
}

/**
 * Where these parts are in a bundle.
 * @param text the bundle's source map
 * @param folder the folder that the map's paths begin in
 * @throws {Error} where one of {@link PARTS} names no file of the bundle
 */
export function startParts(text: string, folder: string, root: string): readonly Range[] {
  const { sources, mappings }: SourceMap = JSON.parse(text)
  // A plugin's module has a name of its own, such as protocol:@grpc/proto-loader.
  const files = sources.map((source) =>
    /^[a-z-]+:/.test(source) ? source : relative(root, resolve(folder, source)),
  )
  const stale = PARTS.filter((part) => !files.some((file) => part.test(file)))
  if (stale.length > 0) throw new Error(`no file for ${stale.join(', ')}: has the file moved?`)
  return rangesOf(
    mappings,
    new Set(files.flatMap((file, at) => (PARTS.some((p) => p.test(file)) ? [at] : []))),
  )
}

/** Where the text of some sources is, by their places in a source map. */
export function rangesOf(mappings: string, wanted: ReadonlySet<number>): readonly Range[] {
  const ranges: Range[] = []
  let begun: readonly [line: number, column: number] | undefined
  for (const [line, segments] of decode(mappings).entries()) {
    for (const [column, source] of segments) {
      const isWanted = source !== undefined && wanted.has(source)
      if (isWanted) begun ??= [line, column]
      else if (begun !== undefined) {
        ranges.push([...begun, line, column])
        begun = undefined
      }
    }
  }
  if (begun !== undefined) ranges.push([...begun, mappings.split(';').length, 0])
  return ranges
}
