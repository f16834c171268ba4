/**
 * Files of EnvironmentFile= are read as by systemd: each case is from its tests (test-env-file.c) or its
 * rules.
 */
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import fc from 'fast-check'
import { parseEnvironmentFile, readEnvironmentFile } from '../../../src/host/environment-file'

const parse = (text: string) => parseEnvironmentFile(Buffer.from(text))
const variables = (text: string) => parse(text).variables

test.each<[string, Record<string, string>]>([
  ['a=a\nb=b\\\nc\nd=d\\\ne\\\nf\n', { a: 'a', b: 'bc', d: 'def' }],
  ['a=a\\\n', { a: 'a' }],
  [
    '#SPAMD_ARGS="-d --socketpath=/var/lib/bulwark/spamd \\\n#--nouser-config                                     \\\nnormal=line',
    { normal: 'line' },
  ],
  [
    '# Generated\n\nHWMON_MODULES="coretemp f71882fg"\n\n# For compatibility reasons\n\nMODULE_0=coretemp\nMODULE_1=f71882fg',
    { HWMON_MODULES: 'coretemp f71882fg', MODULE_0: 'coretemp', MODULE_1: 'f71882fg' },
  ],
  ['a=\nb=', { a: '', b: '' }],
  ["a=\\ \\n \\t \\x\\y\\'\nb= \\$", { a: " n t xy'", b: '$' }],
  [
    'foo="ba\\"r"\nsimple=  spaced out \t\nq=\'single $HOME\\n\'',
    { foo: 'ba"r', simple: 'spaced out', q: 'single $HOME\\n' },
  ],
  ['two="first line\nsecond line"\nafter=1', { two: 'first line\nsecond line', after: '1' }],
  ['esc="a\\nb \\$c \\`d \\\\ e\\\nf"', { esc: 'a\\nb $c `d \\ ef' }],
  ['mixed=a"b"c\njoined="a"b\'c\'', { mixed: 'a"b"c', joined: "ab'c'" }],
  ['crlf=1\r\nnext=2\r\n', { crlf: '1', next: '2' }],
  ['; comment\n  indented=yes\nname =1\n', { indented: 'yes', name: '1' }],
  ['a=1\na=2', { a: '2' }],
  ['a=x # no comment', { a: 'x # no comment' }],
  ['open="never closed\nx=1', { open: 'never closed\nx=1' }],
  ['trail="kept "  \nplain=kept\\ ', { trail: 'kept ', plain: 'kept ' }],
])('%j', (text, wanted) => {
  expect(variables(text)).toEqual(wanted)
})

test('a line that systemd ignores is reported with its number, and the others are read', () => {
  const text = '\ufeffBOM=1\nexport A=1\njust words\nB-C=2\nOK=yes\nBELL=a\u0007'
  expect(parse(text)).toEqual({
    variables: { OK: 'yes' },
    passedOver: [
      'line 1: "\ufeffBOM" is not the name of a variable',
      'line 2: "export A" is not the name of a variable',
      'line 3: "just words" has no "="',
      'line 4: "B-C" is not the name of a variable',
      'line 6: the value of BELL has control characters',
    ],
  })
  expect(parseEnvironmentFile(Buffer.from([0x41, 0x3d, 0xff, 0x0a, 0x42, 0x3d, 0x31]))).toEqual({
    variables: { B: '1' },
    passedOver: ['line 1: the value of A is not UTF-8'],
  })
})

test('any bytes are read, and the result is names and texts', () => {
  fc.assert(
    fc.property(fc.uint8Array({ maxLength: 300 }), (bytes) => {
      for (const [name, value] of Object.entries(parseEnvironmentFile(bytes).variables)) {
        expect(name).toMatch(/^[A-Za-z_]\w*$/)
        expect(value).not.toContain('\u0000')
      }
    }),
  )
})

test('a quoted value is the same after reading', () => {
  fc.assert(
    fc.property(fc.string({ unit: 'grapheme-ascii' }), (text) => {
      const quoted = text.replace(/["\\`$]/g, '\\$&')
      expect(variables(`A="${quoted}"\nB=1`)).toEqual({ A: text, B: '1' })
    }),
  )
})

test('no file, a file that is too long, and a directory', async () => {
  const directory = mkdtempSync(join(tmpdir(), 'environment-'))
  try {
    expect(await readEnvironmentFile(join(directory, 'none'))).toBeUndefined()
    writeFileSync(join(directory, 'long'), `A=${'x'.repeat(70_000)}`)
    await expect(readEnvironmentFile(join(directory, 'long'))).rejects.toThrow('more than 65536 bytes')
    await expect(readEnvironmentFile(directory)).rejects.toThrow('not a regular file')
    writeFileSync(join(directory, 'one'), 'A=1')
    expect(await readEnvironmentFile(join(directory, 'one'))).toEqual({
      variables: { A: '1' },
      passedOver: [],
    })
  } finally {
    rmSync(directory, { recursive: true })
  }
})
