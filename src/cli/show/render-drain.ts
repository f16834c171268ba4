/** The preview of a drain: who uses the host's subnet, and what happens to them. */
import type { Status } from '../../api/status'
import { formatIp, formatMac, formatPrefix } from '../../model/address'
import { count } from '../../model/count'
import { printableData } from '../../model/printable'
import type { BridgeUse } from '../../plan/host/usage'
import { hang, painter, renderTable, type Screen } from './screen'

/** Most addresses and ports that are listed. */
const MOST_NAMED = 20

/** The subnets of this host as text. */
export const subnetsText = ({ lease }: Status): string =>
  [lease?.subnet, lease?.ipv6Subnet].filter((subnet) => subnet !== undefined).join(' and ')

/** All that is given back, as text. */
const allText = (status: Status): string =>
  [subnetsText(status), ...(status.lease?.further ?? [])].filter((text) => text !== '').join(' and ')

/** @param found undefined if the use is unknown */
export function renderDrainPreview(
  document: Status,
  found: readonly BridgeUse[] | undefined,
  screen: Screen,
): string {
  const status = printableData(document)
  const use = printableData(found)
  const paint = painter(screen)
  const paragraph = (text: string): string[] => hang('', text, screen.width, 0)
  const inUse = use?.some(({ ports, addresses }) => ports.length + addresses.length > 0) ?? true
  return [
    ...paragraph(`to be given back: ${allText(status) || 'no subnet'}`).map((line) => paint('bold', line)),
    ...(use === undefined
      ? paragraph('It is not known who uses it.')
      : use.length === 0
        ? paragraph('No bridge of this host has an address in it.')
        : use.flatMap((each) => ['', ...useLines(each, screen)])),
    '',
    ...paragraph(
      'The other hosts remove their routes to it at once. ' +
        'Containers here keep running with their addresses; they reach each other and, with --ip-masq, ' +
        'addresses outside of the overlay, ' +
        'but nothing passes to and from other hosts. ' +
        'overlayd keeps running, follows the other hosts, and takes the subnet again only on command, ' +
        'or when it is restarted.',
    ),
    ...(inUse
      ? paragraph('Move or stop those containers first if they must stay reachable.').map((line) =>
          paint('yellow', line),
        )
      : []),
    '',
  ].join('\n')
}

function useLines({ bridge, subnet, ports, addresses }: BridgeUse, screen: Screen): string[] {
  const named = ports.slice(0, MOST_NAMED).join(', ')
  const more = ports.length > MOST_NAMED ? ` and ${ports.length - MOST_NAMED} more` : ''
  const shown = addresses.slice(0, MOST_NAMED)
  return [
    ...hang(
      '',
      ports.length === 0
        ? `${bridge} (${formatPrefix(subnet)}): no ports`
        : `${bridge} (${formatPrefix(subnet)}): ${count(ports.length, 'port')}: ${named}${more}`,
      screen.width,
      0,
    ),
    ...(shown.length === 0
      ? []
      : renderTable(
          [
            { title: 'ADDRESS', cell: ({ address }) => formatIp(address) },
            { title: 'MAC', cell: ({ mac }) => formatMac(mac) },
          ],
          shown,
          screen,
        )),
    ...(addresses.length > shown.length ? [`and ${addresses.length - shown.length} more`] : []),
  ]
}
