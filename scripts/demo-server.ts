/**
 * The server for requests to a kept demo: HTTP over a socket that exists only in its sandbox.
 * scripts/demo-client.ts is the client.
 */
import { createServer, type IncomingMessage, type ServerResponse } from 'node:http'
import { z } from 'zod'

/** In the sandbox's own /run, which only the sandbox's user can enter. */
export const SOCKET = '/run/overlayd-demo.sock'
/** The trailer with the outcome of a request: `ok` or `failed`. */
export const OUTCOME = 'outcome'

/** A place in the demo that a user wants to enter. */
const placeSchema = z.object({
  /** Name of a host or a container. */
  name: z.string().max(64),
  /** The user's working directory. */
  directory: z.string().startsWith('/').max(4096),
  /** Kind of the user's terminal, as in TERM. */
  terminal: z
    .string()
    .regex(/^[\w.+-]{1,64}$/)
    .catch('dumb'),
  /** Whether a shell is wanted; otherwise the user has a command. */
  shell: z.enum(['yes', 'no']).transform((text) => text === 'yes'),
})
export type Place = z.infer<typeof placeSchema>

type Write = (text: string) => void

export interface Answers {
  /** @returns the words of a command. @throws if there is no such place */
  enter(place: Place): readonly string[]
  /** @returns whether it succeeded */
  add(write: Write): Promise<boolean>
  status(write: Write): Promise<boolean>
}

/** Answers requests as long as the process runs. */
export function serve(answers: Answers): Promise<void> {
  const server = createServer((request, response) => {
    // The client may be gone before the answer is complete.
    response.on('error', () => {})
    answer(answers, request, response).catch((error: unknown) => {
      const text = error instanceof Error ? error.message : String(error)
      response.writeHead(400, { 'content-type': 'text/plain' }).end(`${text}\n`)
    })
  })
  return new Promise((resolve, reject) => {
    server.once('error', reject)
    server.listen(SOCKET, resolve)
  })
}

async function answer(answers: Answers, { url = '/' }: IncomingMessage, response: ServerResponse) {
  const { pathname, searchParams } = new URL(url, 'http://demo')
  const write = (text: string) => void response.write(text)
  if (pathname === '/enter') {
    const command = answers.enter(placeSchema.parse(Object.fromEntries(searchParams)))
    response.end(command.map((word) => `${word}\0`).join(''))
  } else if (pathname === '/add' || pathname === '/status') {
    response.writeHead(200, { trailer: OUTCOME })
    response.flushHeaders()
    const succeeded = await (pathname === '/add' ? answers.add(write) : answers.status(write))
    response.addTrailers({ [OUTCOME]: succeeded ? 'ok' : 'failed' })
    response.end()
  } else {
    throw new Error(`the demo has no request ${pathname}`)
  }
}
