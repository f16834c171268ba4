/**
 * The pages of the documentation: links and anchors exist, lines are not too long, generated parts are
 * current.
 */
import { existsSync, readdirSync, readFileSync } from 'node:fs'
import { basename, dirname, join, relative, resolve } from 'node:path'
import { BLOCKS } from '../../../scripts/docs/blocks'
import { pagePath, renewPage } from '../../../scripts/docs/page'

const ROOT = resolve(__dirname, '../../..')
const WIDTH = 110

const pages = readdirSync(ROOT, { recursive: true, encoding: 'utf8' })
  .filter((path) => path.endsWith('.md') && !/(^|\/)(node_modules|dist|coverage|\.[^/]*)\//.test(path))
  .map((path) => join(ROOT, path))

interface Line {
  readonly number: number
  readonly text: string
}

/** The lines outside of code blocks. */
function proseOf(text: string): Line[] {
  let isCode = false
  return text.split('\n').flatMap((line, index) => {
    if (/^\s*```/.test(line)) {
      isCode = !isCode
      return []
    }
    return isCode ? [] : [{ number: index + 1, text: line }]
  })
}

/** The anchors of a page's headings as GitHub makes them: lower case, no punctuation, dashes for blanks. */
function anchorsOf(text: string): Set<string> {
  const seen = new Map<string, number>()
  const anchors = proseOf(text).flatMap(({ text: line }) => {
    const [, heading] = /^#{1,6} (.*)$/.exec(line) ?? []
    if (heading === undefined) return []
    const plain = heading.replaceAll(/\[([^\]]*)\]\([^)]*\)/g, '$1').toLowerCase()
    const anchor = plain.replaceAll(/[^\p{L}\p{N}\s_-]/gu, '').replaceAll(' ', '-')
    const before = seen.get(anchor) ?? 0
    seen.set(anchor, before + 1)
    return [before === 0 ? anchor : `${anchor}-${before}`]
  })
  return new Set(anchors)
}

/** Broken links, as text. */
function brokenLinks(page: string, text: string): string[] {
  return proseOf(text).flatMap(({ number, text: line }) => {
    const links = line.replaceAll(/`[^`]*`/g, (code) => '`'.repeat(code.length))
    return Array.from(links.matchAll(/\]\(([^)\s]+)\)/g)).flatMap(([, link = '']) => {
      if (/^[a-z]+:/.test(link)) return []
      const [path = '', anchor] = link.split('#')
      const target = path === '' ? page : resolve(dirname(page), path)
      const at = `${relative(ROOT, page)}:${number} (${link})`
      if (!existsSync(target)) return [`${at}: there is no such file`]
      if (anchor === undefined) return []
      return anchorsOf(target === page ? text : readFileSync(target, 'utf8')).has(anchor)
        ? []
        : [`${at}: there is no such heading`]
    })
  })
}

test('a broken link is found, and a good one is not', () => {
  const page = join(ROOT, 'README.md')
  const good =
    '[a](LICENSE) [b](README.md) [c](#two-words-100) `[x](nothing)` [d](https://example.org)\n## Two words, 100'
  expect(anchorsOf('# a\n# a\n```\n# b\n```\n## `c_d`: e')).toEqual(new Set(['a', 'a-1', 'c_d-e']))
  expect(brokenLinks(page, good)).toEqual([])
  expect(brokenLinks(page, '[a](nothing.md) [b](#no-such-heading)')).toHaveLength(2)
})

test('all pages are found', () => {
  const names = pages.map((page) => relative(ROOT, page))
  expect(names).toEqual(
    expect.arrayContaining([
      'README.md',
      'CHANGELOG.md',
      'src/README.md',
      'test/flannel-contract.md',
      'scripts/docs/README.md',
    ]),
  )
})

test.each(pages.map((page) => [relative(ROOT, page), page]))('%s: every link exists', (_, page) => {
  expect(brokenLinks(page, readFileSync(page, 'utf8'))).toEqual([])
})

test.each(pages.map((page) => [relative(ROOT, page), page]))(
  `%s: no line has more than ${WIDTH} columns outside of tables and code`,
  (_, page) => {
    const long = proseOf(readFileSync(page, 'utf8')).filter(
      ({ text }) => [...text].length > WIDTH && !text.startsWith('|') && !text.startsWith('<!--'),
    )
    expect(long).toEqual([])
  },
)

/** Paths in backticks: with a slash, or of TypeScript. */
const pathsIn = (text: string): string[] =>
  proseOf(text).flatMap(({ text: line }) =>
    Array.from(line.matchAll(/`((?:\.\.\/)*[\w.-]+(?:\/[\w.-]+)*\/?)`/g), ([, path = '']) => path).filter(
      (path) => path.includes('/') || path.endsWith('.ts'),
    ),
  )

test.each([
  'src/README.md',
  'src/daemon/README.md',
  'src/daemon/multicast/README.md',
  'src/etcd/README.md',
  'test/README.md',
])('%s names only files that exist', (page) => {
  const text = readFileSync(join(ROOT, page), 'utf8')
  const paths = pathsIn(text)
  expect(paths.length).toBeGreaterThan(5)
  const from = [dirname(join(ROOT, page)), join(ROOT, 'src'), ROOT]
  expect(paths.filter((path) => !from.some((folder) => existsSync(resolve(folder, path))))).toEqual([])
})

test('the README has at most 150 lines', () => {
  expect(readFileSync(join(ROOT, 'README.md'), 'utf8').trimEnd().split('\n').length).toBeLessThanOrEqual(150)
})

test.each(Object.keys(BLOCKS))(
  '%s is as generated from the tables (else run scripts/docs/generate)',
  (page) => {
    const text = readFileSync(pagePath(page), 'utf8')
    expect(renewPage(page, text)).toBe(text)
  },
)

test('a page without the comments of its block is an error', () => {
  expect(() => renewPage('options.md', '# Options\n')).toThrow('options.md')
})

test('each page of scripts/docs begins with a title and a paragraph', () => {
  const installed = pages.filter((page) => dirname(page) === join(ROOT, 'scripts/docs'))
  expect(installed.length).toBeGreaterThan(15)
  for (const page of installed) {
    expect([basename(page), /^# .+\n\n.+/.test(readFileSync(page, 'utf8'))]).toEqual([basename(page), true])
  }
})
