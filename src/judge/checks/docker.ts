/** Networks of Docker beside docker0: whether they are in the overlay, with the options that it needs. */
import { FAMILIES, formatPrefix } from '../../model/address'
import { count } from '../../model/count'
import { type DockerNetwork, MASQUERADE_OPTION, MTU_OPTION } from '../../model/docker'
import type { Known } from '../facts'
import { type Check, check, type Finding, few, type Outcome, outcome } from '../finding'
import { isInOverlay, OVERLAY, type OverlayFacts, portsOf } from '../overlay'
import { containerBridges } from './bridge'

/** Docker's own default (drivers/bridge in moby). */
const DEFAULT_MTU = 1500
/** The network of docker0, which takes its options from dockerd's flags. */
const DEFAULT_NETWORK = 'bridge'

export const DOCKER_CHECKS: readonly Check[] = [
  check({
    name: 'docker',
    about: "Docker's networks are in the overlay, without masquerading, and with an MTU that fits",
    needs: ['docker', 'kernel'],
    uses: OVERLAY,
    premise: 'started',
    run: checkDocker,
  }),
]

type DockerFacts = OverlayFacts & Known<'docker' | 'kernel'>

function checkDocker(facts: DockerFacts): Outcome {
  const docker = facts.docker.value
  if (docker === undefined) return outcome('no dockerd runs here', [])
  const networks = docker.networks.filter(({ isInternal }) => !isInternal)
  const inside = networks.filter(({ subnets }) => isInOverlay(facts, subnets))
  const outside = networks.filter(
    (network) => !isInOverlay(facts, network.subnets) && isToldOf(facts, network),
  )
  const names = few(inside.map(({ name }) => name)).join(', ')
  return outcome(`${count(inside.length, 'network')} in the overlay${names === '' ? '' : `: ${names}`}`, [
    outsideFinding(outside),
    masqueradeFinding(facts, inside),
    mtuFinding(facts, inside),
  ])
}

/**
 * A network without a running container is not worth a word. Where no bridge at all is on the subnet, the
 * check of the bridge says so of docker0.
 */
function isToldOf(facts: DockerFacts, { name, bridge, subnets }: DockerNetwork): boolean {
  if (subnets.length === 0) return false
  if (name === DEFAULT_NETWORK && FAMILIES.every((family) => containerBridges(facts, family).length === 0))
    return false
  return portsOf(facts, bridge).length > 0
}

const wordOf = ({ name, bridge, subnets }: DockerNetwork, more = ''): string =>
  `${name} (${bridge}) has ${subnets.map(formatPrefix).join(' and ')}${more}`

function outsideFinding(networks: readonly DockerNetwork[]): Finding | undefined {
  if (networks.length === 0) return undefined
  return {
    code: 'docker-network-outside',
    severity: 'warn',
    what: `${count(networks.length, 'network')} of Docker with containers outside of this host's subnet`,
    evidence: few(networks.map((network) => wordOf(network))),
    breaks: 'no other host knows a way to these containers',
    fix:
      'share the subnet out (DOCKER_NETWORKS=27 in /etc/default/docker, then restart Docker) and make the ' +
      'networks anew; or make single networks on the subnet',
    commands: ['overlayctl docker-network'],
  }
}

/** Docker's rule is made anew at each start of Docker, ahead of those that keep it from packets to others. */
function masqueradeFinding(facts: DockerFacts, networks: readonly DockerNetwork[]): Finding | undefined {
  if (facts.subnetFile.value?.ipMasq !== true) return undefined
  const wrong = networks.filter(({ masquerades }) => masquerades)
  if (wrong.length === 0) return undefined
  const isDefault = wrong.every(({ name }) => name === DEFAULT_NETWORK)
  return {
    code: 'docker-network-masquerade',
    severity: 'warn',
    what: `Docker masquerades packets of ${count(wrong.length, 'network')} in the overlay`,
    evidence: few(wrong.map((network) => wordOf(network, `, without ${MASQUERADE_OPTION}=false`))),
    breaks:
      'other hosts see the address of this host in connections that begin before overlayd has put its ' +
      'rules ' +
      "ahead of Docker's, which it does within a second",
    ...(isDefault
      ? {
          fix: 'start Docker with --ip-masq=false, as overlayctl docker-opts has it',
          commands: ['systemctl restart docker'],
        }
      : {
          fix:
            `make them anew with -o ${MASQUERADE_OPTION}=false; ` +
            'overlayd masquerades what leaves the overlay',
          commands: ['overlayctl docker-network'],
        }),
  }
}

/** The check of the bridge judges networks with containers, by what these have. */
function mtuFinding(facts: DockerFacts, networks: readonly DockerNetwork[]): Finding | undefined {
  const limit = facts.subnetFile.value?.mtu
  if (limit === undefined) return undefined
  const wrong = networks.filter(
    ({ name, mtu = DEFAULT_MTU, bridge }) =>
      name !== DEFAULT_NETWORK && mtu > limit && portsOf(facts, bridge).length === 0,
  )
  if (wrong.length === 0) return undefined
  return {
    code: 'docker-network-mtu',
    severity: 'warn',
    what: `${count(wrong.length, 'network')} of Docker will give containers a larger MTU than fits`,
    evidence: few(
      wrong.map((network) => wordOf(network, `, MTU ${network.mtu ?? DEFAULT_MTU}; ${limit} fits`)),
    ),
    breaks: 'large packets that must not be cut are lost: connections open, and hang when data flows',
    fix: `make them anew with -o ${MTU_OPTION}=${limit}`,
    commands: ['overlayctl docker-network'],
  }
}
