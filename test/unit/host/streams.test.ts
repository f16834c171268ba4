import { readdirSync, readFileSync } from 'node:fs'
import { join, resolve } from 'node:path'
import fc from 'fast-check'
import { cleaned, mayColour } from '../../../src/host/streams'
import { anyUnicode, UNSHOWABLE } from '../support/text'

const SRC = resolve(__dirname, '../../../src')

/** May use standard output or error: the edge, and two that escape each line, logger and netlink tracer. */
const EDGES = ['host/streams.ts', 'daemon/tell/logger.ts', 'kernel/netlink/raw-socket.ts']

test('only the edge writes text: no other file uses an output or the console', () => {
  const files = readdirSync(SRC, { recursive: true, encoding: 'utf8' }).filter((file) => file.endsWith('.ts'))
  expect(files).toEqual(expect.arrayContaining(EDGES))
  const others = files.filter((file) => {
    const code = readFileSync(join(SRC, file), 'utf8')
    return /\bprocess\s*(?:\.|\[\s*['"])std(?:out|err)\b|\bconsole\s*[.[]|_rawDebug|\bstd(?:out|err):\s*['"]inherit/.test(
      code,
    )
  })
  expect(others.filter((file) => !EDGES.includes(file))).toEqual([])
})

test('without colour only line ends pass, with colour also our colour sequences', () => {
  const text = '\u001b[31mred\u001b[39m\n\u001b[2J\u001b[1;31mx\u001b]0;t\u0007\r\u202e'
  const rest = '\n\\x1b[2J\\x1b[1;31mx\\x1b]0;t\\x07\\x0d\\u202e'
  expect(cleaned(text, false)).toBe(`\\x1b[31mred\\x1b[39m${rest}`)
  expect(cleaned(text, true)).toBe(`\u001b[31mred\u001b[39m${rest}`)
  fc.assert(
    fc.property(anyUnicode, fc.boolean(), (any, colour) => {
      const left = cleaned(any, colour).replaceAll('\n', '')
      expect(colour ? left.replaceAll(new RegExp(`${'\u001b'}\\[\\d{1,2}m`, 'g'), '') : left).not.toMatch(
        UNSHOWABLE,
      )
    }),
  )
})

test('only terminals get colour', () => {
  expect(mayColour({ isTTY: true }, {})).toBe(true)
  expect(mayColour({}, {})).toBe(false)
})
