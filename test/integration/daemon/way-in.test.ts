/**
 * What the daemon itself says of its bridge and of the way in: each fault is seeded, seen in status, exit
 * code, event and metric, and gone after the cure.
 */
import { mkdir, readFile, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import type { Status } from '../../../src/api/status'
import { type Host, Lab } from '../../lab/lab'
import { patient } from '../../lab/patience'
import { Pending, waitFor } from '../../lab/wait'
import { codesOf, doctor } from '../../support/doctor'
import { LOOKED_AT } from '../../support/way-in'

jest.setTimeout(patient(180_000))

let lab: Lab
beforeAll(async () => {
  lab = await Lab.create({ hosts: 2 })
  await lab.startAll()
})
afterAll(() => lab?.close())

const host = () => lab.host(1)
const codesIn = ({ problemDetails = [] }: Status): string[] => problemDetails.map(({ code }) => code)

const waitForMetric = (on: Host, line: string) =>
  waitFor(`the metric ${line}`, async () => {
    const text = await on.metrics()
    if (text instanceof Pending) return text
    return text.split('\n').includes(line) || new Pending(/^overlayd_way_in.*$/gm.exec(text)?.join() ?? '')
  })

/** Subnet of the other host. */
async function peerSubnet(): Promise<string> {
  const [peer] = (await host().waitForStatus('a peer', ({ peers }) => peers.length === 1)).peers
  return peer?.subnet ?? 'none'
}

interface Fault {
  readonly check: string
  readonly code: string
  /** A part of the text in the status. */
  readonly text: RegExp
  readonly seed: () => Promise<string>
  readonly cure: () => Promise<string>
  /** Whether the host is not ready because of it. */
  readonly isCut?: true
}

const sh = (command: string) => host().exec('sh', '-c', command)
const NFT = 'table inet planted { chain c { type filter hook HOOK priority 10; policy accept; RULE; }; }'
const nft = (hook: string, rule: string) =>
  sh(`nft -f - <<'X'\n${NFT.replace('HOOK', hook).replace('RULE', rule)}\nX`)
const noTable = () => sh('nft delete table inet planted')

const FAULTS: Readonly<Record<string, Fault>> = {
  "Docker's bridge is on another network": {
    check: 'bridge',
    code: 'bridge-subnet',
    text: /^bridge: the bridge docker0 is not on the subnet of this host: docker0 has 172\.17\.0\.1\/16; /,
    seed: () => sh('ip link add docker0 type bridge && ip address add 172.17.0.1/16 dev docker0'),
    cure: () => sh('ip link del docker0'),
  },
  'INPUT drops VXLAN': {
    check: 'firewall',
    code: 'udp-blocked-here',
    text: /^firewall: this host's own firewall does not let UDP 8472 in: /,
    seed: () => nft('input', 'udp dport 8472 drop'),
    cure: noTable,
    isCut: true,
  },
  'the policy of INPUT is DROP, as with ufw': {
    check: 'firewall',
    code: 'udp-blocked-here',
    text: /UDP 8472 in: .*policy/,
    seed: () =>
      sh(
        'iptables -A INPUT -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT && ' +
          'iptables -A INPUT -i lo -j ACCEPT && iptables -A INPUT -p tcp -j ACCEPT && ' +
          'iptables -A INPUT -p icmp -j ACCEPT && iptables -P INPUT DROP',
      ),
    cure: () => sh('iptables -P INPUT ACCEPT && iptables -F INPUT'),
    isCut: true,
  },
  'another table drops what is forwarded': {
    check: 'firewall',
    code: 'forward-drop',
    text: /^firewall: this host drops what it forwards for containers \(IPv4\): /,
    seed: () => nft('forward', 'drop'),
    cure: noTable,
  },
  "a more specific route leads into a peer's subnet": {
    check: 'routes',
    code: 'route-shadowed',
    text: /^routes: another route takes packets for the containers of .*\/25 dev eth0 is more specific/,
    seed: async () => sh(`ip route add ${(await peerSubnet()).replace('/24', '/25')} dev eth0`),
    cure: async () => sh(`ip route del ${(await peerSubnet()).replace('/24', '/25')} dev eth0`),
  },
  "a policy rule takes a peer's packets": {
    check: 'routes',
    code: 'route-shadowed',
    text: /^routes: a rule or another table takes packets for the containers of /,
    seed: async () =>
      sh(`ip route add default dev eth0 table 99 && ip rule add to ${await peerSubnet()} table 99`),
    cure: async () => sh(`ip rule del to ${await peerSubnet()} table 99 && ip route flush table 99`),
  },
}

test('a host without Docker, and one with a container, are healthy', async () => {
  await host().addContainer()
  for (const each of [lab.host(1), lab.host(2)])
    for (const check of ['routes', 'forwarding', 'firewall', 'bridge'])
      await waitForMetric(each, `overlayd_way_in{check="${check}"} 0`)
  await lab.waitConverged()
  await sh('ip link del docker0')
})

describe.each(Object.entries(FAULTS))('%s', (_, { check, code, text, seed, cure, isCut }) => {
  test('is in status, exit code, event, metric and doctor, and goes with the cure', async () => {
    await host().waitConverged(1, LOOKED_AT)
    const from = (await host().overlayctl('events', '-o', 'json', '--kind=way-in-problem')).stdout
    await seed()
    try {
      const status = await host().waitForStatus(code, (each) => codesIn(each).includes(code), LOOKED_AT)
      expect(status.state).toBe('degraded')
      expect(status.problems.find((each) => text.test(each))).toBeDefined()
      const { code: exit, stdout } = await host().overlayctl('status')
      expect(exit).toBe(1)
      expect(stdout).toContain('DEGRADED')
      await waitForMetric(host(), `overlayd_way_in{check="${check}"} 2`)
      await waitForMetric(host(), `overlayd_ready ${isCut === true ? 0 : 1}`)
      const after = (await host().overlayctl('events', '-o', 'json', '--kind=way-in-problem')).stdout
      const [event] = after.slice(from.length).trimEnd().split('\n')
      expect(JSON.parse(event ?? '')).toMatchObject({ level: 'error', about: [check, code] })
      const report = await doctor(lab, host(), `--only=${check},status`)
      expect(codesOf(report)).toEqual([code])
    } finally {
      await cure()
    }
    await host().waitConverged(1, LOOKED_AT)
    await waitForMetric(host(), `overlayd_way_in{check="${check}"} 0`)
    const { stdout } = await host().overlayctl('events', '-o', 'json', '--kind=way-in-ok')
    expect(JSON.parse(stdout.trimEnd().split('\n').at(-1) ?? '')).toMatchObject({ about: [check, code] })
  })
})

test('a container with a larger MTU is a warning, and leaves the host healthy', async () => {
  const container = lab.host(2)
  await container.addContainer()
  await container.exec('ip', 'link', 'set', 'veth1', 'mtu', '1500')
  const { warnings } = await container.waitForStatus(
    'a warning of a healthy host',
    ({ state, warnings = [] }) => state === 'healthy' && warnings.some((text) => text.startsWith('bridge: ')),
    LOOKED_AT,
  )
  expect(warnings?.join('\n')).toMatch(
    /^bridge: containers have a larger MTU than fits through the overlay: /,
  )
  await container.waitUntil('exit code 0', async () => (await container.overlayctl('status')).code === 0)
})

/**
 * An nft that removes the table `brief` as soon as the daemon has read it. It notes each reading of all rules
 * in a file, and the removal.
 */
const forgetfulNft = (notes: string): string => `#!/bin/sh
PATH='${process.env['PATH']}'
nft "$@" || exit
case $* in
'-a list ruleset') echo reading >>'${notes}' ;;
'-j list ruleset' | '-j list table inet brief')
  nft delete table inet brief 2>/dev/null && echo gone >>'${notes}' ;;
esac
exit 0
`

test('rules that are gone by the second look are not told', async () => {
  const bin = join(lab.directory, 'forgetful')
  const notes = join(bin, 'notes')
  await mkdir(bin)
  await writeFile(join(bin, 'nft'), forgetfulNft(notes), { mode: 0o755 })
  await writeFile(notes, '')
  await host().stop()
  host().start({ env: { PATH: `${bin}:${process.env['PATH']}` } })
  await host().waitConverged(1, LOOKED_AT)
  await waitForMetric(host(), 'overlayd_way_in{check="firewall"} 0')
  await sh("nft 'table inet brief { chain c { type filter hook input priority 10; udp dport 8472 drop; }; }'")
  await waitFor(
    'a reading after the one with the table',
    async () => {
      const lines = (await readFile(notes, 'utf8')).trimEnd().split('\n')
      const at = lines.indexOf('gone')
      return (at !== -1 && lines.includes('reading', at)) || new Pending(lines.join())
    },
    { timeoutMs: LOOKED_AT },
  )
  const { stdout } = await host().overlayctl('events', '-o', 'json', '--kind=way-in-problem')
  expect(stdout).toBe('')
  await host().waitConverged(1, LOOKED_AT)
})
