/** What someone who mistyped a word most likely meant. */

/** Changes of one letter up to which a word counts as mistyped: a third of its letters, and one at the least. */
const mostChanges = (word: string): number => Math.max(1, Math.floor(word.length / 3))

/** @returns the nearest of the words; undefined when none is near */
export function nearest(word: string, words: readonly string[]): string | undefined {
  const rated = words
    .map((each) => ({ each, changes: distance(word, each) }))
    .sort((a, b) => a.changes - b.changes)
  const [best] = rated
  if (best === undefined) return undefined
  // A word that was not written to its end is meant too.
  const begun = word.length > 1 ? words.find((each) => each.startsWith(word)) : undefined
  return best.changes <= mostChanges(word) ? best.each : begun
}

/** Letters to add, take away, change, or exchange with their neighbour (optimal string alignment). */
function distance(a: string, b: string): number {
  let [before, row]: [number[], number[]] = [[], Array.from({ length: b.length + 1 }, (_, j) => j)]
  for (let i = 1; i <= a.length; i++) {
    const next = [i]
    for (let j = 1; j <= b.length; j++) {
      const change = a[i - 1] === b[j - 1] ? 0 : 1
      const steps = [(row[j] ?? 0) + 1, (next[j - 1] ?? 0) + 1, (row[j - 1] ?? 0) + change]
      if (i > 1 && j > 1 && a[i - 1] === b[j - 2] && a[i - 2] === b[j - 1])
        steps.push((before[j - 2] ?? 0) + 1)
      next.push(Math.min(...steps))
    }
    ;[before, row] = [row, next]
  }
  return row[b.length] ?? 0
}
