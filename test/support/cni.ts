/**
 * A model of flannel's CNI plugin (flannel-io/cni-plugin): it turns subnet.env into the config of a delegate,
 * one of the reference plugins of containernetworking, and runs the delegate.
 */
import { existsSync } from 'node:fs'
import { z } from 'zod'
import type { Host } from '../lab/host'
import { inNamespace } from '../lab/namespace'
import { runOk } from '../lab/process'

const PLUGINS = '/usr/lib/cni'

/** The values of subnet.env that the plugin uses. */
export interface CniSubnetEnv {
  readonly networks: readonly string[]
  /** `10.5.12.1/24`, IPv4 first. */
  readonly subnets: readonly string[]
  readonly mtu: number
  readonly ipMasq: boolean
}

/**
 * Parses subnet.env as strictly as the plugin: lines are split at the first `=`, values are not unquoted,
 * unknown lines are ignored.
 * @throws {Error} that names the missing or invalid value
 */
export function readCniSubnetEnv(text: string): CniSubnetEnv {
  const values = new Map(
    text.split('\n').map((line) => {
      const at = line.indexOf('=')
      // The real plugin crashes on such a line.
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

/** The delegate's config, with the plugin's defaults. */
export function delegateConfig({ networks, subnets, mtu, ipMasq }: CniSubnetEnv, dataDir: string) {
  return {
    cniVersion: '0.4.0',
    name: 'overlay',
    type: 'bridge',
    isGateway: true,
    // Either flannel masquerades or the delegate does.
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

/**
 * Runs the delegate on a host for a container.
 * @param namespace of the container; it has to exist
 * @returns the result of ADD, undefined for DEL
 */
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

/** The network of a host's address in an IPv4 /24, the only kind of subnet that hosts of the lab have. */
function masked(subnet: string): string {
  if (!subnet.endsWith('.1/24')) throw new Error(`${subnet} is not the first address of an IPv4 /24`)
  return subnet.replace(/1\/24$/, '0/24')
}
