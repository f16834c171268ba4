/** Where the text of some sources is in a bundle. */
import { build } from 'esbuild'
import { rangesOf } from '../../../scripts/package/start-parts'

/** Files of a small program, whose functions have names that begin with the file's. */
const FILES: Readonly<Record<string, string>> = {
  main: `import { a1 } from './a'; import { b1 } from './b'; export function main1() { return a1() + b1() }`,
  a: `import { b1 } from './b'; export function a1() { return b1() }\nexport const a2 = () => {\n  return 2\n}`,
  b: `export class B { b2() { return 'a1' } }\nexport function b1() { return new B().b2() }`,
}

async function bundle() {
  const { outputFiles } = await build({
    entryPoints: ['main'],
    bundle: true,
    write: false,
    outdir: '/out',
    sourcemap: 'external',
    minifyWhitespace: true,
    format: 'cjs',
    banner: { js: '(function(){\n' },
    plugins: [
      {
        name: 'files',
        setup({ onResolve, onLoad }) {
          onResolve({ filter: /.*/ }, ({ path }) => ({ path: path.replace('./', ''), namespace: 'test' }))
          onLoad({ filter: /.*/ }, ({ path }) => ({ contents: FILES[path] ?? '' }))
        },
      },
    ],
  })
  const code = outputFiles.find(({ path }) => path.endsWith('.js'))?.text ?? ''
  return { code, map: JSON.parse(outputFiles.find(({ path }) => path.endsWith('.map'))?.text ?? '') }
}

/** The text of ranges of a script. */
function textOf(code: string, ranges: ReturnType<typeof rangesOf>): string {
  const lines = code.split('\n')
  const begins = lines.map((_, line) => lines.slice(0, line).join('\n').length + (line > 0 ? 1 : 0))
  const at = (line: number, column: number): number => (begins[line] ?? code.length) + column
  return ranges
    .map(([line, column, endLine, endColumn]) => code.slice(at(line, column), at(endLine, endColumn)))
    .join('\n')
}

test.each([['main'], ['a'], ['b']])('the text of %s has its functions, and no others', async (wanted) => {
  const { code, map } = await bundle()
  const places = new Set<number>([map.sources.findIndex((source: string) => source.endsWith(`:${wanted}`))])
  const text = textOf(code, rangesOf(map.mappings, places))
  const defined = [...text.matchAll(/function (\w+)|(\w+)=\(\)=>|\{(\w+)\(\)\{/g)].flatMap((match) =>
    match.slice(1).filter((name) => name !== undefined),
  )
  expect(defined.length).toBeGreaterThan(0)
  expect(defined.filter((name) => !name.startsWith(wanted))).toEqual([])
})

test('no source has no text, and all sources have one range for each piece', async () => {
  const { code, map } = await bundle()
  expect(rangesOf(map.mappings, new Set())).toEqual([])
  const all = rangesOf(map.mappings, new Set<number>(map.sources.keys()))
  expect(all).toHaveLength(1)
  for (const name of ['main1', 'a1', 'b1', 'b2']) expect(textOf(code, all)).toContain(`${name}(`)
})
