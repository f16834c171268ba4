/**
 * `overlayctl cni` and `overlayctl podman-network`: the file with which container engines other than Docker
 * make a network on this host's subnet.
 */
import { lstat, rename } from 'node:fs/promises'
import { basename, resolve } from 'node:path'
import { writeFileAtomically } from '../../host/atomic-file'
import { readDockerNetworks } from '../../host/docker-socket'
import { parseEngineFile, readEngineFiles } from '../../host/engine-files'
import { complain, print } from '../../host/streams'
import { readSubnetVariables } from '../../host/subnet-env'
import { readFileOfOthers } from '../../host/trusted-path'
import { formatPrefix, networkOf, type Prefix } from '../../model/address'
import { COMMANDS, type Engine, type EngineFile, type UnreadEngineFile } from '../../model/engines'
import { describeError, OverlayError, systemErrorCode } from '../../model/errors'
import type { Options } from '../../options/schema'
import { partsOfDocker } from '../../plan/host/docker-network'
import {
  cniList,
  ENGINE_CODES,
  type EngineNetwork,
  type HostSubnets,
  planEngineNetwork,
  podmanNetwork,
  readHostSubnets,
} from '../../plan/host/engine-network'
import type { TakenPart } from '../../plan/host/free-part'
import { subnetWith } from '../../plan/host/own-subnets'
import { readFurther } from '../ask/further-subnets'
import { readLength, readParts } from '../ask/subnet-part'

export interface EngineNetworkFlags {
  readonly name: string
  /** The file to write; empty: the text is printed. */
  readonly output: string
  /** Parts of subnets of this host, at most one of each family; absent for none. */
  readonly subnet: readonly string[] | undefined
  /** Prefix length of the part. */
  readonly size: string | undefined
  /** Sets a file of somebody's own aside. */
  readonly force: boolean
}

/** Milliseconds for dockerd's answer. */
const DEADLINE = 30_000
/** The suffix of a file that is set aside. No engine reads it. */
const ASIDE = '.before-overlayd'
/** Each exists where Docker takes its subnet from overlayd. */
const DOCKER_FOLLOWS = [
  '/run/docker_opts.env',
  '/etc/systemd/system/docker.service.d/40-overlayd.conf',
] as const

const TEXTS: Readonly<Record<Engine, (network: EngineNetwork) => object>> = {
  cni: cniList,
  podman: podmanNetwork,
}

/** @throws {OverlayError} `cni` or `podman-network`; `docker`, `subnet-file`, `engine-files` */
export async function runEngineNetwork(
  engine: Engine,
  options: Options,
  flags: EngineNetworkFlags,
): Promise<void> {
  const subnetFile = options['subnet-file']
  const code = ENGINE_CODES[engine]
  const parts = readParts(flags.subnet ?? [], code)
  const length = flags.size === undefined ? undefined : readLength(flags.size, code)
  const output = flags.output === '' ? undefined : resolve(flags.output)
  if (output !== undefined) refuseName(engine, output, flags.name)
  const subnets = readHostSubnets(await readSubnetVariables(subnetFile), engine)
  if (!subnets.ok)
    throw new OverlayError(
      code,
      `${subnetFile}: ${subnets.problem.text}`,
      'start overlayd, or name the file with --subnet-file',
    )
  const { files, problems, unread } = await readEngineFiles()
  refuseUnread(unread)
  for (const problem of problems) complain(`overlayctl: ${problem}`)
  const present = output === undefined ? undefined : await readPresent(code, output)
  const own =
    output === undefined
      ? files.find((file) => isMade(file, engine) && file.name === flags.name)
      : readOwn(engine, output, present)
  const isForeign = present !== undefined && own === undefined
  if (isForeign && !flags.force) throw foreign(engine, output)
  const former = own?.subnets ?? []
  const further = await furtherFor(options, subnets.value, [...parts, ...former])
  const others = files.filter(({ path }) => path !== own?.path && path !== output)
  refuseTwin(engine, flags.name, others)
  const taken = [
    ...others.flatMap((file) => partsOf(file, subnets.value)),
    ...(await partsOfDockerd(code, parts.length > 0 || former.length > 0)),
  ]
  const planned = planEngineNetwork(
    { engine, name: flags.name, parts, length, former },
    { ...subnets.value, further },
    taken,
  )
  if (!planned.ok) throw new OverlayError(code, planned.problem.text)
  const text = `${JSON.stringify(TEXTS[engine](planned.value), undefined, 2)}\n`
  warnOfMasquerading(engine, subnets.value)
  if (output === undefined) {
    print(text)
    return
  }
  const what = `network ${flags.name}: ${planned.value.parts.map(formatPrefix).join(' and ')}`
  if (present === text) {
    print(`${what}, as ${output} says already\n`)
    return
  }
  if (isForeign) {
    await change(code, output, () => rename(output, `${output}${ASIDE}`))
    print(`set aside: ${output}${ASIDE}\n`)
  }
  await change(code, output, () => writeFileAtomically(output, text, 0o644))
  print(`${what}, in ${output}\n`)
}

