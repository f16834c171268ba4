/** Per-call options of gRPC, made of interceptors because the etcd client hands nothing else through to a call. */
import { setMaxListeners } from 'node:events'
import type { KVClient } from 'etcd3'

export type CallOptions = NonNullable<Parameters<KVClient['range']>[1]>
type Interceptor = NonNullable<CallOptions['interceptors']>[number]

/** The options with one more interceptor, which sees the call before the others. */
export const intercepted = (options: CallOptions, interceptor: Interceptor): CallOptions => ({
  ...options,
  interceptors: [interceptor, ...(options.interceptors ?? [])],
})

/** gRPC's status for a call its caller gave up. */
const CANCELLED = 1
/** What we say then. */
export const GIVEN_UP = 'given up by overlayd'

/**
 * Cancels the call when the signal fires. `release` lets go of the signal again.
 * @param deadline milliseconds since the epoch; undefined for a stream that may live for ever
 */
export function callOptions(
  signal: AbortSignal,
  deadline: number | undefined,
): { readonly options: CallOptions; readonly release: () => void } {
  const lifetime = new AbortController()
  // One listener for each call under way, and each goes with its call: many are no leak.
  setMaxListeners(0, signal)
  const cancelOnAbort: Interceptor = (options, nextCall) => {
    const call = nextCall(options)
    const cancel = () => call.cancelWithStatus(CANCELLED, GIVEN_UP)
    // A call can be cancelled only after its start, which follows.
    if (signal.aborted) setImmediate(cancel)
    signal.addEventListener('abort', cancel, { signal: lifetime.signal })
    return call as ReturnType<Interceptor>
  }
  return {
    options: { interceptors: [cancelOnAbort], ...(deadline === undefined ? {} : { deadline }) },
    release: () => lifetime.abort(),
  }
}

/**
 * Asks the member to end the stream once it has no leader (etcd: clientv3.WithRequireLeader): a member cut off from its
 * cluster would otherwise keep the stream open and say nothing.
 */
export const requireLeader: Interceptor = (options, nextCall) => {
  const call = nextCall(options)
  const start = call.start.bind(call)
  call.start = (metadata, listener) => {
    const own = metadata.clone()
    own.set('hasleader', 'true')
    start(own, listener)
  }
  return call as ReturnType<Interceptor>
}

/**
 * Sends the token of a login with the call. A refusal of it is said in other words: the etcd client library knows etcd's, and would send the
 * call again with the same token, without end.
 */
export const withToken =
  (token: string): Interceptor =>
  (options, nextCall) => {
    const call = nextCall(options)
    const start = call.start.bind(call)
    call.start = (metadata, listener) => {
      const own = metadata.clone()
      own.set('token', token)
      start(own, {
        onReceiveMetadata: (received) => listener?.onReceiveMetadata?.(received),
        onReceiveMessage: (message) => listener?.onReceiveMessage?.(message),
        onReceiveStatus: (status) => {
          const details = status.details.replace('invalid auth token', 'auth token has expired')
          listener?.onReceiveStatus?.({ ...status, details })
        },
      })
    }
    return call as ReturnType<Interceptor>
  }
