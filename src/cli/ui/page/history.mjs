// @ts-check
/** Round trips of each host, as far as this page has seen them. */

/** Samples of one host. */
const MOST_SAMPLES = 120

/** A sample without a round trip is an answer that did not come. */
/** @typedef {{ at: number, rttMs: number | undefined }} Sample */

/** @type {Map<string, Sample[]>} */
const samples = new Map()

/** @param {import('../document').Row} row @param {string} at ISO 8601 */
export function record(row, at) {
  if (row.rttMs === undefined && row.loss === undefined) return
  const list = samples.get(row.id) ?? []
  samples.set(row.id, list)
  const rttMs = row.group === 'unreachable' || row.group === 'suspect' ? undefined : row.rttMs
  list.push({ at: Date.parse(at), rttMs })
  if (list.length > MOST_SAMPLES) list.shift()
}

/** @param {string} id */
export function forget(id) {
  samples.delete(id)
}

/** @param {string} id @returns {readonly Sample[]} the oldest first */
export const historyOf = (id) => samples.get(id) ?? []
