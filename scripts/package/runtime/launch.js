/**
 * Starts a program of the bundle. V8's compiled form of it lies beside it (see make-cache.js) and more than halves the time a start takes;
 * a form made by another V8 is not taken, and costs nothing but that.
 */
const { readFileSync } = require('node:fs')
const { join } = require('node:path')
const { setFlagsFromString } = require('node:v8')
const { Script } = require('node:vm')

// New objects stay within the 1 MB that V8 begins with. It would let them have 16 times as much after a start, and keep it.
setFlagsFromString('--semi-space-growth-factor=1')
// Old ones are collected when a fifth more than the living are there, and not twice as many: after 40,000 joins and leaves that is 89 MB instead
// of 125, of which 14 MB live. Not while a start fills the heap: with 10,000 peers it would be collected six times on the way.
setTimeout(() => setFlagsFromString('--heap-growing-percent=20'), 10_000).unref()
// V8 has several compilers, each a part of node that takes memory when it is first used. What a start runs is worth the baseline compiler
// nowhere, and the optimizing one only after fifteen times what V8 asks for by itself, as with thousands of peers. From Node.js 22 on that
// option is gone and Maglev stands between the two, which is enough. The options count for the cache, too.
const isOld = process.version.startsWith('v20.')
setFlagsFromString('--no-sparkplug')
setFlagsFromString(isOld ? '--interrupt-budget=1000000' : '--no-turbofan')

// Written here when the bundle is made: its name has its hash, so that a cache is never taken for another bundle's.
const BUNDLE = '@BUNDLE@'
const CACHE = join(__dirname, `${BUNDLE}.cache`)

function load() {
  const filename = join(__dirname, `${BUNDLE}.js`)
  // The bundle is ASCII: latin1 spares the decoding, and V8 keeps one byte for each character.
  const script = new Script(readFileSync(filename, 'latin1'), { filename, cachedData: readCache() })
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

/** Nothing is left to do for a promise here: each program reports its own failures. */
const launch = (name) => load().programs[name]()

module.exports = { CACHE, launch, load }
