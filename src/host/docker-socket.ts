/**
 * The API of the dockerd that runs on this host, over its socket (docs.docker.com/reference/api/engine).
 * Whoever may open the socket is root in effect, so dockerd's answers are trusted in what they say, and
 * bounded in size and time.
 */
import { request } from 'node:http'
import { z } from 'zod'
import { parseIpPrefix } from '../model/address'
import { bridgeName, type DockerNetwork, isFalse, MASQUERADE_OPTION, MTU_OPTION } from '../model/docker'
import { OverlayError } from '../model/errors'

/** Code of the error of a user who may not ask. */
export const DOCKER_RIGHTS = 'docker-rights'

const SOCKET = '/var/run/docker.sock'
/** Milliseconds. dockerd answers from memory, and makes a network within a second. */
const DEADLINE = 10_000
/** Bytes: 10,000 networks have 8 MB. */
const MOST_BYTES = 16 * 1024 * 1024

const networkSchema = z.object({
  Name: z.string().max(1000),
  Id: z.string().regex(/^[0-9a-z]{12,128}$/),
  Driver: z.string().max(200),
  Internal: z.boolean().optional(),
  Options: z.record(z.string(), z.string()).nullish(),
  IPAM: z
    .object({ Config: z.array(z.object({ Subnet: z.string().max(100).optional() })).nullish() })
    .nullish(),
})
const refusalSchema = z.object({ message: z.string().max(10_000) })

/** The path of the socket that docker(1) uses too, for `DOCKER_HOST=unix://...` and without it. */
function socketPath(): string {
  const host = process.env['DOCKER_HOST']
  if (host === undefined || host === '') return SOCKET
  if (host.startsWith('unix://')) return host.slice('unix://'.length)
  throw new OverlayError(
    'docker',
    'DOCKER_HOST is not a socket of this host, and only the Docker of this host is asked',
    'unset DOCKER_HOST, or set it to unix:///var/run/docker.sock',
  )
}

/**
 * The networks of the driver `bridge`.
 * @returns `undefined` where no dockerd runs
 * @throws {OverlayError} `docker`; {@link DOCKER_RIGHTS} when this user may not ask
 */
export async function readDockerNetworks(signal: AbortSignal): Promise<readonly DockerNetwork[] | undefined> {
  const networks = await ask('GET', '/networks', z.array(networkSchema), signal)
  return networks?.filter(({ Driver }) => Driver === 'bridge').map(networkOf)
}

function networkOf({ Name, Id, Internal, Options, IPAM }: z.infer<typeof networkSchema>): DockerNetwork {
  const options = Options ?? {}
  const subnets = (IPAM?.Config ?? []).flatMap(({ Subnet = '' }) => parseIpPrefix(Subnet) ?? [])
  const mtu = Number(options[MTU_OPTION])
  return {
    name: Name,
    bridge: bridgeName(Id, options),
    subnets,
    mtu: mtu > 0 ? mtu : undefined,
    masquerades: !isFalse(options[MASQUERADE_OPTION]),
    isInternal: Internal === true,
  }
}

/**
 * Makes a network.
 * @param body as the API takes it
 * @throws {OverlayError} `docker`, with dockerd's words
 */
export async function createDockerNetwork(body: object, signal: AbortSignal): Promise<string> {
  const made = await ask('POST', '/networks/create', z.object({ Id: z.string().max(200) }), signal, body)
  if (made === undefined) throw dockerIsDown()
  return made.Id
}

export const dockerIsDown = (): OverlayError =>
  new OverlayError('docker', `no dockerd answers at ${socketPath()}`, 'systemctl start docker')

/** @returns `undefined` where nobody listens */
async function ask<T>(
  method: 'GET' | 'POST',
  path: string,
  schema: z.ZodType<T>,
  signal: AbortSignal,
  body?: object,
): Promise<T | undefined> {
  const answer = await exchange(method, path, AbortSignal.any([signal, AbortSignal.timeout(DEADLINE)]), body)
  if (answer === undefined) return undefined
  const parsed = parseJson(answer.text)
  if (answer.status >= 400) {
    const refusal = refusalSchema.safeParse(parsed)
    const words = refusal.success ? refusal.data.message : `HTTP status ${answer.status}`
    throw new OverlayError('docker', `dockerd refuses: ${words}`)
  }
  const result = schema.safeParse(parsed)
  if (result.success) return result.data
  throw new OverlayError('docker', `dockerd answers ${path} in a form that is not known`)
}

interface Answer {
  readonly status: number
  readonly text: string
}

function exchange(
  method: string,
  path: string,
  signal: AbortSignal,
  body?: object,
): Promise<Answer | undefined> {
  const socket = socketPath()
  const text = body === undefined ? '' : JSON.stringify(body)
  const headers = {
    host: 'docker',
    ...(text !== '' && { 'content-type': 'application/json', 'content-length': Buffer.byteLength(text) }),
  }
  return new Promise((resolve, reject) => {
    const fail = (error: NodeJS.ErrnoException): void => {
      if (error.code === 'ENOENT' || error.code === 'ECONNREFUSED') resolve(undefined)
      else if (error.code === 'EACCES') {
        const what = `${socket}: permission denied`
        reject(new OverlayError(DOCKER_RIGHTS, what, 'run overlayctl as root', { cause: error }))
      } else {
        const what = signal.aborted ? `no answer within ${DEADLINE / 1000} s` : error.message
        reject(
          new OverlayError(
            'docker',
            `dockerd at ${socket}: ${what}`,
            'look at its log: journalctl -u docker',
            { cause: error },
          ),
        )
      }
    }
    const asked = request({ socketPath: socket, method, path, headers, signal }, (response) => {
      const chunks: Buffer[] = []
      let size = 0
      response.on('data', (chunk: Buffer) => {
        size += chunk.length
        if (size > MOST_BYTES) response.destroy(new Error(`an answer of more than ${MOST_BYTES} bytes`))
        else chunks.push(chunk)
      })
      response.on('end', () =>
        resolve({ status: response.statusCode ?? 0, text: Buffer.concat(chunks).toString() }),
      )
      response.on('error', fail)
    })
    asked.on('error', fail)
    asked.end(text)
  })
}

function parseJson(text: string): unknown {
  try {
    return JSON.parse(text)
  } catch {
    return undefined
  }
}
