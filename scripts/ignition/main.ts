/** Writes config.ign. The script `generate` runs this file. */
import { readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { formatIgnition, translate } from './translate'

const text = readFileSync(join(__dirname, 'config.bu'), 'utf8')
writeFileSync(join(__dirname, 'config.ign'), formatIgnition(translate(text)))
