import { execFileSync } from 'node:child_process'
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import fc from 'fast-check'
import { type GatheredPart, listingOf, makeBundle } from '../../../../src/cli/bundle/archive'
import { writeUstar } from '../../../../src/cli/bundle/ustar'
import { Redactor } from '../../../../src/model/redact'
import { failed, found } from '../../../../src/model/result'
import { runs } from '../../support/runs'

const AT = new Date('2026-01-02T03:04:05Z')
const TITLE = { directory: 'overlayd-bundle-h1-20260102T030405Z', at: AT, version: '1.2.3' }
const MIB = 1024 * 1024

/** Reads what {@link writeUstar} writes, by the offsets of POSIX. */
function readUstar(archive: Buffer): Map<string, Buffer> {
  const files = new Map<string, Buffer>()
  for (let at = 0; archive[at] !== 0; ) {
    const text = (from: number, length: number): string =>
      archive.toString('latin1', at + from, at + from + length).replace(/\0[\s\S]*$/, '')
    const size = Number.parseInt(text(124, 12), 8)
    const header = Buffer.from(archive.subarray(at, at + 512))
    header.fill(0x20, 148, 156)
    expect(header.reduce((sum, byte) => sum + byte, 0)).toBe(Number.parseInt(text(148, 8), 8))
    expect(text(257, 6)).toBe('ustar')
    files.set(text(0, 100), archive.subarray(at + 512, at + 512 + size))
    at += 512 + Math.ceil(size / 512) * 512
  }
  return files
}

const part = (name: string, value: unknown, keep: GatheredPart['keep'] = 'first'): GatheredPart => ({
  name,
  about: `about ${name}`,
  content: found(value),
  keep,
})

test('an archive holds the files that were put in, byte by byte', () => {
  fc.assert(
    fc.property(
      fc.uniqueArray(fc.tuple(fc.stringMatching(/^[\w.-]{1,50}$/), fc.uint8Array({ maxLength: 1500 })), {
        selector: ([name]) => name,
        maxLength: 5,
      }),
      (files) => {
        const archive = writeUstar(
          files.map(([name, content]) => ({ name, content })),
          AT,
        )
        expect(archive.length % 512).toBe(0)
        expect([...readUstar(archive)].map(([name, content]) => [name, [...content]])).toEqual(
          files.map(([name, content]) => [name, [...content]]),
        )
      },
    ),
    { numRuns: runs(40) },
  )
  for (const name of ['', 'ü', 'a b', 'x'.repeat(101)])
    expect(() => writeUstar([{ name, content: Buffer.alloc(0) }], AT)).toThrow(RangeError)
})

test('tar reads it, with mode, time and owner', () => {
  const directory = mkdtempSync(join(tmpdir(), 'ustar-'))
  try {
    const path = join(directory, 'a.tar')
    writeFileSync(path, writeUstar([{ name: 'd/one', content: Buffer.from('1\n') }], AT))
    const listed = execFileSync('tar', ['tvf', path, '--utc', '--numeric-owner'], { encoding: 'utf8' })
    expect(listed).toMatch(/^-rw------- 0\/0 +2 2026-01-02 03:04(?::05)? d\/one\n$/)
  } finally {
    rmSync(directory, { recursive: true })
  }
})

test('the README says what is in it, and why parts are missing', () => {
  const gathered = [
    part('a.json', { b: 1n, password: 'hunter22' }),
    {
      ...part('b.txt', ''),
      content: failed({ part: 'b', code: 'x', text: 'no rights, password=hunter22', fix: 'be root' }),
    },
  ]
  const bundle = makeBundle(gathered, new Redactor(), TITLE)
  const files = readUstar(bundle.archive)
  expect([...files.keys()]).toEqual([`${TITLE.directory}/README`, `${TITLE.directory}/a.json`])
  const readme = String(files.get(`${TITLE.directory}/README`))
  expect(readme).toContain('a.json       42 B  about a.json\n')
  expect(readme).toMatch(/b\.txt {5}missing {2}about b\.txt\n +why: no rights, password= \[removed\]/)
  expect(JSON.parse(String(files.get(`${TITLE.directory}/a.json`)))).toEqual({
    b: '1',
    password: '[removed]',
  })
  expect(String(bundle.archive)).not.toContain('hunter22')
  const [head, ...lines] = listingOf(bundle, 'x.tar.gz', 1234)
  expect(head).toBe('x.tar.gz: 1.2 kB, 1 part, 1 missing')
  expect(lines.join('\n')).toContain('b.txt   missing: no rights')
})

test('parts and the whole are bounded, cut at ends of lines, and say so', () => {
  const line = `${'- '.repeat(49)}x\n`
  const long = `first\n${line.repeat(21_500)}last\n`
  const gathered = [
    part('head.txt', long),
    part('tail.txt', long, 'last'),
    part('one-line.txt', '- '.repeat(1.5 * MIB), 'last'),
    part('one-line-head.txt', '- '.repeat(1.5 * MIB)),
    ...Array.from({ length: 8 }, (_, i) => part(`${i}.txt`, long)),
  ]
  const { archive, parts } = makeBundle(gathered, new Redactor(), TITLE)
  const files = readUstar(archive)
  const of = (name: string): string => String(files.get(`${TITLE.directory}/${name}`))
  expect(of('head.txt')).toMatch(/^first\n[\s\S]*x\n\[\d+ bytes left out\]\n$/)
  expect(of('tail.txt')).toMatch(/^\[\d+ bytes left out\]\n- [\s\S]*\nlast\n$/)
  expect(of('one-line.txt')).toBe(`[${3 * MIB + 1} bytes left out]\n`)
  expect(parts.every(({ bytes }) => bytes <= 2 * MIB)).toBe(true)
  expect(archive.length).toBeLessThan(17 * MIB)
  for (const { name, cut } of parts) expect({ name, cut }).toEqual({ name, cut: expect.any(Number) })
})
