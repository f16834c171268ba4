/**
 * Requests of the control socket, for the daemon and for overlayctl: HTTP/1.1 over a unix socket in the run
 * directory. A new request is a line of {@link REQUESTS} and a handler in the daemon.
 */
import { join } from 'node:path'
import { z } from 'zod'
import { FAMILIES } from '../model/address'
import { MOST_PRIORITY, MOST_VIA_TEXT, MOST_WEIGHT } from '../model/prefixes'

export const controlSocketPath = (runDirectory: string): string => join(runDirectory, 'overlayd.sock')

/** The socket for members of the daemon's group. It answers {@link READERS_REQUESTS} alone. */
export const statusSocketPath = (runDirectory: string): string => join(runDirectory, 'status.sock')

/** Body of `POST /drain`. */
const drainRequestSchema = () => z.strictObject({ schema: z.literal(1), drained: z.boolean() })

/** Body of `POST /rotate-key`. */
const rotateKeyRequestSchema = () => z.strictObject({ schema: z.literal(1) })

/** Body of `POST /identity`. */
const identityRequestSchema = () => z.strictObject({ schema: z.literal(1) })

/** The longest text of a prefix: an IPv6 address with `/128`. */
const MOST_PREFIX_TEXT = 64
/** Ten years in seconds. */
export const MOST_SECONDS = 315_360_000

/** Body of `POST /announce`. */
const announceRequestSchema = () =>
  z.strictObject({
    schema: z.literal(1),
    prefix: z.string().max(MOST_PREFIX_TEXT),
    priority: z.int().min(0).max(MOST_PRIORITY),
    /** Without it, until it is withdrawn. */
    forSeconds: z.int().min(1).max(MOST_SECONDS).optional(),
    /** Where this host sends its packets: a link or a gateway. Without it, where its own routes lead. */
    via: z.string().max(MOST_VIA_TEXT).optional(),
    /** The weight with which this host shares with others. Without it, it shares with nobody. */
    share: z.int().min(1).max(MOST_WEIGHT).optional(),
  })

/** Body of `POST /withdraw`. */
const withdrawRequestSchema = () =>
  z.strictObject({
    schema: z.literal(1),
    prefix: z.string().max(MOST_PREFIX_TEXT),
  })

/** Body of `POST /subnets/add`. */
const addSubnetRequestSchema = () =>
  z.strictObject({
    schema: z.literal(1),
    /** Without it, IPv4 where the network has it. */
    family: z.enum(FAMILIES).optional(),
    /** Without it, that of the subnets that hosts lease. */
    length: z.int().min(0).max(128).optional(),
  })

/** Body of `POST /subnets/remove`. */
const removeSubnetRequestSchema = withdrawRequestSchema

/** The most characters of an option's value, and the most values of an option. */
const MOST_TEXT = 16_384
const MOST_VALUES = 256

/** Answer to `GET /settings`: the options of the running daemon as text, without the password. */
const settingsSchema = () =>
  z.object({
    schema: z.literal(1),
    pid: z.number().int().positive(),
    options: z.record(
      z.string().max(64),
      z.union([z.string().max(MOST_TEXT), z.array(z.string().max(MOST_TEXT)).max(MOST_VALUES)]),
    ),
  })

/** Body of an answer with HTTP status 400 or 409: the fields of an OverlayError. */
export const refusalSchema = () =>
  z.object({ code: z.string(), message: z.string(), fix: z.string().optional() })
export type Refusal = z.infer<ReturnType<typeof refusalSchema>>

export interface RequestShape {
  readonly method: 'GET' | 'POST'
  readonly path: string
  /** Makes the schema of the body, which is JSON. */
  readonly body?: () => z.ZodType
  /**
   * `json`: one document. `lines`: one JSON document a line, without end where the path says `follow`.
   * `text`: anything.
   */
  readonly form: 'json' | 'lines' | 'text'
  /** Loads the schema of the answer: overlayctl reads one, and the daemon none. */
  readonly answer: () => Promise<z.ZodType>
}

const statusSchema = async () => (await import('./status.js')).statusSchema
const objectsDocumentSchema = async () => (await import('./documents.js')).objectsDocumentSchema
const prefixesDocumentSchema = async () => (await import('./documents.js')).prefixesDocumentSchema
const eventSchema = async () => (await import('./events.js')).eventSchema

