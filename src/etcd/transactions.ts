/** Guarded transactions: etcd makes a change only if a key is still as it was read. */
import type { IKeyValue, IRequestOp, ITxnRequest, ITxnResponse } from 'etcd3'
import type { AuditRecord } from '../model/audit'
import type { EtcdLeaseId, Lease, Revision } from '../model/lease'
import type { Audit } from './audit'
import type { EtcdCalls } from './client/client'
import { toRevision } from './codec/lease-codec'
import type { KeyValue } from './codec/wire'

export class Transactions {
  constructor(
    private readonly client: EtcdCalls,
    private readonly audit: Audit,
  ) {}

  /**
   * Applies the operations if the key is still at the revision of `current`. The else branch reads the key.
   * @param record of the operator's command; absent for writes of a host
   */
  guarded(
    doing: string,
    current: Lease,
    operations: IRequestOp | IRequestOp[],
    signal: AbortSignal,
    record?: AuditRecord,
  ): Promise<ITxnResponse> {
    const key = Buffer.from(current.key)
    return this.run(
      doing,
      {
        compare: [{ key, target: 'Mod', result: 'Equal', mod_revision: String(current.modRevision) }],
        success: [operations].flat(),
        failure: [{ request_range: { key } }],
      },
      signal,
      record,
    )
  }

  /** @param record as for {@link guarded} */
  run(doing: string, request: ITxnRequest, signal: AbortSignal, record?: AuditRecord): Promise<ITxnResponse> {
    if (record !== undefined) return this.audit.run(doing, request, record, signal)
    return this.client.call(doing, (etcd, options) => etcd.kv.txn(request, options), signal)
  }
}

/**
 * The condition that a key, or each key of a range, does not exist (etcd: server/etcdserver/apply.go,
 * applyCompare).
 */
export const ABSENT = { target: 'Version', result: 'Equal', version: '0' } as const

/**
 * The key as the else branch of a transaction read it; undefined when it does not exist.
 * @param best the key to return if there are several
 */
export function foundIn(
  { responses }: ITxnResponse,
  best: (kv: IKeyValue) => boolean = () => true,
): KeyValue | undefined {
  const kvs = responses[0]?.response_range.kvs ?? []
  const found = kvs.find(best) ?? kvs[0]
  return (
    found && {
      key: found.key,
      value: found.value,
      modRevision: toRevision(found.mod_revision),
      createRevision: toRevision(found.create_revision),
      etcdLease: found.lease as EtcdLeaseId,
      isNew: found.create_revision === found.mod_revision,
    }
  )
}

/** The revision at which a transaction applied its operations; undefined when it did not. */
export const revisionOf = ({ succeeded, header }: ITxnResponse): Revision | undefined =>
  succeeded ? toRevision(header.revision) : undefined

/**
 * Repeats an attempt that other writers come before.
 * @param most lost races after which it is given up
 * @param attempt its result; undefined when another writer was faster
 * @returns the result; undefined when all races were lost
 */
export async function racing<T>(most: number, attempt: () => Promise<T | undefined>): Promise<T | undefined> {
  for (let race = 0; race < most; race++) {
    const result = await attempt()
    if (result !== undefined) return result
  }
  return undefined
}
