/** Writes V8's cache of the compiled bundle, for the node that runs this file, with the functions that a start needs. */
const { renameSync, writeFileSync } = require('node:fs')
const { CACHE, load } = require('./launch.js')

const { script, programs } = load()
programs.rehearse().then(() => {
  writeFileSync(`${CACHE}.new`, script.createCachedData(), { mode: 0o644 })
  renameSync(`${CACHE}.new`, CACHE)
  process.exit()
})
