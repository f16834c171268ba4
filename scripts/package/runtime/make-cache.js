/**
 * Writes V8's caches of the compiled bundles, for the node that runs this file, with the functions that a
 * start needs.
 *
 *   node make-cache.js [FOLDER]
 *
 * FOLDER is for images: the folder that the bundles will be in. The caches have it in them.
 */
const { renameSync, writeFileSync } = require('node:fs')
const { join } = require('node:path')
const { pathToFileURL } = require('node:url')
const { BUNDLES, fileOf, load } = require('./launch.js')

const [, , folder] = process.argv

// Written here when the bundle is made: where the parts are that the cache gets whole. See
// scripts/package/start-parts.ts.
const WHOLE = JSON.parse('@WHOLE@')

/**
 * Compiles all functions of some parts of a script, without running any. V8 has only one way to do so: its
 * debugger compiles the functions in which a breakpoint is looked for. What it adds to them for the debugger
 * is not written to the cache.
 * @returns an error; the cache serves without these functions too
 */
function compileWhole(filename) {
  if (WHOLE.length === 0 || !process.features.inspector) return undefined
  const { Session } = require('node:inspector')
  const session = new Session()
  session.connect()
  let scriptId
  let failure
  const { href } = pathToFileURL(filename)
  session.on('Debugger.scriptParsed', ({ params }) => {
    if (params.url === href) scriptId = params.scriptId
  })
  session.post('Debugger.enable')
  for (const [lineNumber, columnNumber, endLine, endColumn] of WHOLE) {
    const start = { scriptId, lineNumber, columnNumber }
    const end = { scriptId, lineNumber: endLine, columnNumber: endColumn }
    // What the callback throws is lost.
    session.post('Debugger.getPossibleBreakpoints', { start, end }, (error) => {
      failure ??= error
    })
  }
  session.disconnect()
  return failure
}

async function main() {
  for (const name of BUNDLES) {
    const filename = folder === undefined ? fileOf(name, 'js') : join(folder, `${name}.js`)
    const { script, programs } = load(name, filename)
    await programs.rehearse()
    const failure = name.startsWith('bundle-') ? compileWhole(filename) : undefined
    const cache = fileOf(name, 'cache')
    writeFileSync(`${cache}.new`, script.createCachedData(), { mode: 0o644 })
    renameSync(`${cache}.new`, cache)
    if (failure) throw failure
  }
}

// A command that was rehearsed may have set another code. Node ends with an error for a promise that fails.
void main().then(() => process.exit(0))
