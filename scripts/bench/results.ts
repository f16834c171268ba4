/** The results of a run: lines of JSON, in a file or in memory. */
import { readFileSync } from 'node:fs'
import { z } from 'zod'
import type { Described, Sample } from './case'

const machineSchema = z.object({ kind: z.literal('machine') }).catchall(z.union([z.string(), z.number()]))
const sampleSchema = z
  .object({
    kind: z.literal('sample'),
    subject: z.string(),
    case: z.string(),
    /** Number of peers in etcd before the measurement, or of real hosts. */
    n: z.number(),
    round: z.number(),
  })
  // JSON has null for a ratio that is not a number.
  .catchall(z.union([z.string(), z.number(), z.null()]))

export type Machine = z.infer<typeof machineSchema>
export type Line = Machine | z.infer<typeof sampleSchema>

/** All samples of one subject, by case and by number of peers. */
export type Samples = ReadonlyMap<string, ReadonlyMap<number, readonly Sample[]>>

export interface Results {
  readonly machine: Machine | undefined
  /** By subject. */
  readonly subjects: ReadonlyMap<string, Samples>
}

/** @throws {Error} with the name of the file, if the file has another format */
export function readResults(file: string): Results {
  const texts = readFileSync(file, 'utf8').split('\n').filter(Boolean)
  const lines = texts.map((text, index) => {
    const line = z.union([machineSchema, sampleSchema]).safeParse(JSON.parse(text))
    if (!line.success) throw new Error(`${file}, line ${index + 1}: neither a machine nor a sample`)
    return line.data
  })
  return collect(lines)
}

/** Groups lines. If there are several machines, the last one is kept. */
export function collect(lines: readonly Line[]): Results {
  const subjects = new Map<string, Map<string, Map<number, Sample[]>>>()
  let machine: Machine | undefined
  for (const line of lines) {
    if (line.kind === 'machine') {
      machine = line
      continue
    }
    const { kind: _kind, subject, case: name, n, round: _round, ...rest } = line
    const cases = getOrMake(subjects, subject, () => new Map<string, Map<number, Sample[]>>())
    const sizes = getOrMake(cases, name, () => new Map<number, Sample[]>())
    const numbers = Object.entries(rest).flatMap(([key, value]) =>
      typeof value === 'number' ? [[key, value] as const] : [],
    )
    getOrMake(sizes, n, () => []).push(Object.fromEntries(numbers))
  }
  return { machine, subjects }
}

function getOrMake<K, V>(map: Map<K, V>, key: K, make: () => V): V {
  const found = map.get(key) ?? make()
  map.set(key, found)
  return found
}

/** The values of one metric in one cell of a table. */
export const valuesOf = (samples: readonly Sample[] | undefined, key: string): number[] =>
  (samples ?? []).flatMap((sample) => sample[key] ?? [])

/** The samples of a case by number of peers, few first. */
export const bySize = (samples: Samples, { name }: Described): (readonly [number, readonly Sample[]])[] =>
  [...(samples.get(name) ?? [])].sort(([a], [b]) => a - b)
