/** Figures of several ways side by side, and ratios between them. */
import type { Metric } from './case'
import { type Measure, worseBy } from './dataplane-load'

/** A way, and the way that it is compared with. */
export type Pairing = readonly [way: string, reference: string]

const ratioKey = ([way, reference]: Pairing, { key }: Measure): string => `${way}:${reference}/${key}`

/** Ratios within a round, by the keys of {@link waysMetrics}. */
export const ratiosOf = (
  sample: Readonly<Record<string, number>>,
  measures: readonly Measure[],
  pairings: readonly Pairing[],
): Record<string, number> =>
  Object.fromEntries(
    measures.flatMap((measure) => {
      const of = (way: string): number => sample[`${way}/${measure.key}`] ?? Number.NaN
      return pairings.map((pairing) => {
        const [way, reference] = pairing
        return [ratioKey(pairing, measure), worseBy(measure, of(way), of(reference))] as const
      })
    }),
  )

/** A column for each way, and one for each ratio. */
export const waysMetrics = (
  measures: readonly Measure[],
  ways: readonly string[],
  pairings: readonly Pairing[],
): Metric[] =>
  measures.flatMap((measure) => {
    const { key, label, digits, better } = measure
    return [
      ...ways.map((way) => ({ key: `${way}/${key}`, label, digits, column: way })),
      ...(better === undefined ? [] : pairings).map((pairing) => ({
        key: ratioKey(pairing, measure),
        label,
        digits: 2,
        column: `${pairing[0]} worse than ${pairing[1]}, times`,
        comparable: true as const,
      })),
    ]
  })
