/** The kernel's objects compared with what they should be, as a table. */

import type { RoutesDocument } from '../../api/documents'
import type { ObjectState } from '../../api/words'
import { printable, printableData } from '../../model/printable'
import type { ComparedObject } from '../../plan/reconcile/compare'
import { type Column, hang, renderTable, type Screen, type Style } from './screen'

const STYLES: Readonly<Record<ObjectState, Style>> = {
  'in-sync': 'green',
  missing: 'red',
  wrong: 'red',
  extra: 'yellow',
  foreign: 'yellow',
  unknown: 'yellow',
}

const COLUMNS: readonly Column<ComparedObject>[] = [
  { title: 'STATE', cell: ({ state }) => state, style: ({ state }) => STYLES[state] },
  { title: 'KIND', cell: ({ kind }) => kind },
  {
    title: 'OBJECT',
    cell: ({ object, found }) => (found === undefined ? object : `${object}; found: ${found}`),
  },
]

export function renderRoutes(
  { objects, counts, daemonRunning, unknown, unprobed = [] }: RoutesDocument,
  screen: Screen,
  wide = false,
): string {
  const table = renderTable(
    COLUMNS,
    objects
      .map((each) => printableData(each))
      .map(({ found, ...each }) => (found === undefined ? each : { ...each, found })),
    wide ? { ...screen, width: Number.POSITIVE_INFINITY, wide } : screen,
  )
  const total = Object.entries(counts).map(([state, count]) => `${count} ${state}`)
  const doubt = daemonRunning ? '' : '; overlayd does not run, so nobody corrects what is not in sync'
  const why = unknown === undefined ? [] : [`what should be there is not known: ${printable(unknown)}`]
  const shares =
    unprobed.length === 0
      ? []
      : [
          'what probing has found is not known without overlayd, which leaves hosts out that it does not ' +
            'reach: ' +
            unprobed.map(printable).join(', '),
        ]
  const lines = [`${total.join(', ') || 'nothing'}${doubt}`, ...why, ...shares]
  return `${[...table, '', ...lines.flatMap((line) => hang('', line, screen.width, 0))].join('\n')}\n`
}
