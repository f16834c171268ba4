/** This host's lease as text. */

import type { LeaseDocument } from '../../api/documents'
import { printableData } from '../../model/printable'
import { duration, hang, type Paint, painter, type Screen, type Style } from './screen'

type Lease = NonNullable<LeaseDocument['lease']>

const STYLES: Readonly<Record<Lease['state'], Style>> = {
  held: 'green',
  drained: 'yellow',
  unknown: 'yellow',
  lost: 'red',
  conflict: 'red',
}
const INDENT = 10

export function renderLease(document: LeaseDocument, screen: Screen, now: Date): string {
  const { lease, daemonRunning, unknown, waiting } = printableData(document)
  const paint = painter(screen)
  const paragraph = (text: string): string => `${hang('', text, screen.width, 0).join('\n')}\n`
  if (unknown !== undefined) {
    const had = [lease?.subnet, lease?.ipv6Subnet].filter(Boolean).join(' and ')
    return (
      paragraph(`not known: ${unknown}`) +
      (had === '' ? '' : paragraph(`it had ${had} according to subnet.env`))
    )
  }
  if (lease === undefined)
    return paragraph(`this host has no lease${waiting === undefined ? '' : `: ${waiting}`}`)
  const { subnet, publicIp, ipv6Subnet, publicIpv6, reason } = lease
  const subnets = [subnet && `${subnet} at ${publicIp}`, ipv6Subnet && `${ipv6Subnet} at ${publicIpv6}`]
  const facts: [string, string][] = [
    ...subnets.flatMap((text, place): [string, string][] =>
      text === undefined ? [] : [[place === 0 || subnet === undefined ? 'subnet' : '', text]],
    ),
    ...(lease.further ?? []).map((text, place): [string, string] => [place === 0 ? 'further' : '', text]),
    ['state', describeState(lease, daemonRunning, now, paint)],
    ...(reason === undefined ? [] : [['', reason] satisfies [string, string]]),
    ['kind', describeKind(lease)],
    ...(lease.expiresInSeconds === undefined
      ? []
      : [
          [
            'ends in',
            duration(lease.expiresInSeconds) +
              (daemonRunning ? ', renewed before then' : ', and nobody renews it'),
          ] satisfies [string, string],
        ]),
    ...(lease.modRevision === undefined ? [] : [['revision', lease.modRevision] satisfies [string, string]]),
  ]
  const lines = facts.flatMap(([name, text]) => {
    const [head = '', ...more] = hang(name, text, screen.width, INDENT)
    const whole = [`${paint('bold', head.slice(0, INDENT))}${head.slice(INDENT)}`, ...more]
    return text === reason ? whole.map((line) => paint('yellow', line)) : whole
  })
  return `${lines.join('\n')}\n`
}

function describeState({ state, since }: Lease, daemonRunning: boolean, now: Date, paint: Paint): string {
  const word = paint(STYLES[state], state)
  if (!daemonRunning) return `${paint('yellow', 'in etcd')}: overlayd does not run, so nobody maintains it`
  if (since === undefined) return word
  const ago = Math.max(0, Math.round((now.getTime() - Date.parse(since)) / 1000))
  return `${word} since ${since.replace(/\.\d+Z$/, 'Z')}, ${duration(ago)} ago`
}

function describeKind({ reserved, etcdLease, state }: Lease): string {
  if (reserved === true) return "reserved: it stays this host's, however long the host is away"
  if (etcdLease !== undefined) return `bound to etcd's lease ${etcdLease}`
  return state === 'drained' ? 'given back' : 'not in etcd'
}
