/** The preview of a new network config: its effect, shown before it is written. */

import { count } from '../../model/count'
import { printable, printableData } from '../../model/printable'
import type { ConfigEffect } from '../../plan/config/config-effect'
import { type Column, hang, painter, renderTable, type Screen } from './screen'

type Host = ConfigEffect['misfits'][number]

/** Most hosts that are listed. */
const MOST_HOSTS = 10
const INDENT = 9

const columns = (reason: string): readonly Column<Host>[] => [
  { title: 'SUBNET', cell: ({ subnet }) => subnet },
  { title: 'PUBLIC IP', cell: ({ publicIp }) => publicIp },
  { title: reason, cell: (host) => host.reason },
]

/**
 * @param objections why this host could not use the config
 * @param meaning the config in words
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
  const { misfits, lossy, room, unencryptable = [], encryptionRoom } = printableData(effect)
  const warnings = [
    ...(lossy.length > 0 && effect.kind !== 'first'
      ? [`${lossy.join(' and ')}: packets are lost between hosts that have it and hosts that do not yet`]
      : []),
    ...(room === undefined ? [] : [room]),
    ...(unencryptable.length === 0 ? [] : [cutOff(unencryptable.length)]),
    ...objections.map((objection) => `on this host: ${printable(objection)}`),
  ]
  return [
    ...fact('config', meaning.map(printable)),
    ...fact('effect', [
      ...effectLines(printableData(effect)),
      ...(encryptionRoom === undefined ? [] : [encryptionRoom]),
    ]),
    ...fact('!', warnings).map((line) => paint('yellow', line)),
    ...hostTable('WHY IT DOES NOT FIT', misfits, screen),
    ...hostTable('WHY IT IS CUT OFF', unencryptable, screen),
    '',
  ].join('\n')
}

const cutOff = (hosts: number): string =>
  `${count(hosts, 'lease')} without keys: no packet passes between ` +
  `${hosts === 1 ? 'its host' : 'their hosts'} and others while encryption is required; ` +
  'with "prefer" hosts make keys, and packets to hosts without keys go in clear'

function hostTable(reason: string, hosts: readonly Host[], screen: Screen): string[] {
  if (hosts.length === 0) return []
  const shown = hosts.slice(0, MOST_HOSTS)
  return [
    '',
    ...renderTable(columns(reason), shown, screen),
    ...(hosts.length > shown.length ? [`and ${hosts.length - shown.length} more`] : []),
    '',
  ]
}

function effectLines({ kind, reason, changes, leases, misfits }: ConfigEffect): string[] {
  const hosts =
    misfits.length === 0
      ? leases === 0
        ? 'no host has a lease'
        : `all leases fit (${leases})`
      : misfits.length === 1
        ? `1 of ${count(leases, 'lease')} does not fit: its host continues unchanged ` +
          'until overlayd is restarted there, and gets another subnet then'
        : `${misfits.length} of ${count(leases, 'lease')} do not fit: their hosts continue unchanged ` +
          'until overlayd is restarted there, and get another subnet then'
  switch (kind) {
    case 'first':
      return ['hosts that wait for a config start now', hosts]
    case 'same':
      return ['it means the same as before', hosts]
    case 'live':
      return [`running hosts adopt it now: ${changes.join(', ')}`, hosts]
    case 'restart':
      return [
        'running hosts continue unchanged until overlayd is restarted on each, ' +
          `because they need new subnets: ${reason}`,
        ...(misfits.length === 0 ? [hosts] : []),
        `changes then: ${changes.join(', ')}`,
      ]
  }
}
