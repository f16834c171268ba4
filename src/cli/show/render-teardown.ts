/** The preview of a teardown. */
import { printable } from '../../model/printable'
import { hang, painter, type Screen } from './screen'
import type { TeardownPlan } from './teardown-plan'

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
    ...items.flatMap((item) => hang('  -', printable(item), screen.width, 4)),
    ...notes.flatMap((note) =>
      hang('  !', printable(note), screen.width, 4).map((line) => paint('yellow', line)),
    ),
    ...(items.length === 0
      ? []
      : hang(
          '',
          'Containers keep their addresses, but reach no other host. IP forwarding stays enabled.',
          screen.width,
          0,
        )),
    '',
  ].join('\n')
}