export const REQUESTS = {
  /**
   * The status document, with an `etag` that changes when the document does, apart from clocks and latencies.
   * With `if-none-match` and `prefer: wait=SECONDS` (RFC 7240) the answer comes as soon as the document is
   * another one, or is 304 after that time.
   */
  status: { method: 'GET', path: '/status', form: 'json', answer: statusSchema },
  /** The same with the peers that a person is shown first, and the number of all. */
  briefStatus: { method: 'GET', path: '/status?brief', form: 'json', answer: statusSchema },
  /** The objects that this host should have in the kernel, compared with those that the kernel has. */
  objects: { method: 'GET', path: '/objects', form: 'json', answer: objectsDocumentSchema },
  /** What hosts announce besides their subnets. */
  prefixes: { method: 'GET', path: '/prefixes', form: 'json', answer: prefixesDocumentSchema },
  settings: { method: 'GET', path: '/settings', form: 'json', answer: async () => settingsSchema() },
  /** Prometheus's text format. */
  metrics: { method: 'GET', path: '/metrics', form: 'text', answer: async () => z.string() },
  /** Events that the daemon keeps, the oldest first. */
  events: { method: 'GET', path: '/events', form: 'lines', answer: eventSchema },
  /** The same, and then each event as it happens. */
  followEvents: { method: 'GET', path: '/events?follow', form: 'lines', answer: eventSchema },
  /** Gives this host's lease back, or takes it again. Refused with 409. */
  drain: {
    method: 'POST',
    path: '/drain',
    body: drainRequestSchema,
    form: 'json',
    answer: async () => z.object({ drained: z.boolean() }),
  },
  /** Asks for a change of this host's WireGuard keys, which takes a minute or more. Refused with 409. */
  rotateKey: {
    method: 'POST',
    path: '/rotate-key',
    body: rotateKeyRequestSchema,
    form: 'json',
    answer: async () => z.object({ asked: z.literal(true) }),
  },
  /** Announces a prefix, or changes its priority or end. Refused with 409. */
  announce: {
    method: 'POST',
    path: '/announce',
    body: announceRequestSchema,
    form: 'json',
    answer: async () =>
      z.object({
        announced: z.string().max(MOST_PREFIX_TEXT),
        /** Why other hosts do not hear of it yet. */
        waits: z.string().optional(),
        /** Which hosts may not see it. */
        unaware: z.string().optional(),
      }),
  },
  /** Withdraws a prefix of this host. Refused with 409. */
  withdraw: {
    method: 'POST',
    path: '/withdraw',
    body: withdrawRequestSchema,
    form: 'json',
    answer: async () => z.object({ withdrawn: z.string().max(MOST_PREFIX_TEXT) }),
  },
  /** Takes a free block as a further subnet of this host. Refused with 409. */
  addSubnet: {
    method: 'POST',
    path: '/subnets/add',
    body: addSubnetRequestSchema,
    form: 'json',
    answer: async () =>
      z.object({
        added: z.string().max(MOST_PREFIX_TEXT),
        /** Which hosts may not see it. */
        unaware: z.string().optional(),
      }),
  },
  /** Gives a further subnet back. Refused with 409. */
  removeSubnet: {
    method: 'POST',
    path: '/subnets/remove',
    body: removeSubnetRequestSchema,
    form: 'json',
    answer: async () => z.object({ removed: z.string().max(MOST_PREFIX_TEXT) }),
  },
  /** Makes the identity of this host if it has none, and tells the public half. Refused with 409. */
  identity: {
    method: 'POST',
    path: '/identity',
    body: identityRequestSchema,
    form: 'json',
    answer: async () => z.object({ key: z.string().max(64) }),
  },
} as const satisfies Readonly<Record<string, RequestShape>>

export type RequestName = keyof typeof REQUESTS

/** Requests that change nothing, and tell nothing that opens other doors, as the settings do. */
export const READERS_REQUESTS: readonly RequestName[] = [
  ...(['status', 'briefStatus', 'objects', 'prefixes', 'metrics', 'events', 'followEvents'] as const),
]
export type AnswerTo<R extends RequestName> = z.infer<Awaited<ReturnType<(typeof REQUESTS)[R]['answer']>>>
export type BodyOf<R extends RequestName> = (typeof REQUESTS)[R] extends {
  body: () => infer S extends z.ZodType
}
  ? z.infer<S>
  : undefined
