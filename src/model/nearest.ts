/** Finds the word that a mistyped word most likely stands for. */

/** Most changed letters in a mistyped word: a third of its letters, at least one. */
const mostChanges = (word: string): number => Math.max(1, Math.floor(word.length / 3))

/** @returns the nearest of the words; undefined if none is near enough */
export function nearest(word: string, words: readonly string[]): string | undefined {
  const most = mostChanges(word)
  const [best] = words
    // A length that differs by more needs more changes.
    .filter(({ length }) => Math.abs(length - word.length) <= most)
    .map((each) => ({ each, changes: distance(word, each) }))
    .filter(({ changes }) => changes <= most)
    .sort((a, b) => a.changes - b.changes)
  // A prefix of a word, not typed to its end, counts too.
  return best?.each ?? (word.length > 1 ? words.find((each) => each.startsWith(word)) : undefined)
}

/** Number of letters to insert, delete, replace, or swap with a neighbour (optimal string alignment). */
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
