/**
 * Answers Range requests in place of gRPC's connection, as etcd does or wrongly. A listing sees nothing of
 * etcd but the bytes of its answers.
 */
import { createRequire } from 'node:module'
import { join } from 'node:path'
import type { Etcd3, IRangeRequest } from 'etcd3'
import type { EtcdClient } from '../../../src/etcd/client/client'
import { EtcdError } from '../../../src/etcd/client/errors'

const etcd3 = require.resolve('etcd3')
const { Root } = createRequire(createRequire(etcd3).resolve('@grpc/proto-loader'))(
  'protobufjs',
) as typeof import('protobufjs')
const RANGE = new Root()
  .loadSync(join(etcd3, '../../proto/rpc.proto'), { keepCase: true })
  .lookupType('etcdserverpb.RangeResponse')

export interface StoredKey {
  readonly key: Buffer
  readonly value: Buffer
}

export interface Page {
  readonly kvs: readonly StoredKey[]
  readonly more: boolean
}

interface Asked {
  readonly from: Buffer
  readonly end: Buffer
  readonly limit: number
}

/** The answers of a correct etcd. */
export function honestly(keys: readonly StoredKey[]): (asked: Asked) => Page {
  const sorted = [...keys].sort((a, b) => a.key.compare(b.key))
  return ({ from, end, limit }) => {
    const found = sorted.filter(({ key }) => key.compare(from) >= 0 && key.compare(end) < 0)
    return { kvs: found.slice(0, limit), more: found.length > limit }
  }
}

export class RangeServer {
  readonly asked: Asked[] = []

  /** @param mostBytes largest answer that gRPC accepts, in bytes */
  constructor(
    private readonly answer: (asked: Asked) => Page,
    private readonly mostBytes = Number.POSITIVE_INFINITY,
  ) {}

  get client(): EtcdClient {
    const pool = {
      withConnection: (_: string, use: (connection: unknown) => unknown) =>
        use({ client: { range: {}, makeUnaryRequest: this.#answer.bind(this) }, metadata: {} }),
    }
    const call: EtcdClient['call'] = (_, attempt) => attempt({ pool } as unknown as Etcd3, {})
    return { endpoint: 'http://test', call } as unknown as EtcdClient
  }

  #answer(...args: readonly unknown[]): void {
    const request = args[3] as IRangeRequest
    const done = args[6] as (error: Error | null, bytes?: Buffer) => void
    const asked = {
      from: Buffer.from(request.key ?? ''),
      end: Buffer.from(request.range_end ?? ''),
      limit: Number(request.limit),
    }
    this.asked.push(asked)
    const { kvs, more } = this.answer(asked)
    const message = RANGE.fromObject({
      header: { cluster_id: '7', revision: '5' },
      kvs: kvs.map(({ key, value }) => ({ key, value, mod_revision: '3', create_revision: '3' })),
      more,
    })
    const bytes = Buffer.from(RANGE.encode(message).finish())
    if (bytes.length <= this.mostBytes) done(null, bytes)
    else done(new EtcdError('etcd-failed', 'Received message larger than max'))
  }
}
