/**
 * Container engines other than Docker, as far as networks go: what the engine does with a file that
 * overlayctl made, for a container that is a network namespace.
 */
import { existsSync } from 'node:fs'
import { z } from 'zod'
import type { Host } from '../lab/host'
import { inNamespace } from '../lab/namespace'
import { run, runOk } from '../lab/process'
import { OVERLAYCTL } from '../lab/programs'

const PLUGINS = '/usr/lib/cni'
const NETAVARK = '/usr/lib/podman/netavark'

/**
 * Runs overlayctl on a host whose /etc is a directory of the test.
 * @param etc that directory
 */
export const overlayctlWithEtc = (host: Host, etc: string, args: readonly string[]) =>
  run(
    inNamespace(host.namespace, [
      ...['unshare', '--mount', 'sh', '-c', 'mount --bind "$1" /etc && shift && exec "$@"', 'sh', etc],
      ...[process.execPath, OVERLAYCTL, ...args, `--subnet-file=${host.subnetFile}`],
    ]),
    // A variable of the test's may name a file in /etc.
    { env: { PATH: process.env['PATH'] } },
  )

const listSchema = z.object({
  cniVersion: z.string(),
  name: z.string(),
  plugins: z.array(z.looseObject({ type: z.string(), ipam: z.looseObject({}).optional() })),
})
const resultSchema = z.looseObject({ ips: z.array(z.object({ address: z.string() })) })

/**
 * Does what a container engine does with a list of CNI plugins (libcni: AddNetworkList).
 * @param namespace of the container; it has to exist
 * @param dataDir where host-local keeps addresses
 * @returns addresses without lengths
 */
export async function addCniNetwork(
  host: Host,
  namespace: string,
  file: string,
  dataDir: string,
): Promise<readonly string[]> {
  const { cniVersion, name, plugins } = listSchema.parse(JSON.parse(file))
  let result: z.infer<typeof resultSchema> | undefined
  for (const { ipam, ...plugin } of plugins) {
    const program = `${PLUGINS}/${plugin.type}`
    if (!existsSync(program))
      throw new Error(`${program} is missing; apt-get install containernetworking-plugins`)
    const config = {
      cniVersion,
      name,
      ...plugin,
      ...(ipam && { ipam: { ...ipam, dataDir } }),
      ...(result && { prevResult: result }),
    }
    const output = await runOk(inNamespace(host.namespace, [program]), {
      input: JSON.stringify(config),
      env: {
        PATH: process.env['PATH'],
        CNI_COMMAND: 'ADD',
        CNI_CONTAINERID: namespace,
        CNI_NETNS: `/run/netns/${namespace}`,
        CNI_IFNAME: 'eth0',
        CNI_PATH: PLUGINS,
      },
    })
    result = resultSchema.parse(JSON.parse(output))
  }
  return (result?.ips ?? []).map(({ address }) => address.replace(/\/\d+$/, ''))
}

const networkSchema = z.looseObject({
  name: z.string(),
  subnets: z.array(z.object({ subnet: z.string(), gateway: z.string() })),
})

/**
 * Does what Podman does with a network: chooses the first free addresses, and calls netavark.
 * @param namespace of the container; it has to exist
 * @param directory where netavark keeps its state
 * @returns addresses without lengths
 */
export async function addPodmanNetwork(
  host: Host,
  namespace: string,
  file: string,
  directory: string,
): Promise<readonly string[]> {
  if (!existsSync(NETAVARK)) throw new Error(`${NETAVARK} is missing; apt-get install netavark`)
  const network = networkSchema.parse(JSON.parse(file))
  const addresses = network.subnets.map(({ gateway }) => gateway.replace(/1$/, '2'))
  await runOk(
    inNamespace(host.namespace, [NETAVARK, '--config', directory, 'setup', `/run/netns/${namespace}`]),
    {
      input: JSON.stringify({
        container_id: Buffer.from(namespace).toString('hex').padEnd(64, '0'),
        container_name: namespace,
        networks: { [network.name]: { static_ips: addresses, interface_name: 'eth0' } },
        network_info: { [network.name]: network },
      }),
    },
  )
  return addresses
}
