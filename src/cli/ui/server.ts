/** Serves the page, and tells open pages the news as server-sent events (HTML 9.2). */
import { createServer, type Server, type ServerResponse } from 'node:http'
import { describeError, OverlayError } from '../../model/errors'
import { toJson } from '../../model/printable'
import type { Feed, News } from './feed'
import { judgeRequest } from './guard'
import { type Html, makeHtml } from './html'
import type { ListenAddress } from './listen'

/** Bounds for clients: bytes, milliseconds, connections. */
const LIMITS = {
  maxHeaderSize: 16_384,
  headersTimeout: 5000,
  requestTimeout: 5000,
  keepAliveTimeout: 5000,
  connectionsCheckingInterval: 1000,
}
const MOST_CONNECTIONS = 48
/** Of the connections: open pages. */
const MOST_PAGES = 16
/** Most bytes that wait for one page. A page that is slower is told everything once it has read them. */
const MOST_WAITING = 8 * 1024 * 1024
/** Milliseconds after which a browser connects again. */
const RETRY = 2000

/** Of every answer. */
const HEADERS = {
  'cache-control': 'no-store',
  'cross-origin-opener-policy': 'same-origin',
  'cross-origin-resource-policy': 'same-origin',
  'referrer-policy': 'no-referrer',
  'x-content-type-options': 'nosniff',
}

/**
 * @returns the server, and where it listens
 * @throws {OverlayError} `ui-listen` when it cannot listen there
 */
export async function servePage(
  wanted: ListenAddress,
  token: string,
  feed: Feed,
): Promise<{ readonly server: Server; readonly address: ListenAddress }> {
  const html = makeHtml({ kind: 'live' })
  const pages = new Set<ServerResponse>()
  const server = createServer(LIMITS, ({ method, url, headers: { host } }, response) => {
    const access = judgeRequest({ method, url, host }, token, wanted)
    if (access.kind === 'refused') return refuse(response, access.status, access.why)
    if (access.kind === 'page') return sendPage(response, html)
    if (pages.size >= MOST_PAGES)
      return refuse(response, 503, `${MOST_PAGES} pages are open, and no more are served: close one`)
    pages.add(response)
    response.on('close', () => pages.delete(response))
    stream(response, feed)
  })
  server.maxConnections = MOST_CONNECTIONS
  try {
    await new Promise<void>((resolve, reject) => {
      server.once('error', reject)
      server.listen({ host: wanted.ip, port: wanted.port }, resolve)
    })
  } catch (error) {
    throw new OverlayError(
      'ui-listen',
      `cannot serve the page on ${wanted.ip} port ${wanted.port}: ${describeError(error)}`,
      'choose another address or port with --listen',
      { cause: error },
    )
  }
  const bound = server.address()
  const port = typeof bound === 'object' && bound !== null ? bound.port : wanted.port
  return { server, address: { ip: wanted.ip, port } }
}

function refuse(response: ServerResponse, status: number, why: string): void {
  response
    .writeHead(status, {
      ...HEADERS,
      'content-type': 'text/plain; charset=utf-8',
      ...(status === 405 && ALLOW),
    })
    .end(`${why}\n`)
}

const ALLOW = { allow: 'GET, HEAD' }

function sendPage(response: ServerResponse, { text, policy }: Html): void {
  response
    .writeHead(200, {
      ...HEADERS,
      'content-type': 'text/html; charset=utf-8',
      'content-security-policy': policy,
    })
    .end(text)
}

/** Tells one page the news until it closes. */
function stream(response: ServerResponse, feed: Feed): void {
  response.writeHead(200, { ...HEADERS, 'content-type': 'text/event-stream' })
  response.write(`retry: ${RETRY}\n\n`)
  let isBehind = false
  const write = (news: News): void => {
    response.write(`data: ${toJson(news)}\n\n`)
  }
  const tell = (news: News): void => {
    isBehind ||= response.writableLength > MOST_WAITING
    if (!isBehind) write(news)
  }
  const stop = feed.follow(tell)
  response.on('drain', () => {
    if (!isBehind) return
    isBehind = false
    for (const news of feed.whole()) write(news)
  })
  response.on('close', stop)
}
