/** Small readers for JSON of unknown shape. */

export type Raw = Readonly<Record<string, unknown>>

export const isRecord = (value: unknown): value is Raw =>
  typeof value === 'object' && value !== null && !Array.isArray(value)

/**
 * The value as a list: nft writes a list of one as the value itself. `undefined` and null become an empty
 * list.
 */
export const list = (value: unknown): readonly unknown[] =>
  Array.isArray(value) ? value : value === undefined || value === null ? [] : [value]

export const word = (value: unknown): string | undefined => (typeof value === 'string' ? value : undefined)
export const text = (value: unknown): string =>
  typeof value === 'string' ? value : typeof value === 'number' ? String(value) : ''
