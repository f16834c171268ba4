/** Plots of measurements over the number of peers, as SVG: both axes logarithmic, the spread as a band. */
import type { Described, Metric } from './case'
import { bySize, type Results, valuesOf } from './results'
import { spread } from './statistics'

const [WIDTH, HEIGHT] = [560, 340]
const EDGE = { left: 64, right: 120, top: 36, bottom: 44 }
/** They differ in lightness, for people who cannot tell the colours apart. */
const COLOURS = ['#1f4e79', '#c55a11', '#2e9e6b', '#8e44ad']

interface Point {
  readonly n: number
  readonly min: number
  readonly median: number
  readonly max: number
}

interface Curve {
  readonly name: string
  readonly points: readonly Point[]
}

/**
 * @returns file names and contents: one for each metric with a plot, if it has values for at least two
 *   numbers of peers
 */
export function renderPlots(cases: readonly Described[], results: Results): ReadonlyMap<string, string> {
  const pictures = new Map<string, string>()
  for (const benchmark of cases) {
    for (const metric of benchmark.metrics) {
      if (metric.plot === undefined) continue
      const curves = curvesOf(benchmark, metric, results)
      if (!curves.some(({ points }) => points.length > 1)) continue
      const name = `${benchmark.name}-${metric.plot}`.replaceAll(/\W+/g, '-')
      pictures.set(`${name}.svg`, draw(`${benchmark.name}: ${metric.label}`, curves))
    }
  }
  return pictures
}

function curvesOf(benchmark: Described, { key }: Metric, { subjects }: Results): Curve[] {
  return [...subjects].map(([name, samples]) => ({
    name,
    points: bySize(samples, benchmark)
      .map(([n, some]) => ({ n, ...spread(valuesOf(some, key)) }))
      .filter(({ median }) => median > 0),
  }))
}

function draw(title: string, curves: readonly Curve[]): string {
  const points = curves.flatMap((curve) => curve.points)
  // 0 has no logarithm, so 0 peers are drawn at 3.
  const across = scale(
    points.map(({ n }) => Math.max(n, 3)),
    [EDGE.left, WIDTH - EDGE.right],
  )
  const up = scale(
    points.flatMap(({ min, max }) => [min, max].filter((value) => value > 0)),
    [HEIGHT - EDGE.bottom, EDGE.top],
  )
  const x = ({ n }: Point) => round(across.at(Math.max(n, 3)))
  const y = (value: number) => round(up.at(Math.max(value, up.least)))
  const right = WIDTH - EDGE.right
  const foot = HEIGHT - EDGE.bottom
  const grid = up.ticks.map(
    (value) =>
      `<path d="M${EDGE.left} ${y(value)}H${right}" stroke="#ddd"/>` +
      `<text x="${EDGE.left - 6}" y="${y(value) + 4}" text-anchor="end">` +
      `${Number(value.toPrecision(2))}</text>`,
  )
  const sizes = [...new Set(points.map(({ n }) => n))].map((n) => {
    const at = x({ n } as Point)
    return (
      `<path d="M${at} ${foot}v5" stroke="#333"/>` +
      `<text x="${at}" y="${foot + 18}" text-anchor="middle">${n.toLocaleString('en')}</text>`
    )
  })
  const lines = curves
    .filter((curve) => curve.points.length > 0)
    .map(({ name, points: own }, index) => {
      const colour = COLOURS[index % COLOURS.length]
      const join = (some: readonly Point[], value: (point: Point) => number) =>
        some.map((point) => `${x(point)} ${y(value(point))}`).join('L')
      const band = `M${join(own, ({ max }) => max)}L${join([...own].reverse(), ({ min }) => min)}Z`
      const last = own.at(-1)
      return [
        `<path d="${band}" fill="${colour}" opacity="0.2"/>`,
        `<path d="M${join(own, ({ median }) => median)}" fill="none" stroke="${colour}" stroke-width="2"/>`,
        ...own.map((point) => `<circle cx="${x(point)}" cy="${y(point.median)}" r="3" fill="${colour}"/>`),
        last &&
          `<text x="${right + 8}" y="${y(last.median) + 4}" fill="${colour}">` +
            `${name} ${Number(last.median.toPrecision(3))}</text>`,
      ].join('\n')
    })
  return `${[
    `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 ${WIDTH} ${HEIGHT}" ` +
      'font-family="sans-serif" font-size="12">',
    `<title>${escapeXml(title)}</title>`,
    `<rect width="${WIDTH}" height="${HEIGHT}" fill="#fff"/>`,
    `<text x="${EDGE.left}" y="20" font-size="13">${escapeXml(title)}</text>`,
    ...grid,
    ...sizes,
    `<path d="M${EDGE.left} ${EDGE.top}V${foot}H${right}" fill="none" stroke="#333"/>`,
    `<text x="${(EDGE.left + right) / 2}" y="${HEIGHT - 8}" text-anchor="middle">N, peers in etcd</text>`,
    ...lines,
    '</svg>',
  ].join('\n')}\n`
}

/** A logarithmic scale with a little room on both sides, and ticks at 1, 2 and 5 times the powers of ten. */
function scale(values: readonly number[], [from, to]: readonly [number, number]) {
  const [least, most] = [Math.min(...values) / 1.2, Math.max(...values) * 1.2]
  const [low, high] = [Math.log10(least), Math.log10(most)]
  const at = (value: number): number => from + ((Math.log10(value) - low) / (high - low)) * (to - from)
  const powers = Array.from(
    { length: Math.ceil(high) - Math.floor(low) + 1 },
    (_, index) => 10 ** (Math.floor(low) + index),
  )
  const ticks = powers
    .flatMap((power) => [power, 2 * power, 5 * power])
    .filter((value) => value >= least && value <= most)
  return { least, at, ticks }
}

const round = (value: number): number => Math.round(value * 10) / 10

const escapeXml = (text: string): string =>
  text.replaceAll('&', '&amp;').replaceAll('<', '&lt;').replaceAll('>', '&gt;')
