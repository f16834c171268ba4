/** Networks of Podman and of CNI: whether they are in the overlay, with the options that it needs. */
import { FAMILIES, familyOf, formatPrefix } from '../../model/address'
import { count } from '../../model/count'
import { COMMANDS, commandFor, ENGINE_UNITS, ENGINES, type EngineFile } from '../../model/engines'
import type { Known } from '../facts'
import { type Check, check, type Finding, few, type Outcome, outcome, type Unmade } from '../finding'
import { isInOverlay, OVERLAY, type OverlayFacts, ownSubnet, portsOf } from '../overlay'

/** What the kernel gives to the ports of a bridge where the engine says nothing. */
const DEFAULT_MTU = 1500
/**
 * The network of Podman that has no file unless somebody makes one (libnetwork/types in containers/common).
 */
const PODMAN_DEFAULT = { name: 'podman', bridge: 'podman0' } as const
const WORDS = { cni: 'CNI', podman: 'Podman' } as const

export const ENGINE_CHECKS: readonly Check[] = [
  check({
    name: 'engines',
    about: 'networks of Podman and CNI are in the overlay, not masqueraded, with an MTU that fits',
    needs: ['engines', 'kernel'],
    uses: OVERLAY,
    premise: 'started',
    run: checkEngines,
  }),
]

type EngineFacts = OverlayFacts & Known<'engines' | 'kernel'>
/** A network with a bridge: the others are not meant to be in the overlay. */
type Network = Pick<EngineFile, 'engine' | 'name' | 'subnets' | 'mtu' | 'masquerades' | 'madeBy'> & {
  readonly bridge: string
  /** `undefined` for the network that Podman has by itself. */
  readonly path: string | undefined
}

function checkEngines(facts: EngineFacts): Outcome {
  const { files, problems, unread } = facts.engines.value
  const networks = [
    ...files.flatMap((file) =>
      file.bridge === undefined || file.isInternal ? [] : { ...file, bridge: file.bridge },
    ),
    ...podmansOwn(facts),
  ]
  const own = networks.filter(isMade)
  const inside = networks.filter(({ subnets }) => isInOverlay(facts, subnets))
  const outside = networks.filter((each) => !isMade(each) && !isInOverlay(facts, each.subnets))
  const names = [...files.filter(({ isFlannel }) => isFlannel), ...inside].map(({ name }) => name)
  const broken = [...problems, ...unread.flatMap((each) => (each.isDenied ? [] : wordOfUnread(each)))]
  const denied = unread.find(({ isDenied }) => isDenied)
  const list = names.length === 0 ? '' : `: ${few(names).join(', ')}`
  return outcome(
    `${count(names.length, 'network')} in the overlay${list}`,
    [
      brokenFinding(broken),
      staleFinding(facts, own),
      outsideFinding(
        outside.filter(({ bridge, subnets }) => subnets.length > 0 && portsOf(facts, bridge).length > 0),
      ),
      masqueradeFinding(facts, inside),
      mtuFinding(facts, inside),
    ],
    denied && ({ what: wordOfUnread(denied), because: 'rights' } satisfies Unmade),
  )
}

const wordOfUnread = ({ path, why }: { readonly path: string; readonly why: string }): string =>
  `${path} cannot be read: ${why}`

/** Podman's default network, as the kernel has it: its subnet may be set in containers.conf. */
function podmansOwn({ engines, kernel }: EngineFacts): readonly Network[] {
  const { name, bridge } = PODMAN_DEFAULT
  const { links, addresses } = kernel.value
  const link = links.find((each) => each.name === bridge && each.kind === 'bridge')
  if (link === undefined || engines.value.files.some((file) => file.bridge === bridge)) return []
  const subnets = addresses.flatMap(({ linkIndex, address, scope }) =>
    linkIndex === link.index && scope === 'global' ? address : [],
  )
  return [
    {
      engine: 'podman',
      name,
      bridge,
      path: undefined,
      subnets,
      mtu: undefined,
      masquerades: true,
      madeBy: undefined,
    },
  ]
}

const isMade = ({ engine, madeBy }: Network): boolean => madeBy === COMMANDS[engine]

const wordOf = ({ engine, name, bridge, subnets, path }: Network, more = ''): string =>
  `${name} of ${WORDS[engine]} (${bridge}) has ${subnets.map(formatPrefix).join(' and ') || 'no subnet'}` +
  `${more}; ${path ?? 'it is built in, without a file'}`

const commandsFor = (networks: readonly Network[]): readonly string[] => [
  ...new Set(
    networks.map((network) =>
      isMade(network) ? commandFor(network.engine, network.name, network.path) : COMMANDS[network.engine],
    ),
  ),
]