/** The further subnets of this host, where a part may be of one. */
async function furtherFor(
  options: Options,
  { subnet, subnet6 }: HostSubnets,
  parts: readonly Prefix[],
): Promise<readonly Prefix[]> {
  const leased: readonly Prefix[] = subnet6 === undefined ? [subnet] : [subnet, subnet6]
  const isElsewhere = ({ address }: Prefix): boolean => subnetWith(leased, address) === undefined
  return parts.some(isElsewhere) ? readFurther(options, subnet) : []
}

/** A network that is not known may have any part. */
function refuseUnread([first]: readonly UnreadEngineFile[]): void {
  if (first === undefined) return
  const { path, why, isDenied } = first
  throw new OverlayError(
    'engine-files',
    `cannot read ${path}: ${why}`,
    isDenied ? 'run overlayctl as root' : undefined,
  )
}

/** The engines read files with certain names only. */
function refuseName(engine: Engine, output: string, name: string): void {
  if (engine === 'cni' && !output.endsWith('.conflist'))
    throw new OverlayError(
      ENGINE_CODES.cni,
      `${output} does not end in .conflist, and CNI does not read it`,
      'name a file such as /etc/cni/net.d/30-overlayd.conflist',
    )
  if (engine === 'podman' && basename(output) !== `${name}.json`)
    throw new OverlayError(
      ENGINE_CODES.podman,
      `Podman reads the network ${name} only from a file with the name ${name}.json, not ${output}`,
      `--output=/etc/containers/networks/${name}.json, or another --name`,
    )
}

const isMade = (file: EngineFile, engine: Engine): boolean =>
  file.engine === engine && file.madeBy === COMMANDS[engine]

/** The present file, if overlayctl made it: its parts are not taken by somebody else. */
function readOwn(engine: Engine, path: string, text: string | undefined): EngineFile | undefined {
  if (text === undefined) return undefined
  try {
    const file = { engine, path, ...parseEngineFile(engine, text) }
    return isMade(file, engine) ? file : undefined
  } catch {
    return undefined
  }
}

function refuseTwin(engine: Engine, name: string, others: readonly EngineFile[]): void {
  const twin = others.find((file) => file.engine === engine && file.name === name)
  if (twin === undefined) return
  throw new OverlayError(
    ENGINE_CODES[engine],
    `${twin.path} has a network with the name ${name} already`,
    'choose another --name, or remove that file',
  )
}

const foreign = (engine: Engine, output: string | undefined): OverlayError =>
  new OverlayError(
    ENGINE_CODES[engine],
    `${output} is a file of your own: ${COMMANDS[engine]} has not made it`,
    `give --force to set the file aside as ${output}${ASIDE}`,
  )

/** The text of the present file. */
async function readPresent(code: string, path: string): Promise<string | undefined> {
  return change(code, path, () =>
    readFileOfOthers(path).catch((error: unknown) => {
      if (['ENOENT', 'ENOTDIR'].includes(systemErrorCode(error) ?? '')) return undefined
      throw error
    }),
  )
}

function partsOf(file: EngineFile, host: HostSubnets): TakenPart[] {
  const { engine, path, name, subnets, isFlannel } = file
  const room = isMade(file, engine)
    ? `give that network a part first: ${COMMANDS[engine]} --name=${name} --size=27 --output=${path}`
    : 'give that network a part first, in that file'
  const whole = [host.subnet, ...(host.subnet6 === undefined ? [] : [host.subnet6])]
  const prefixes = isFlannel ? whole.map(({ address, length }) => networkOf(address, length)) : subnets
  return prefixes.map((prefix) => ({ name: `the network ${name} in ${path}`, prefix, room }))
}

/**
 * What Docker has.
 * @param isKnown whether the part is known, so that no free one is looked for
 */
async function partsOfDockerd(code: string, isKnown: boolean): Promise<readonly TakenPart[]> {
  const networks = await readDockerNetworks(AbortSignal.timeout(DEADLINE)).catch((error: unknown) => {
    // A network that has its part must not wait for dockerd, which starts later than overlayd.
    if (isKnown) return undefined
    throw error
  })
  if (networks !== undefined) return partsOfDocker(networks)
  if (isKnown) return []
  for (const path of DOCKER_FOLLOWS) {
    const exists = await lstat(path).then(
      () => true,
      () => false,
    )
    if (!exists) continue
    throw new OverlayError(
      code,
      `Docker takes its part of the subnet from overlayd (${path}), and no dockerd says which`,
      'systemctl start docker, or name a part with --subnet',
    )
  }
  return []
}

function warnOfMasquerading(engine: Engine, { ipMasq }: HostSubnets): void {
  if (ipMasq) return
  complain(
    engine === 'cni'
      ? 'overlayctl: overlayd does not masquerade here, so containers of this network do not reach the ' +
          'Internet; FLANNELD_IP_MASQ=true in /etc/default/overlayd changes that'
      : 'overlayctl: Podman gives packets to other hosts the address of this host, unless overlayd ' +
          'masquerades: ' +
          'set FLANNELD_IP_MASQ=true in /etc/default/overlayd',
  )
}

async function change<T>(code: string, path: string, act: () => Promise<T>): Promise<T> {
  try {
    return await act()
  } catch (error) {
    const isDenied = ['EACCES', 'EPERM'].includes(systemErrorCode(error) ?? '')
    const fix = isDenied ? 'do it as root' : undefined
    throw new OverlayError(code, `cannot use ${path}: ${describeError(error)}`, fix, { cause: error })
  }
}
