/**
 * The two calls whose answers may have thousands of keys, returning the answer's bytes instead of the
 * library's objects. In all else they work as the library's calls: same connections, and same error classes,
 * by which the library recognizes a broken connection.
 */
import type { Etcd3, ICallable, IDuplexStream, IRangeRequest, IWatchRequest } from 'etcd3'
import type { CallOptions } from './call-options'

type Connection = Parameters<Parameters<ICallable<unknown>['withConnection']>[1]>[0]
/** Properties that grpc-js attaches to each method of a client (makeClientConstructor). */
interface Method<Request> {
  readonly path: string
  readonly requestSerialize: (request: Request) => Buffer
}

export type WatchStream = IDuplexStream<IWatchRequest, Buffer>

const asItCame = (bytes: Buffer): Buffer => bytes

/** @returns a RangeResponse */
export async function rangeBytes(etcd: Etcd3, request: IRangeRequest, options: CallOptions): Promise<Buffer> {
  const { castGrpcError } = await import('etcd3')
  return etcd['pool'].withConnection('KV', (connection) => {
    const { path, requestSerialize } = method<IRangeRequest>(connection, 'range')
    const { client, metadata } = connection
    return new Promise<Buffer>((resolve, reject) => {
      client.makeUnaryRequest(
        path,
        requestSerialize,
        asItCame,
        request,
        metadata,
        options,
        (error, bytes) => {
          if (error) reject(castGrpcError(error))
          else if (bytes === undefined) reject(new Error('the call ended without an answer'))
          else resolve(bytes)
        },
      )
    })
  })
}

/** @returns a stream of WatchResponses */
export function watchBytes(etcd: Etcd3, options: CallOptions): Promise<WatchStream> {
  const pool = etcd['pool']
  return pool.withConnection<WatchStream>('Watch', (connection) => {
    const { path, requestSerialize } = method<IWatchRequest>(connection, 'watch')
    const { client, metadata, resource } = connection
    const stream = client.makeBidiStreamRequest(path, requestSerialize, asItCame, metadata, options)
    // As the library does: an error of a stream that was not ended counts as the connection's.
    stream.on('error', (error: Error) => stream.writable && pool.markFailed(resource, error))
    return stream as unknown as WatchStream
  })
}

function method<Request>({ client }: Connection, name: string): Method<Request> {
  return (client as unknown as Record<string, Method<Request>>)[name] as Method<Request>
}
