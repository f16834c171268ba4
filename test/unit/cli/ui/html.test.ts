/** The page as a document: nothing from elsewhere, and no text of others is read as HTML or code. */
import { createHash } from 'node:crypto'
import { Script } from 'node:vm'
import fc from 'fast-check'
import { makePage } from '../../../../src/cli/ui/document'
import { dataText, joinModules, makeHtml } from '../../../../src/cli/ui/html'
import { MODULES, readPageFiles } from '../../../../src/cli/ui/page-files'
import { binaryText } from '../../support/text'
import { peer, statusWith } from './support'

const LIVE = makeHtml({ kind: 'live' })

/** The contents of an element that has no elements in it. */
const contentsOf = (html: string, pattern: RegExp): string => {
  const found = [...html.matchAll(pattern)].map(([, text = '']) => text)
  expect(found).toHaveLength(1)
  return found[0] ?? ''
}
const scriptOf = (html: string) => contentsOf(html, /<script>([\s\S]*?)<\/script>/g)
const styleOf = (html: string) => contentsOf(html, /<style>([\s\S]*?)<\/style>/g)
const dataOf = (html: string) =>
  JSON.parse(contentsOf(html, /<script type="application\/json" id="data">([\s\S]*?)<\/script>/g))

test('the policy allows the page its own style and code by their hashes, its own server, and nothing else', () => {
  const hash = (text: string) => `'sha256-${createHash('sha256').update(text).digest('base64')}'`
  expect(LIVE.policy.split('; ')).toEqual([
    "default-src 'none'",
    `script-src ${hash(scriptOf(LIVE.text))}`,
    `style-src ${hash(styleOf(LIVE.text))}`,
    'img-src data:',
    "connect-src 'self'",
    "base-uri 'none'",
    "form-action 'none'",
    "require-trusted-types-for 'script'",
    "trusted-types 'none'",
    "frame-ancestors 'none'",
  ])
  const [inDocument = ''] = LIVE.policy.split("; frame-ancestors 'none'")
  expect(LIVE.text).toContain(`<meta http-equiv="Content-Security-Policy" content="${inDocument}">`)
  const page = { document: makePage(statusWith([]), new Date(0), 'host1'), events: [] }
  expect(makeHtml({ kind: 'snapshot', ...page }).policy).not.toContain('connect-src')
})

test('nothing comes from elsewhere, and nothing is inline that the policy would refuse', () => {
  const outside = LIVE.text
    .replace(scriptOf(LIVE.text), '')
    .replace(styleOf(LIVE.text), '')
    .replace(/href="data:image\/svg\+xml,[^"]*"/, '')
  expect(outside).not.toMatch(/https?:|\/\/|url\(|@import| style=| on\w+=|<img|<iframe|<link [^>]*stylesheet/)
  expect(styleOf(LIVE.text)).not.toMatch(/url\(|@import|https?:/)
  expect(LIVE.text).not.toMatch(/\{\{\w+\}\}/)
})

test('the modules are one script, which no text in it ends', () => {
  const script = scriptOf(LIVE.text)
  expect(() => new Script(script)).not.toThrow()
  expect(script).not.toMatch(/^(?:import|export) /m)
  expect(script).not.toMatch(/<\/?script|<!--/i)
  expect(styleOf(LIVE.text)).not.toContain('</')
  // HTML in text, or code in text, is not used at all.
  expect(script).not.toMatch(/innerHTML|outerHTML|insertAdjacentHTML|document\.write|\beval\b|new Function/)
})

test('a module imports only from modules before it, and no two have a name in common', () => {
  const files = readPageFiles()
  const names = MODULES.flatMap((module, place) => {
    const text = files[module] ?? ''
    for (const [, from = ''] of text.matchAll(/^import [^;]*? from '\.\/([^']+)'$/gm))
      expect((MODULES as readonly string[]).indexOf(from)).toBeLessThan(place)
    return [...text.matchAll(/^(?:export )?(?:const|let|function|class) (\w+)/gm)].map(([, name]) => name)
  })
  expect(names.length).toBeGreaterThan(40)
  expect(new Set(names).size).toBe(names.length)
  expect(joinModules(["import {\n  a,\n} from './a.mjs'\nexport const b = a\n"])).toContain('\nconst b = a\n')
})

const HOSTILE = [
  '</script><script>alert(1)</script>',
  '<!--<script>',
  '<script>',
  ']]>',
  '\u2028\u2029\u0000',
  '"}\n{{script}} /* {{style}} */ "{{data}}" $& $1 $`',
  "'; alert(1); '",
  '</SCRIPT\t>',
]

test.each(HOSTILE)('a peer that calls itself %j stays data', (text) => {
  const document = makePage(
    statusWith([peer(1, { key: text, subnet: text, state: 'rejected', reason: text })], { problems: [text] }),
    new Date(0),
    text,
  )
  const about = [{ seq: 1, time: text, level: 'warn', kind: 'started', about: [text], text } as const]
  const events = about.map((event) => ({ ...event, about: [...event.about] }))
  const { text: html } = makeHtml({ kind: 'snapshot', document, events })
  expect(dataOf(html)).toEqual({ kind: 'snapshot', document, events })
  expect(scriptOf(html)).toBe(scriptOf(LIVE.text))
  expect(html.match(/<script/gi)).toHaveLength(2)
})

test('any text is the same text again, and neither ends nor begins an element', () => {
  fc.assert(
    fc.property(binaryText(), (text) => {
      const data = dataText({ text })
      expect(JSON.parse(data)).toEqual({ text })
      expect(data).not.toContain('<')
    }),
  )
})
