/**
 * CNI as flannel's plugin does it (flannel-io/cni-plugin): subnet.env becomes the config of a delegate, which the reference plugins of
 * containernetworking carry out.
 */
import { existsSync } from 'node:fs'
import { z } from 'zod'
import type { Host } from './host'
import { inNamespace } from './namespace'
import { runOk } from './process'

const PLUGINS = '/usr/lib/cni'

/** What the plugin reads of subnet.env. */
export interface CniSubnetEnv {
  readonly networks: readonly string[]
  /** `10.5.12.1/24`, IPv4 first. */
  readonly subnets: readonly string[]
  readonly mtu: number
  readonly ipMasq: boolean
}

/**
 * Reads it as strictly as the plugin: lines split at the first `=`, values as they stand, unknown lines left out.
 * @throws {Error} naming what is missing or unusable
 */
export function readCniSubnetEnv(text: string): CniSubnetEnv {
  const values = new Map(
    text.split('\n').map((line) => {
      const at = line.indexOf('=')
      // The real one crashes.
      if (at === -1 && line.startsWith('FLANNEL_'))
        throw new Error(`no = in the line ${JSON.stringify(line)}`)
      return [line.slice(0, at), line.slice(at + 1)]
    }),
  )
  const both = (name: string): string[] =>
    [values.get(`FLANNEL_${name}`), values.get(`FLANNEL_IPV6_${name}`)].filter((value) => value !== undefined)
  const networks = both('NETWORK').flatMap((list) => list.split(','))
  const subnets = both('SUBNET')
  for (const prefix of [...networks, ...subnets]) z.union([z.cidrv4(), z.cidrv6()]).parse(prefix)
  const mtu = values.get('FLANNEL_MTU') ?? ''
  const ipMasq = values.get('FLANNEL_IPMASQ')
  if (networks.length === 0 || subnets.length === 0 || ipMasq === undefined || !/^\d+$/.test(mtu)) {
    throw new Error(`FLANNEL_NETWORK, FLANNEL_SUBNET, FLANNEL_MTU or FLANNEL_IPMASQ is missing in ${text}`)
  }
  return { networks, subnets, mtu: Number(mtu), ipMasq: ipMasq === 'true' }
}

/** The delegate's config with flannel's defaults. */
export function delegateConfig({ networks, subnets, mtu, ipMasq }: CniSubnetEnv, dataDir: string) {
  return {
    cniVersion: '0.4.0',
    name: 'overlay',
    type: 'bridge',
    isGateway: true,
    // Who masquerades is one of the two.
    ipMasq: !ipMasq,
    mtu,
    ipam: {
      type: 'host-local',
      ranges: subnets.map((subnet) => [{ subnet: masked(subnet) }]),
      routes: networks.map((dst) => ({ dst })),
      dataDir,
    },
  }
}

const resultSchema = z.object({
  ips: z.tuple([z.object({ address: z.string(), gateway: z.string() })]),
  routes: z.array(z.object({ dst: z.string() })),
})

/** Runs the delegate for a container, a namespace that exists already, on a host. */
export async function runCni(
  verb: 'ADD' | 'DEL',
  host: Host,
  namespace: string,
  config: ReturnType<typeof delegateConfig>,
) {
  if (!existsSync(`${PLUGINS}/${config.type}`)) {
    throw new Error(`${PLUGINS}/${config.type} is missing; apt-get install containernetworking-plugins`)
  }
  const output = await runOk(inNamespace(host.namespace, [`${PLUGINS}/${config.type}`]), {
    input: JSON.stringify(config),
    env: {
      PATH: process.env['PATH'],
      CNI_COMMAND: verb,
      CNI_CONTAINERID: namespace,
      CNI_NETNS: `/run/netns/${namespace}`,
      CNI_IFNAME: 'eth0',
      CNI_PATH: PLUGINS,
    },
  })
  return verb === 'ADD' ? resultSchema.parse(JSON.parse(output)) : undefined
}

/** The network of an IPv4 /24: all that hosts of the lab have. */
function masked(subnet: string): string {
  if (!subnet.endsWith('.1/24')) throw new Error(`${subnet} is not the first address of an IPv4 /24`)
  return subnet.replace(/1\/24$/, '0/24')
}
