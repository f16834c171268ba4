/** Pseudo-random numbers. The same seed gives the same numbers. */
export class Random {
  readonly #next: () => number

  constructor(seed: number) {
    this.#next = mulberry32(seed)
  }

  /**
   * Seeds by the clock, or by OVERLAYD_SEED to repeat a run. Prints the seed.
   * @param what name of the test, for that line
   */
  static byChance(what: string): Random {
    const seed = Number(process.env['OVERLAYD_SEED'] ?? Date.now() % 1_000_000)
    process.stdout.write(`${what}: OVERLAYD_SEED=${seed}\n`)
    return new Random(seed)
  }

  /** In [0, 1). */
  fraction(): number {
    return this.#next()
  }

  /** An integer from `least` to `most`, both included. */
  integer(least: number, most: number): number {
    return least + Math.floor(this.#next() * (most - least + 1))
  }

  /** True with this probability (0 to 1). */
  chance(probability: number): boolean {
    return this.#next() < probability
  }

  /** @throws {Error} if there are no items */
  pick<T>(items: readonly T[]): T {
    const item = items[this.integer(0, items.length - 1)]
    if (item === undefined) throw new Error('nothing to pick from')
    return item
  }

  /** `count` different items (all, if there are fewer), in the order of `items`. */
  some<T>(items: readonly T[], count: number): T[] {
    const left = items.map((_, index) => index)
    const picked = Array.from({ length: Math.min(count, items.length) }, () => {
      const [index = 0] = left.splice(this.integer(0, left.length - 1), 1)
      return index
    })
    return picked.sort((a, b) => a - b).map((index) => items[index] as T)
  }
}

/** Uniform numbers in [0, 1), by the generator mulberry32 (Tommy Ettinger). */
function mulberry32(seed: number): () => number {
  let state = seed
  return () => {
    state = (state + 0x6d2b79f5) | 0
    let mixed = Math.imul(state ^ (state >>> 15), state | 1)
    mixed = (mixed + Math.imul(mixed ^ (mixed >>> 7), mixed | 61)) ^ mixed
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32
  }
}
