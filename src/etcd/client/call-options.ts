/**
 * Per-call options of gRPC, implemented as interceptors: the etcd client passes nothing else on to a call.
 */
import { setMaxListeners } from 'node:events'
import type { KVClient } from 'etcd3'

export type CallOptions = NonNullable<Parameters<KVClient['range']>[1]>
type Interceptor = NonNullable<CallOptions['interceptors']>[number]

/** The options with one more interceptor, which sees the call before the present ones. */
export const intercepted = (options: CallOptions, interceptor: Interceptor): CallOptions => ({
  ...options,
  interceptors: [interceptor, ...(options.interceptors ?? [])],
})

/** gRPC's status of a call that the caller cancelled. */
const CANCELLED = 1
/** The text that goes with it. */
export const GIVEN_UP = 'given up by overlayd'

/**
 * Options that cancel the call when the signal fires. `release` stops listening to the signal.
 * @param deadline milliseconds since the epoch; undefined for a stream without a limit
 */
export function callOptions(
  signal: AbortSignal,
  deadline: number | undefined,
): { readonly options: CallOptions; readonly release: () => void } {
  const lifetime = new AbortController()
  // One listener per call in progress, removed with its call. So many listeners are no leak: no warning.
  setMaxListeners(0, signal)
  const cancelOnAbort: Interceptor = (options, nextCall) => {
    const call = nextCall(options)
    const cancel = () => call.cancelWithStatus(CANCELLED, GIVEN_UP)
    // A call can be cancelled only after it has started, which happens after this function returns.
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
 * Asks the member to end the stream when it has no leader (etcd: clientv3.WithRequireLeader). Otherwise a
 * member that is cut off from its cluster keeps the stream open and sends nothing.
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
 * Sends a login's token with the call. The text of a refusal is changed: the etcd client library recognizes
 * etcd's text, and would repeat the call with the same token forever.
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
