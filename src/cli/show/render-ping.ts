/** What `overlayctl ping` found, as text. */

import type { PingDocument } from '../../api/documents'
import type { PingPart } from '../../api/words'
import { printableData } from '../../model/printable'
import { describeBehind } from '../ask/whereabouts'
import { percent, roundTrip } from './render-mesh'
import { hang, painter, renderTable, type Screen } from './screen'

const WORDS: Readonly<Record<PingPart, string>> = {
  underlay: 'neither the PublicIP nor the overlay answers: the host is down, or the network to it',
  overlay:
    'the overlay loses packets: mostly a firewall that drops UDP to the VXLAN port in one direction; ' +
    'overlayctl doctor says more',
  'full-size':
    'packets of full size are lost, and small ones are not: a part of the path carries less than its MTU; ' +
    'overlayctl doctor searches the size',
  container:
    'its host answers, and the container does not: it is stopped, or the firewall of its host drops ' +
    'the packets',
}

/** Renders the document. */
export function renderPing(document: PingDocument, screen: Screen): string {
  const { target, host, behind, encryption, probes, fails } = printableData(document)
  const paint = painter(screen)
  const how = encryption === undefined ? '' : encryption === 'none' ? ', gets no packets' : `, ${encryption}`
  const where = `${target}: the host with ${host.subnet} at ${host.publicIp}${how}`
  const verdict = fails === undefined ? 'every packet was answered' : WORDS[fails]
  const table = renderTable(
    [
      { title: 'WAY', cell: ({ part }) => part },
      { title: 'ADDRESS', cell: ({ address }) => address },
      { title: 'BYTES', cell: ({ size }) => `${size}` },
      { title: 'RTT', cell: ({ rttMs }) => roundTrip(rttMs) },
      { title: 'LOSS', cell: ({ sent, received }) => percent(1 - received / Math.max(1, sent)) },
    ],
    probes,
    screen,
  )
  return `${[
    ...hang('', where, screen.width, 0),
    ...(behind === undefined ? [] : hang('', describeBehind(target, behind), screen.width, 0)),
    '',
    ...table,
    '',
    ...hang('', verdict, screen.width, 0).map((line) =>
      paint(fails === undefined ? 'green' : 'yellow', line),
    ),
  ].join('\n')}\n`
}
