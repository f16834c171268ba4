/**
 * Faults on hosts that boot, seeded beside a daemon with the rights and the sandbox of its unit. Status, exit
 * code and event name each fault, and no longer after the cure.
 */
import { statusSchema } from '../../src/api/status'
import type { BootedHost } from '../lab/booted-host'
import type { BootedLab } from '../lab/booted-lab'
import { Pending } from '../lab/wait'

interface Fault {
  /** Code of the problem in the status of the first host. */
  readonly code: string
  /** Kind of the first host's event. */
  readonly event: 'way-in-problem' | 'peer-unreachable'
  /** The host with the fault. */
  readonly at: 1 | 2
  readonly seed: string
  readonly cure: string
}

/** A table of another firewall, as firewalld has one. */
const table = (hook: string, rule: string): string =>
  `nft add table inet planted && nft 'add chain inet planted c { type filter hook ${hook} priority 10; }' && ` +
  `nft add rule inet planted c ${rule}`
const NO_TABLE = 'nft delete table inet planted'
/** `$PEER` is the subnet of the other host without its last two fields, such as `10.5.12`. */
const SHADOW = '$PEER.0/25 via $UNDERLAY'

const FAULTS: Readonly<Record<string, Fault>> = {
  'UDP 8472 is dropped': {
    code: 'udp-blocked-here',
    event: 'way-in-problem',
    at: 1,
    seed: table('input', 'udp dport 8472 drop'),
    cure: NO_TABLE,
  },
  'the policy of INPUT is DROP, as with ufw': {
    code: 'udp-blocked-here',
    event: 'way-in-problem',
    at: 1,
    seed:
      'iptables -A INPUT -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT && ' +
      'iptables -A INPUT -i lo -j ACCEPT && iptables -A INPUT -p tcp -j ACCEPT && ' +
      'iptables -A INPUT -p icmp -j ACCEPT && iptables -P INPUT DROP',
    cure: 'iptables -P INPUT ACCEPT && iptables -F INPUT',
  },
  "Docker's bridge is on another network": {
    code: 'bridge-subnet',
    event: 'way-in-problem',
    at: 1,
    seed: 'ip address del $OWN.1/24 dev docker0 && ip address add 172.17.0.1/16 dev docker0',
    cure: 'ip address del 172.17.0.1/16 dev docker0 && ip address add $OWN.1/24 dev docker0',
  },
  'another table drops what is forwarded, as with firewalld': {
    code: 'forward-drop',
    event: 'way-in-problem',
    at: 1,
    seed: table('forward', 'drop'),
    cure: NO_TABLE,
  },
  "a more specific route leads into the other host's subnet": {
    code: 'route-shadowed',
    event: 'way-in-problem',
    at: 1,
    seed: `ip route add ${SHADOW}`,
    cure: `ip route del ${SHADOW}`,
  },
  'one direction is blocked, at the other host': {
    code: 'mesh-overlay',
    event: 'peer-unreachable',
    at: 2,
    seed: table('input', 'udp dport 8472 drop'),
    cure: NO_TABLE,
  },
}

/** Deadline of the issue that asked for probing: seconds from fault to news, and from cure to none. */
const NEWS = { timeoutMs: 30_000 }

async function statusOf(host: BootedHost) {
  const { code, stdout, stderr } = await host.run('overlayctl', 'status', '-o', 'json')
  if (stdout === '') return new Pending(stderr)
  return { exit: code, ...statusSchema.parse(JSON.parse(stdout)) }
}

const codesOf = ({ problemDetails = [] }: Exclude<Awaited<ReturnType<typeof statusOf>>, Pending>): string[] =>
  problemDetails.map(({ code }) => code)

const waitHealthy = (host: BootedHost) =>
  host.waitFor(
    'to be healthy',
    async () => {
      const status = await statusOf(host)
      if (status instanceof Pending) return status
      if (status.exit === 0 && status.state === 'healthy') return true
      return new Pending(status.problems.join('; '))
    },
    NEWS,
  )

export function describeFaults(labOf: () => BootedLab): void {
  test.each(Object.entries(FAULTS))('fault: %s', async (_, { code, event, at, seed, cure }) => {
    const [first, second] = [labOf().host(1), labOf().host(2)]
    const subnets = await Promise.all([first, second].map((each) => each.subnetEnv()))
    const [OWN, PEER] = subnets.map((env) => (env['FLANNEL_SUBNET'] ?? '').replace(/\.1\/24$/, ''))
    const sh = (script: string) =>
      (at === 1 ? first : second).exec(
        'env',
        `OWN=${OWN}`,
        `PEER=${PEER}`,
        `UNDERLAY=${second.address}`,
        'sh',
        '-c',
        script,
      )
    await waitHealthy(first)
    const eventsSoFar = async () => first.exec('overlayctl', 'events', '-o', 'json', `--kind=${event}`)
    const before = await eventsSoFar()
    await sh(seed)
    try {
      const status = await first.waitFor(
        `to name ${code}`,
        async () => {
          const seen = await statusOf(first)
          if (seen instanceof Pending) return seen
          return codesOf(seen).includes(code) ? seen : new Pending(JSON.stringify(seen.problemDetails))
        },
        NEWS,
      )
      expect(status).toMatchObject({ exit: 1, state: 'degraded' })
      expect((await eventsSoFar()).slice(before.length)).toContain(event === 'way-in-problem' ? code : event)
    } finally {
      await sh(cure)
    }
    await waitHealthy(first)
  })
}
