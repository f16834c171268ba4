/**
 * Flags of flannel that overlayd does not use: those of flannel's Kubernetes mode, of its logger, and of old
 * versions. Unit files may contain them, so each is known. A flag whose loss changes nothing is ignored; any
 * other is refused, with advice what to do instead.
 */
import { type GivenFlag, parseGoBoolean } from './go-flags'
import { UsageError } from './usage-error'

interface ForeignFlag {
  readonly boolean: boolean
  /** Why the flag is refused when it is on, and what to do instead. A flag without refusal is ignored. */
  readonly refusal?: readonly [reason: string, fix: string]
}

const TEXT: ForeignFlag = { boolean: false }
const BOOLEAN: ForeignFlag = { boolean: true }

const ONE_NETWORK = [
  'one daemon serves one network',
  'start one overlayd per network, each with its own --etcd-prefix, --subnet-file and --run-dir',
] as const
const NO_SERVER = [
  'there is no client and server mode: every host talks to etcd itself',
  'give --etcd-endpoints; to keep connections away from etcd put etcd grpc-proxy in between',
] as const

/** Sources: main.go and klog (Kubernetes mode and logging); flannel v0.5 to v0.7 (the others). */
const FOREIGN: ReadonlyMap<string, ForeignFlag> = new Map<string, ForeignFlag>([
  [
    'kube-subnet-mgr',
    {
      boolean: true,
      refusal: [
        'overlayd keeps its network in etcd, not in the Kubernetes API',
        'leave the flag out and give --etcd-endpoints, or run flannel on this cluster',
      ],
    },
  ],
  ['kube-api-url', TEXT],
  ['kube-annotation-prefix', TEXT],
  ['kubeconfig-file', TEXT],
  ['net-config-path', TEXT],
  ['set-node-network-unavailable', BOOLEAN],
  ['vmodule', TEXT],
  ['log_backtrace_at', TEXT],
  ['logtostderr', BOOLEAN],
  ['alsologtostderr', BOOLEAN],
  ['log_dir', TEXT],
  ['stderrthreshold', TEXT],
  ['listen', { boolean: false, refusal: NO_SERVER }],
  ['remote', { boolean: false, refusal: NO_SERVER }],
  ['remote-keyfile', { boolean: false, refusal: [NO_SERVER[0], 'give --etcd-keyfile'] }],
  ['remote-certfile', { boolean: false, refusal: [NO_SERVER[0], 'give --etcd-certfile'] }],
  ['remote-cafile', { boolean: false, refusal: [NO_SERVER[0], 'give --etcd-cafile'] }],
  ['networks', { boolean: false, refusal: ONE_NETWORK }],
  ['watch-networks', { boolean: true, refusal: ONE_NETWORK }],
  ['subnet-dir', { boolean: false, refusal: ONE_NETWORK }],
])

export const foreignFlagNames: readonly string[] = [...FOREIGN.keys()]

/** Whether the foreign flag is a boolean; `undefined` if there is no such flag. */
export const isForeignBoolean = (name: string): boolean | undefined => FOREIGN.get(name)?.boolean

/**
 * Accepts a flag without effect.
 * @param where the flag or variable as given: `--networks`, `FLANNELD_NETWORKS`
 * @throws {UsageError} for a flag whose meaning would be lost
 */
export function checkForeignFlag({ name, value }: GivenFlag, where: string): void {
  const foreign = FOREIGN.get(name)
  if (foreign === undefined) throw new TypeError(`${name} is not a foreign flag`)
  if (!isOn(foreign, value, where) || foreign.refusal === undefined) return
  const [reason, fix] = foreign.refusal
  throw new UsageError(`${where}: ${reason}`, fix)
}

function isOn({ boolean }: ForeignFlag, value: string, where: string): boolean {
  if (!boolean) return value !== ''
  const parsed = parseGoBoolean(value)
  if (parsed !== undefined) return parsed
  throw new UsageError(`${where} is ${JSON.stringify(value)}: expected true or false`)
}
