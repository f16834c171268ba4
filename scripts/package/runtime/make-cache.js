/**
 * Writes V8's cache of the compiled bundle, for the node that runs this file, with the functions that a start needs.
 *
 *   node make-cache.js [NAME]
 *
 * NAME is for images: the file name that the bundle will have. The cache has it in it. The cache has the same functions each time
 * then.
 */
const { renameSync, writeFileSync } = require('node:fs')
const { CACHE, load } = require('./launch.js')

const [, , name] = process.argv
const { script, programs } = load(name)
programs.rehearse(name === undefined).then(() => {
  writeFileSync(`${CACHE}.new`, script.createCachedData(), { mode: 0o644 })
  renameSync(`${CACHE}.new`, CACHE)
  process.exit()
})
