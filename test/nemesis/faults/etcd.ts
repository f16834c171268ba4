/** Faults of etcd, and of the network between hosts and etcd. */
import { cutFromEtcd, reconnectEtcd } from '../../lab/faults'
import { execOk } from '../../lab/namespace'
import type { Random } from '../../lab/random'
import { fault, of, someHosts, type World } from '../fault'
import type { Site } from '../site'

function someMembers(random: Random, { members }: World): { readonly members: readonly number[] } {
  const all = Array.from({ length: members }, (_, index) => index)
  return { members: random.some(all, random.integer(1, members)) }
}

const theEtcd = (): string[] => ['etcd']
/** Milliseconds for a member to start. */
const PATIENCE = 60_000

const membersOf = ({ lab }: Site, indexes: readonly number[]) =>
  lab.members.filter((_, index) => indexes.includes(index))

/**
 * Arguments of iptables that drop part of the packets between hosts and etcd. The rules belong into etcd's
 * namespace, so that the hosts' own rules stay unchanged.
 */
const lossRules = (site: Site, hosts: readonly number[], percent: number): string[][] =>
  hosts.flatMap((host) => {
    const { address } = site.host(host)
    const some = ['-m', 'statistic', '--mode', 'random', '--probability', `${percent / 100}`, '-j', 'DROP']
    return [
      ['INPUT', '-s', address, ...some],
      ['OUTPUT', '-d', address, ...some],
    ]
  })

const setRules = async (action: '-A' | '-D', rules: readonly (readonly string[])[]): Promise<void> => {
  for (const rule of rules) await execOk('etcd', ['iptables', '--wait', action, ...rule])
}

/**
 * Raises or clears the NOSPACE alarm (alarm 1) of all members.
 * @param action 1 activates, 2 deactivates (etcd's rpc.proto, AlarmRequest.AlarmAction)
 */
async function noSpace(site: Site, action: 1 | 2): Promise<void> {
  const list = await site.lab.etcd.etcdctl('member', 'list')
  for (const [, id] of list.matchAll(/^([0-9a-f]+),/gm)) {
    const memberID = BigInt(`0x${id}`).toString()
    await site.client.maintenance.alarm({ action: action as never, memberID, alarm: 1 as never })
  }
}

const ROOT = ['--user=root:nemesis']
/** Ignores the failure of a step that may have been done already. */
const tolerate = (promise: Promise<unknown>): Promise<unknown> => promise.catch(() => undefined)

async function noPasswords(site: Site): Promise<void> {
  const { etcd } = site.lab
  await site.write(async () => {
    await tolerate(etcd.etcdctl(...ROOT, 'auth', 'disable'))
    // Without a password: etcd refuses the call as long as authentication is on, and site.write tries again.
    await etcd.etcdctl('user', 'list')
  })
  await tolerate(etcd.etcdctl('user', 'delete', 'root'))
}

export const ETCD_FAULTS = [
  fault({
    name: 'etcd killed',
    draw: someMembers,
    longest: 15_000,
    claims: theEtcd,
    do: (site, { members }) => Promise.all(membersOf(site, members).map((member) => member.kill())),
    undo: (site, { members }) =>
      Promise.all(membersOf(site, members).map((member) => member.start(PATIENCE))),
  }),
  fault({
    name: 'etcd frozen',
    draw: someMembers,
    longest: 15_000,
    claims: theEtcd,
    do: async (site, { members }) => {
      for (const member of membersOf(site, members)) member.pause()
    },
    undo: async (site, { members }) => {
      for (const member of membersOf(site, members)) member.resume()
    },
  }),
  fault({
    name: 'hosts cut off from etcd by a route',
    draw: someHosts,
    longest: 15_000,
    claims: of('etcd'),
    do: (site, { hosts }) => Promise.all(hosts.map((host) => cutFromEtcd(site.host(host)))),
    undo: (site, { hosts }) => Promise.all(hosts.map((host) => reconnectEtcd(site.host(host)))),
  }),
  fault({
    name: 'packets between hosts and etcd dropped',
    draw: someHosts,
    longest: 15_000,
    claims: of('etcd'),
    do: (site, { hosts }) => setRules('-A', lossRules(site, hosts, 100)),
    undo: (site, { hosts }) => setRules('-D', lossRules(site, hosts, 100)),
  }),
  fault({
    name: 'packet loss between hosts and etcd',
    draw: (random, world) => ({ ...someHosts(random, world), percent: random.integer(10, 50) }),
    longest: 12_000,
    claims: of('etcd'),
    do: (site, { hosts, percent }) => setRules('-A', lossRules(site, hosts, percent)),
    undo: (site, { hosts, percent }) => setRules('-D', lossRules(site, hosts, percent)),
  }),
  fault({
    name: 'compaction and defragmentation',
    draw: () => ({}),
    claims: () => ['compaction'],
    do: (site) =>
      site.write(async (client) => {
        const { header } = await client.get('any').exec()
        await tolerate(client.kv.compact({ revision: header.revision, physical: true }))
        await Promise.all(site.lab.members.map((member) => member.etcdctl('defrag')))
      }),
  }),
  fault({
    name: 'etcd out of space',
    draw: () => ({}),
    longest: 8000,
    claims: theEtcd,
    do: (site) => site.write(() => noSpace(site, 1)),
    undo: (site) => site.write(() => noSpace(site, 2)),
    after: (site) => site.write(() => noSpace(site, 2)),
  }),
  fault({
    name: 'etcd requires passwords',
    draw: () => ({}),
    longest: 8000,
    claims: theEtcd,
    do: async ({ lab: { etcd } }) => {
      await tolerate(etcd.etcdctl('user', 'add', 'root:nemesis'))
      await tolerate(etcd.etcdctl('user', 'grant-role', 'root', 'root'))
      await etcd.etcdctl('auth', 'enable')
    },
    undo: noPasswords,
    after: noPasswords,
  }),
]
