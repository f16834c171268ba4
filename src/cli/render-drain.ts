/** Who uses the subnet of a host that is to be drained, and what becomes of them. */
import type { Status } from '../daemon/status'
import { formatIp, formatMac, formatPrefix } from '../model/address'
import type { BridgeUse } from '../plan/usage'
import { hang, painter, renderTable, type Screen } from './screen'

/** Addresses and ports that are named. */
const MOST_NAMED = 20

/** The subnets of this host in words. */
export const subnetsText = ({ lease }: Status): string =>
  [lease?.subnet, lease?.ipv6Subnet].filter((subnet) => subnet !== undefined).join(' and ')

/** @param use undefined where it could not be found out */
export function renderDrainPreview(
  status: Status,
  use: readonly BridgeUse[] | undefined,
  screen: Screen,
): string {
  const paint = painter(screen)
  const paragraph = (text: string): string[] => hang('', text, screen.width, 0)
  const inUse = use?.some(({ ports, addresses }) => ports.length + addresses.length > 0) ?? true
  return [
    ...paragraph(`to be given back: ${subnetsText(status) || 'no subnet'}`).map((line) =>
      paint('bold', line),
    ),
    ...(use === undefined
      ? paragraph('Who uses it could not be found out.')
      : use.length === 0
        ? paragraph('No bridge of this host has an address in it.')
        : use.flatMap((each) => ['', ...useLines(each, screen)])),
    '',
    ...paragraph(
      'The other hosts remove their routes to it at once. Containers here go on running with their addresses, ' +
        'reach each other and, with --ip-masq, what is outside; to and from other hosts nothing gets through any more. ' +
        'overlayd goes on, follows the others, and takes the subnet again only when told, or when it is restarted.',
    ),
    ...(inUse
      ? paragraph('Move or stop those containers first if they are to be reached.').map((line) =>
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
        ? `${bridge} (${formatPrefix(subnet)}): nothing is plugged in`
        : `${bridge} (${formatPrefix(subnet)}): ${ports.length} plugged in: ${named}${more}`,
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
