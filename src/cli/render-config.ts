/** What a new network config would do, before it is written. */
import type { ConfigEffect } from '../plan/config-effect'
import { type Column, hang, painter, renderTable, type Screen } from './screen'

type Misfit = ConfigEffect['misfits'][number]

/** Hosts that are named. */
const MOST_MISFITS = 10
const INDENT = 9

const COLUMNS: readonly Column<Misfit>[] = [
  { title: 'SUBNET', cell: ({ subnet }) => subnet },
  { title: 'PUBLIC IP', cell: ({ publicIp }) => publicIp },
  { title: 'WHY IT DOES NOT FIT', cell: ({ reason }) => reason },
]

/**
 * @param objections why this host could not use it
 * @param meaning what the config says
 */
export function renderConfigPreview(
  effect: ConfigEffect,
  objections: readonly string[],
  meaning: readonly string[],
  screen: Screen,
): string {
  const paint = painter(screen)
  const fact = (name: string, texts: readonly string[]): string[] =>
    texts.flatMap((text, place) => {
      const [head = '', ...more] = hang(place === 0 ? name : '', text, screen.width, INDENT)
      return [`${paint('bold', head.slice(0, INDENT))}${head.slice(INDENT)}`, ...more]
    })
  const { misfits, lossy, room } = effect
  const shown = misfits.slice(0, MOST_MISFITS)
  const warnings = [
    ...(lossy.length > 0 && effect.kind !== 'first'
      ? [`${lossy.join(' and ')}: packets are lost between hosts that have it and hosts that do not yet`]
      : []),
    ...(room === undefined ? [] : [room]),
    ...objections.map((objection) => `on this host: ${objection}`),
  ]
  return [
    ...fact('config', meaning),
    ...fact('effect', effectLines(effect)),
    ...fact('!', warnings).map((line) => paint('yellow', line)),
    ...(misfits.length === 0
      ? []
      : [
          '',
          ...renderTable(COLUMNS, shown, screen),
          ...(misfits.length > shown.length ? [`and ${misfits.length - shown.length} more`] : []),
          '',
        ]),
    '',
  ].join('\n')
}

function effectLines({ kind, reason, changes, leases, misfits }: ConfigEffect): string[] {
  const hosts =
    misfits.length === 0
      ? leases === 0
        ? 'no host has a lease'
        : `all leases fit (${leases})`
      : `${misfits.length} of ${leases} leases do not fit: their hosts go on as they are until overlayd is restarted there, and get another subnet then`
  switch (kind) {
    case 'first':
      return ['hosts that wait for a config start now', hosts]
    case 'same':
      return ['it means the same as before', hosts]
    case 'live':
      return [`running hosts take it up now: ${changes.join(', ')}`, hosts]
    case 'restart':
      return [
        `running hosts go on as they are until overlayd is restarted on each, for they need new subnets: ${reason}`,
        ...(misfits.length === 0 ? [hosts] : []),
        `what is another then: ${changes.join(', ')}`,
      ]
  }
}
