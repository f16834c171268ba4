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
// What runs at each start is not worth the optimizing compiler, which is 4 MB of node's pages, before it has run fifteen times as much as V8 asks for by
// itself. What a host with thousands of peers does is worth it then. Later versions of V8 have no such option, and say so.
if (process.version.startsWith('v20.')) setFlagsFromString('--interrupt-budget=1000000')

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
