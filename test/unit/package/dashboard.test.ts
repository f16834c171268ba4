/** The dashboard: no two panels have one id or one place. */
import { readFileSync } from 'node:fs'
import { join } from 'node:path'

interface Panel {
  readonly id: number
  readonly title: string
  readonly gridPos: { readonly x: number; readonly y: number; readonly w: number; readonly h: number }
}

const { panels }: { readonly panels: readonly Panel[] } = JSON.parse(
  readFileSync(join(__dirname, '../../../scripts/monitoring/dashboard.json'), 'utf8'),
)

test('each panel has an id of its own', () => {
  const ids = panels.map(({ id }) => id)
  expect(ids.filter((id, i) => ids.indexOf(id) !== i)).toEqual([])
})

test('no panel lies on another one', () => {
  const meet = ({ gridPos: a }: Panel, { gridPos: b }: Panel): boolean =>
    a.x < b.x + b.w && b.x < a.x + a.w && a.y < b.y + b.h && b.y < a.y + a.h
  const overlaps = panels.flatMap((panel, i) =>
    panels
      .slice(i + 1)
      .filter((other) => meet(panel, other))
      .map((other) => [panel.title, other.title]),
  )
  expect(overlaps).toEqual([])
})
