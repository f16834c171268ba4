/**
 * Pages with generated blocks: the words around a block are written by hand, the block between its two
 * comments is not.
 */
import { resolve } from 'node:path'
import { BLOCKS } from './blocks'

export const DIRECTORY = resolve(__dirname)

/** @param page a name of {@link BLOCKS} */
export const pagePath = (page: string): string => resolve(DIRECTORY, page)

const opening = (block: string): string =>
  `<!-- ${block}: written by scripts/docs/generate; edit the table in the source, not this text -->`
const CLOSING = '<!-- end of what is generated -->'

/**
 * The page with each of its blocks as the tables say.
 * @throws {Error} where a block's comments are not there, once and in order
 */
export function renewPage(page: string, text: string): string {
  return Object.entries(BLOCKS[page] ?? {}).reduce(
    (whole, [block, write]) => renewBlock(page, whole, block, write()),
    text,
  )
}

function renewBlock(page: string, text: string, block: string, content: string): string {
  const [before = '', rest, ...more] = text.split(opening(block))
  const end = rest?.indexOf(CLOSING) ?? -1
  if (rest === undefined || more.length > 0 || end < 0) {
    throw new Error(`${page} does not have once the lines\n${opening(block)}\n${CLOSING}`)
  }
  return `${before}${opening(block)}\n\n${content.trim()}\n\n${rest.slice(end)}`
}
