/**
 * A ping from a container of this host: the only probe that the kernel forwards. So it meets every rule and
 * filter that containers' packets meet. It runs in the network namespace of an existing container; nothing is
 * created.
 */
import { readdir, readFile } from 'node:fs/promises'
import { runProgram } from '../../firewall/program'
import { ping } from '../../host/ping'
import { containerBridges } from '../../judge/checks/bridge'
import type { ContainerProbe, PeerFact } from '../../judge/facts'
import { isOwnAddress, type OverlayFacts, peerKey, subnetsOf } from '../../judge/overlay'
import { formatIp, type Prefix, parseIpv4 } from '../../model/address'
import { subnetWith } from '../../plan/host/own-subnets'

/** The directories in which Docker, and `ip netns`, keep network namespaces. */
const DIRECTORIES = ['/run/docker/netns', '/run/netns', '/var/run/netns']
/** The most namespaces and processes that are searched for a container. */
const MOST_NAMESPACES = 64
const MOST_PROCESSES = 4000
const PEERS = 2
const PINGS = 3
/** Bytes. */
const SIZE = 64
/** Milliseconds for the whole search. */
const DEADLINE = 3000

interface Found {
  /** A file of a network namespace. */
  readonly namespace: string
  readonly address: string
}

/** @throws {OverlayError} when namespaces may not be entered */
export async function probeFromContainer(
  facts: OverlayFacts,
  peers: readonly PeerFact[],
): Promise<ContainerProbe[]> {
  const subnets = subnetsOf(facts, 'IPv4')
  const tried = peers.filter(({ family }) => family === 'IPv4').slice(0, PEERS)
  if (tried.length === 0 || containerBridges(facts, 'IPv4').length === 0) return []
  const found = await find(facts, subnets)
  if (found === undefined) return []
  return Promise.all(
    tried.map(async (peer) => ({
      peer: peerKey(peer),
      from: found.address,
      ping: await ping({
        address: peer.subnet.address,
        size: SIZE,
        count: PINGS,
        namespace: found.namespace,
      }),
    })),
  )
}

async function find(facts: OverlayFacts, subnets: readonly Prefix[]): Promise<Found | undefined> {
  const signal = AbortSignal.timeout(DEADLINE)
  const named = await namedNamespaces()
  for (const namespace of named.slice(0, MOST_NAMESPACES)) {
    if (signal.aborted) return undefined
    const command = ['nsenter', `--net=${namespace}`, 'cat', '/proc/self/net/fib_trie'] as const
    const trie = await runProgram('nsenter', { command, signal }).catch(() => '')
    const address = addressIn(facts, subnets, trie)
    if (address !== undefined) return { namespace, address }
  }
  return findProcess(facts, subnets, signal)
}

async function namedNamespaces(): Promise<string[]> {
  const lists = await Promise.all(
    DIRECTORIES.map(async (directory) => {
      const names = await readdir(directory).catch(() => [])
      return names.map((name) => `${directory}/${name}`)
    }),
  )
  return lists.flat()
}

/** Reads the network of a process in its /proc, without entering its namespace. */
async function findProcess(
  facts: OverlayFacts,
  subnets: readonly Prefix[],
  signal: AbortSignal,
): Promise<Found | undefined> {
  const pids = (await readdir('/proc')).filter((name) => /^\d+$/.test(name))
  for (const pid of pids.slice(-MOST_PROCESSES)) {
    if (signal.aborted) return undefined
    const trie = await readFile(`/proc/${pid}/net/fib_trie`, 'latin1').catch(() => '')
    const address = addressIn(facts, subnets, trie)
    if (address !== undefined) return { namespace: `/proc/${pid}/ns/net`, address }
  }
  return undefined
}

/**
 * The address of a container of this host, in a listing of local addresses: `|-- 10.5.1.2` before `/32 host
 * LOCAL`.
 */
export function addressIn(facts: OverlayFacts, subnets: readonly Prefix[], trie: string): string | undefined {
  for (const [, text = ''] of trie.matchAll(/\|-- (\S+)\n\s+\/32 host LOCAL/g)) {
    const address = parseIpv4(text)
    if (address !== undefined && subnetWith(subnets, address) && !isOwnAddress(facts, address))
      return formatIp(address)
  }
  return undefined
}
