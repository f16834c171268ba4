/**
 * Writes V8's caches of the compiled bundles, for the node that runs this file, with the functions that a start needs.
 *
 *   node make-cache.js [FOLDER]
 *
 * FOLDER is for images: the folder that the bundles will be in. The caches have it in them. The caches have the same functions each
 * time then.
 */
const { renameSync, writeFileSync } = require('node:fs')
const { join } = require('node:path')
const { BUNDLES, fileOf, load } = require('./launch.js')

const [, , folder] = process.argv

async function main() {
  for (const name of BUNDLES) {
    const { script, programs } = load(name, folder && join(folder, `${name}.js`))
    await programs.rehearse(folder === undefined)
    const cache = fileOf(name, 'cache')
    writeFileSync(`${cache}.new`, script.createCachedData(), { mode: 0o644 })
    renameSync(`${cache}.new`, cache)
  }
}

// A command that was rehearsed may have set another code. Node ends with an error for a promise that fails.
void main().then(() => process.exit(0))
