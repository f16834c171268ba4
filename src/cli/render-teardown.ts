/** What a teardown takes away, before it does. */
import { hang, painter, type Screen } from './screen'
import type { TeardownPlan } from './teardown'

export function renderTeardown({ removals, notes }: TeardownPlan, dryRun: boolean, screen: Screen): string {
  const paint = painter(screen)
  const items = removals.flatMap(({ what }) => what)
  const title =
    items.length === 0
      ? 'nothing of overlayd is on this host'
      : dryRun
        ? 'would be removed (--dry-run):'
        : 'to be removed:'
  return [
    paint('bold', title),
    ...items.flatMap((item) => hang('  -', item, screen.width, 4)),
    ...notes.flatMap((note) => hang('  !', note, screen.width, 4).map((line) => paint('yellow', line))),
    ...(items.length === 0
      ? []
      : hang(
          '',
          'Containers keep their addresses, and reach no other host. Forwarding stays switched on.',
          screen.width,
          0,
        )),
    '',
  ].join('\n')
}
