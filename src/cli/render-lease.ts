/** This host's lease as text. */
import { duration, hang, type Paint, painter, type Screen, type Style } from './screen'
import type { LeaseDocument } from './views'

type Lease = NonNullable<LeaseDocument['lease']>

const STYLES: Readonly<Record<Lease['state'], Style>> = {
  held: 'green',
  drained: 'yellow',
  unknown: 'yellow',
  lost: 'red',
  conflict: 'red',
}
const INDENT = 10

export function renderLease({ lease, daemonRunning }: LeaseDocument, screen: Screen, now: Date): string {
  const paint = painter(screen)
  if (lease === undefined) return 'this host has no lease\n'
  const { subnet, publicIp, ipv6Subnet, publicIpv6, reason } = lease
  const subnets = [subnet && `${subnet} at ${publicIp}`, ipv6Subnet && `${ipv6Subnet} at ${publicIpv6}`]
  const facts: [string, string][] = [
    ...subnets.flatMap((text, place): [string, string][] =>
      text === undefined ? [] : [[place === 0 || subnet === undefined ? 'subnet' : '', text]],
    ),
    ['state', describeState(lease, daemonRunning, now, paint)],
    ...(reason === undefined ? [] : [['', reason] satisfies [string, string]]),
    ['kind', describeKind(lease)],
    ...(lease.expiresInSeconds === undefined
      ? []
      : [
          [
            'ends in',
            `${duration(lease.expiresInSeconds)}${daemonRunning ? ', renewed before' : ', and nobody renews it'}`,
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
  if (!daemonRunning) return `${word}: overlayd does not run, so nobody looks after it`
  if (since === undefined) return word
  const ago = Math.max(0, Math.round((now.getTime() - Date.parse(since)) / 1000))
  return `${word} since ${since.replace(/\.\d+Z$/, 'Z')}, ${duration(ago)} ago`
}

function describeKind({ reserved, etcdLease, state }: Lease): string {
  if (reserved === true) return 'reserved: it stays for this host however long it is away'
  if (etcdLease !== undefined) return `bound to etcd's lease ${etcdLease}`
  return state === 'drained' ? 'given back' : 'not in etcd'
}
