/** The identity of something: what kind of thing, and which of that kind. */
export interface Id {
  readonly kind: string
  /** A number, bigint or string: compared by value. */
  readonly key: number | bigint | string
}

/**
 * A map whose keys are identities, compared by kind and key. It makes no text of the keys, because there may
 * be 100,000.
 */
export class IdMap<I extends Id, V> {
  readonly #kinds = new Map<string, Map<I['key'], V>>()
  #size = 0

  get size(): number {
    return this.#size
  }

  get({ kind, key }: I): V | undefined {
    return this.#kinds.get(kind)?.get(key)
  }

  set({ kind, key }: I, value: V): void {
    let values = this.#kinds.get(kind)
    if (values === undefined) {
      values = new Map()
      this.#kinds.set(kind, values)
    }
    this.#size -= values.size
    values.set(key, value)
    this.#size += values.size
  }

  delete({ kind, key }: I): void {
    if (this.#kinds.get(kind)?.delete(key)) this.#size -= 1
  }

  /** Entries may be deleted during the iteration. */
  *values(): Generator<V> {
    for (const values of this.#kinds.values()) yield* values.values()
  }
}