function brokenFinding(broken: readonly string[]): Finding | undefined {
  if (broken.length === 0) return undefined
  return {
    code: 'engine-network-file',
    severity: 'warn',
    what: `${count(broken.length, 'file')} of Podman or CNI cannot be used`,
    evidence: few(broken),
    breaks: 'the network of the file is not there, and overlayctl does not know which addresses it has',
    fix: 'mend the file, or remove it',
  }
}

/** A network that overlayctl made for a subnet that this host no longer has, or that lacks a family. */
function staleFinding(facts: EngineFacts, networks: readonly Network[]): Finding | undefined {
  const lease = FAMILIES.flatMap((family) => ownSubnet(facts, family) ?? [])
  const stale = networks.filter(
    ({ subnets }) =>
      subnets.some((each) => !isInOverlay(facts, [each])) ||
      lease.some(({ address }) => !subnets.some((each) => familyOf(each.address) === familyOf(address))),
  )
  if (lease.length === 0 || stale.length === 0) return undefined
  const units = ENGINES.map((engine) => ENGINE_UNITS[engine]).flatMap(({ unit, path }) =>
    stale.some((network) => network.path === path) ? unit : [],
  )
  return {
    code: 'engine-network-stale',
    severity: 'warn',
    what: `${count(stale.length, 'network')} made by overlayctl for another subnet than that of this host`,
    evidence: [
      ...few(stale.map((network) => wordOf(network))),
      `this host has ${lease.map(formatPrefix).join(' and ')}`,
    ],
    breaks: 'new containers get addresses that no other host knows the way to, or lack one of a family',
    fix:
      'write the file anew, then make its containers anew' +
      (units.length === 0 ? '' : `; with ${units.join(' and ')} the file is kept right`),
    commands: [...commandsFor(stale), ...units.map((unit) => `systemctl enable --now ${unit}`)],
  }
}

function outsideFinding(networks: readonly Network[]): Finding | undefined {
  if (networks.length === 0) return undefined
  return {
    code: 'engine-network-outside',
    severity: 'warn',
    what: `${count(networks.length, 'network')} with containers outside of this host's subnet`,
    evidence: few(networks.map((network) => wordOf(network))),
    breaks: 'no other host knows a way to these containers',
    fix: 'make a network on the subnet with the command, and start the containers on that network',
    commands: commandsFor(networks),
  }
}

/**
 * Where overlayd masquerades, CNI need not. Podman always does: overlayd's rules go ahead of Podman's only
 * where overlayd masquerades.
 */
function masqueradeFinding(facts: EngineFacts, networks: readonly Network[]): Finding | undefined {
  const isMasked = facts.subnetFile.value?.ipMasq
  if (isMasked === undefined) return undefined
  const engine = isMasked ? 'cni' : 'podman'
  const wrong = networks.filter((each) => each.engine === engine && each.masquerades)
  if (wrong.length === 0) return undefined
  return {
    code: 'engine-network-masquerade',
    severity: 'warn',
    what: `${WORDS[engine]} masquerades packets of ${count(wrong.length, 'network')} in the overlay`,
    evidence: few(wrong.map((network) => wordOf(network, isMasked ? ', with "ipMasq": true' : ''))),
    breaks: 'other hosts see the address of this host in place of that of the container',
    ...(isMasked
      ? {
          fix: 'set "ipMasq": false in the file; overlayd masquerades what leaves the overlay',
          commands: commandsFor(wrong),
        }
      : {
          fix: 'have overlayd masquerade: FLANNELD_IP_MASQ=true in /etc/default/overlayd; then restart it',
          commands: ['systemctl restart overlayd'],
        }),
  }
}

/** The check of the bridge judges networks with containers, by what these have. */
function mtuFinding(facts: EngineFacts, networks: readonly Network[]): Finding | undefined {
  const limit = facts.subnetFile.value?.mtu
  if (limit === undefined) return undefined
  const wrong = networks.filter(
    ({ mtu = DEFAULT_MTU, bridge }) => mtu > limit && portsOf(facts, bridge).length === 0,
  )
  if (wrong.length === 0) return undefined
  return {
    code: 'engine-network-mtu',
    severity: 'warn',
    what: `${count(wrong.length, 'network')} will give containers a larger MTU than fits`,
    evidence: few(wrong.map((each) => wordOf(each, `, MTU ${each.mtu ?? DEFAULT_MTU}; ${limit} fits`))),
    breaks: 'large packets that must not be cut are lost: connections open, and hang when data flows',
    fix: `set "mtu" to ${limit} in the file, as the file that the command makes has it`,
    commands: commandsFor(wrong),
  }
}
