/** The files of the page. The bundle has them in its code: see scripts/package/bundle.ts. */
import { readFileSync } from 'node:fs'
import { join } from 'node:path'

/** The page's modules. Each imports only from those before it. */
export const MODULES = [
  'dom.mjs',
  'history.mjs',
  'store.mjs',
  'picture.mjs',
  'table.mjs',
  'status.mjs',
  'details.mjs',
  'main.mjs',
] as const
export const STYLES = ['base.css', 'picture.css', 'table.css', 'narrow.css'] as const
const FILES = ['page.html', 'page.svg', ...STYLES, ...MODULES]

/** @returns name of a file -> its text */
export const readPageFiles = (): Readonly<Record<string, string>> =>
  Object.fromEntries(FILES.map((name) => [name, readFileSync(join(__dirname, 'page', name), 'utf8')]))
