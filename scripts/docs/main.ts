/** Writes the generated blocks of the pages, or checks them. `generate` beside it is how it is run. */
import { readFileSync, writeFileSync } from 'node:fs'
import { parseArgs } from 'node:util'
import { BLOCKS } from './blocks'
import { pagePath, renewPage } from './page'

function main(): number {
  const { values } = parseArgs({ options: { check: { type: 'boolean', default: false } } })
  let stale = 0
  for (const page of Object.keys(BLOCKS)) {
    const path = pagePath(page)
    const before = readFileSync(path, 'utf8')
    const after = renewPage(page, before)
    if (after === before) continue
    stale += 1
    if (!values.check) writeFileSync(path, after)
    process.stdout.write(`scripts/docs/${page} ${values.check ? 'is not current' : 'is written'}\n`)
  }
  return values.check && stale > 0 ? 1 : 0
}

try {
  process.exitCode = main()
} catch (error) {
  process.stderr.write(`generate: ${error instanceof Error ? error.message : String(error)}\n`)
  process.exitCode = 2
}
