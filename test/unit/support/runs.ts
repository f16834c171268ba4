/**
 * Number of runs of a property. The unit tests make `usual` runs, with another seed each time. `scripts/fuzz`
 * asks for many more; `most` limits a property whose runs take long.
 */
export const runs = (usual: number, most = Number.POSITIVE_INFINITY): number =>
  Math.min(most, Number(process.env['OVERLAYD_FUZZ_RUNS'] ?? usual))
