/** Writes V8's compiled form of the bundle, for the node that runs this, with the functions in it that a start needs. */
const { renameSync, writeFileSync } = require('node:fs')
const { CACHE, load } = require('./launch.js')

const { script, programs } = load()
programs.rehearse().then(() => {
  writeFileSync(`${CACHE}.new`, script.createCachedData(), { mode: 0o644 })
  renameSync(`${CACHE}.new`, CACHE)
  process.exit()
})
