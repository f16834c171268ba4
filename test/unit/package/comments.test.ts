/** Comments keep to the width that biome.json sets for code, in files that Biome does not format too. */
import { readdirSync, readFileSync } from 'node:fs'
import { join, resolve } from 'node:path'

const ROOT = resolve(__dirname, '../../..')
const WIDTH: number = JSON.parse(readFileSync(join(ROOT, 'biome.json'), 'utf8')).formatter.lineWidth

/** Files without comments, or with those of another program. */
const OTHERS = /\.(?:md|snap|json|jsonl|ign|svg|bin|xml)$|(?:^|\/)licences\//

const files = ['src', 'scripts', 'test'].flatMap((folder) =>
  readdirSync(join(ROOT, folder), { recursive: true, withFileTypes: true })
    .filter((entry) => entry.isFile())
    .map(({ parentPath, name }) => join(parentPath, name).slice(ROOT.length + 1))
    .filter((file) => !OTHERS.test(file)),
)

/** A line of a comment that could be broken: it has a space between two words. */
const COMMENT = /^\s*(?:\/\/|\/?\*+|#)\s+\S+\s+\S/

const wide = (text: string): string[] =>
  text.split('\n').filter((line) => line.length > WIDTH && COMMENT.test(line))

test('the files are found, and a wide comment is', () => {
  expect(files.length).toBeGreaterThan(1000)
  expect(files).toEqual(
    expect.arrayContaining(['scripts/test', 'scripts/package/debian/postinst', 'src/daemon/daemon.ts']),
  )
  const word = 'x'.repeat(WIDTH)
  for (const start of ['#', '//', '/**', '   *']) {
    expect(wide(`${start} a ${word}`)).toHaveLength(1)
    expect(wide(`${start} ${word}`)).toEqual([])
  }
  expect(wide(`const a = '${word} b'`)).toEqual([])
})

test('no comment is wider than code', () => {
  const found = files.flatMap((file) =>
    wide(readFileSync(join(ROOT, file), 'utf8')).map((line) => `${file}: ${line.trim()}`),
  )
  expect(found).toEqual([])
})
