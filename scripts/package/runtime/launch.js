/**
 * Starts a program of the bundle. V8's cache of the compiled bundle lies beside it (see make-cache.js) and more than halves the
 * time of a start. V8 ignores a cache of another V8.
 */
const { readFileSync } = require('node:fs')
const { join } = require('node:path')
const { setFlagsFromString } = require('node:v8')
const { Script } = require('node:vm')

// New objects stay within the 1 MB that V8 begins with. By default V8 raises that to 16 MB in a start, and keeps it.
setFlagsFromString('--semi-space-growth-factor=1')
// V8 lets old objects have 32 MB before it looks for garbage: a start without peers ends with 16 MB, and has none. By itself V8
// would look at 19 MB, in the middle of the start, for a tenth of its processor time. V8 reads this option before it runs any code,
// so the programs give it in their first lines. Here the option only makes V8 take one cache with it and without it.
setFlagsFromString('--initial-old-space-size=32')
// V8 has several compilers. Each is a part of node that takes memory when it is first used. The code of a start is never worth the
// baseline compiler, and worth the optimizing one only after fifteen times V8's own budget, as with thousands of peers. From
// Node.js 22 on the budget's option is gone, and Maglev stands between the two compilers, which is enough. The cache depends on
// these options too.
const isOld = process.version.startsWith('v20.')
setFlagsFromString('--no-sparkplug')
setFlagsFromString(isOld ? '--interrupt-budget=1000000' : '--no-turbofan')

// The name is written here when the bundle is made. It has the bundle's hash, so a cache is never used for another bundle.
const BUNDLE = '@BUNDLE@'
const FILE = join(__dirname, `${BUNDLE}.js`)
const CACHE = join(__dirname, `${BUNDLE}.cache`)

/** @param filename the name of the bundle in stack traces and in the cache */
function load(filename = FILE) {
  // The bundle is ASCII. Reading it as latin1 saves the decoding, and V8 keeps one byte for each character.
  const script = new Script(readFileSync(FILE, 'latin1'), { filename, cachedData: readCache() })
  const exported = {}
  script.runInThisContext()(require, exported, __filename, __dirname)
  return { script, programs: exported.programs }
}

function readCache() {
  try {
    return readFileSync(CACHE)
  } catch {
    return undefined
  }
}

/** The promise is not awaited: each program reports its own failures. */
function launch(name) {
  // Old objects are collected when the heap has a fifth more than the live objects, and not twice as much: after 40,000 joins and
  // leaves that is 89 MB instead of 125, of which 14 MB live. The first 10 s are left alone: a start with 10,000 peers fills the
  // heap, and would collect it six times on the way. Not for make-cache.js, which takes longer where a machine is slow: V8 would
  // refuse a cache made with an option that a start does not have yet.
  setTimeout(() => setFlagsFromString('--heap-growing-percent=20'), 10_000).unref()
  load().programs[name]()
}

module.exports = { CACHE, launch, load }
