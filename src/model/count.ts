/** Counts as text. */

/** `1 peer`, `2 peers` */
export const count = (number: number | bigint, one: string, more = `${one}s`): string =>
  `${number} ${Number(number) === 1 ? one : more}`
