/**
 * Starts a program of the bundle. V8's cache of the compiled bundle lies beside it (see make-cache.js) and
 * more than halves the time of a start. V8 ignores a cache of another V8.
 */
const { readFileSync } = require('node:fs')
const { join } = require('node:path')
const { Script } = require('node:vm')

// The names are written here when the bundles are made. They have the bundles' hashes, so a cache is never
// used for another bundle. The second one is overlayctl's own, where there is one: see
// scripts/package/control.ts.
const BUNDLE = '@BUNDLE@'
const CONTROL = '@CONTROL@'
/** overlayctl's is the first: its cache is made without the options that the other one sets. */
const BUNDLES = [CONTROL, BUNDLE].filter((name) => name !== '')
const fileOf = (name, type) => join(__dirname, `${name}.${type}`)

/**
 * V8's options for the large bundle. overlayctl's own commands end before any of them pays, and loading
 * node:v8 takes them 3 ms.
 */
function setOptions() {
  const { setFlagsFromString } = require('node:v8')
  // New objects stay within the 1 MB that V8 begins with. By default V8 raises that to 16 MB in a start, and
  // keeps it.
  setFlagsFromString('--semi-space-growth-factor=1')
  // V8 lets old objects have 32 MB before it looks for garbage: a start without peers ends with 16 MB, and
  // has none. By itself V8 would look at 19 MB, in the middle of the start, for a tenth of its processor
  // time. V8 reads this option before it runs any code, so overlayd gives it in its first line. Here the
  // option only makes V8 take one cache with it and without it.
  setFlagsFromString('--initial-old-space-size=32')
  // V8 has several compilers. Each is a part of node that takes memory when it is first used. The code of a
  // start is never worth the baseline compiler, and worth the optimizing one only after fifteen times V8's
  // own budget, as with thousands of peers. From Node.js 22 on the budget's option is gone, and Maglev stands
  // between the two compilers, which is enough. The cache depends on these options too.
  const isOld = process.version.startsWith('v20.')
  setFlagsFromString('--no-sparkplug')
  setFlagsFromString(isOld ? '--interrupt-budget=1000000' : '--no-turbofan')
}

/** Name of a bundle -> what is loaded of it. */
const loaded = new Map()

/**
 * @param name one of BUNDLES
 * @param filename the name of the bundle in stack traces and in the cache
 */
function load(name = BUNDLE, filename = fileOf(name, 'js')) {
  const known = loaded.get(name)
  if (known !== undefined) return known
  if (name === BUNDLE) setOptions()
  // A bundle is ASCII. Reading it as latin1 saves the decoding, and V8 keeps one byte for each character.
  const script = new Script(readFileSync(fileOf(name, 'js'), 'latin1'), {
    filename,
    cachedData: readCache(name),
  })
  const exported = {}
  script.runInThisContext()(require, exported, __filename, __dirname)
  const result = { script, programs: exported.programs, modules: exported.modules }
  loaded.set(name, result)
  return result
}

function readCache(name) {
  try {
    return readFileSync(fileOf(name, 'cache'))
  } catch {
    return undefined
  }
}

/** The promise is not awaited: each program reports its own failures. */
function launch(name) {
  if (name === 'overlayctl' && CONTROL !== '') return load(CONTROL).programs[name]()
  const { programs } = load()
  // Old objects are collected when the heap has a fifth more than the live objects, and not twice as much:
  // after 40,000 joins and leaves that is 89 MB instead of 125, of which 14 MB live. The first 10 s are left
  // alone: a start with 10,000 peers fills the heap, and would collect it six times on the way. Not for
  // make-cache.js, which takes longer where a machine is slow: V8 would refuse a cache made with an option
  // that a start does not have yet.
  setTimeout(() => require('node:v8').setFlagsFromString('--heap-growing-percent=20'), 10_000).unref()
  return programs[name]()
}

module.exports = { BUNDLES, fileOf, launch, load }
