/** What the kernel has against what it should have, as a table. */
import type { ComparedObject, ObjectState } from '../plan/compare'
import type { RoutesDocument } from './routes'
import { type Column, renderTable, type Screen, type Style } from './screen'

const STYLES: Readonly<Record<ObjectState, Style>> = {
  'in-sync': 'green',
  missing: 'red',
  wrong: 'red',
  extra: 'yellow',
  foreign: 'yellow',
}

const COLUMNS: readonly Column<ComparedObject>[] = [
  { title: 'STATE', cell: ({ state }) => state, style: ({ state }) => STYLES[state] },
  { title: 'KIND', cell: ({ kind }) => kind },
  {
    title: 'OBJECT',
    cell: ({ object, found }) => (found === undefined ? object : `${object}; there is: ${found}`),
  },
]

export function renderRoutes(
  { objects, counts, daemonRunning }: RoutesDocument,
  screen: Screen,
  wide = false,
): string {
  const table = renderTable(
    COLUMNS,
    objects.map(({ found, ...each }) => (found === undefined ? each : { ...each, found })),
    wide ? { ...screen, width: Number.POSITIVE_INFINITY } : screen,
  )
  const total = Object.entries(counts).map(([state, count]) => `${count} ${state}`)
  const doubt = daemonRunning ? '' : '; overlayd does not run, so nobody puts right what is not in sync'
  return `${[...table, '', `${total.join(', ') || 'nothing'}${doubt}`].join('\n')}\n`
}
