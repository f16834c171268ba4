/** The audit of operators' writes: each record is written by the transaction of the write itself. */
import type { ITxnRequest, ITxnResponse } from 'etcd3'
import { type AuditRecord, MOST_RECORDS } from '../model/audit'
import type { EtcdCalls } from './client/client'
import { EtcdError } from './client/errors'
import { auditKey, auditNumber, auditRange, decodeAudit, encodeAudit, LAST_NUMBER } from './codec/audit-codec'
import type { Decoded, KeyRange, Keys } from './codec/keys'

/** A record as read, with its number. */
export interface AuditEntry {
  readonly number: number
  readonly record: Decoded<AuditRecord>
}

/** Keys of another program among the records that are passed over. */
const MOST_STRAY = 16
/** Most retries after the write of another operator came between reading and writing. */
const MOST_RACES = 10
/** Most records that are read, should another program have written more. */
const MOST_READ = 4 * MOST_RECORDS

const rangeOf = ({ start, end }: KeyRange) => ({ key: Buffer.from(start), range_end: Buffer.from(end) })

export class Audit {
  constructor(
    private readonly client: EtcdCalls,
    private readonly keys: Keys,
  ) {}

  /**
   * Runs a transaction that also writes a record, and removes the oldest record where there are too many. If
   * the condition of the transaction fails, nothing is written.
   * @returns the answer; the record's key is the last operation of the else branch
   * @throws {EtcdError} also when other operators are faster each time
   */
  async run(
    doing: string,
    { compare = [], success = [], failure = [] }: ITxnRequest,
    record: AuditRecord,
    signal: AbortSignal,
  ): Promise<ITxnResponse> {
    const value = Buffer.from(encodeAudit(record))
    for (let race = 0; race < MOST_RACES; race++) {
      const number = (await this.#lastNumber(signal)) + 1
      const key = Buffer.from(auditKey(this.keys, number))
      const old = auditRange(this.keys, 0, Math.max(1, number - MOST_RECORDS + 1))
      const request: ITxnRequest = {
        compare: [...compare, { key, target: 'Version', result: 'Equal', version: '0' }],
        success: [...success, { request_put: { key, value } }, { request_delete_range: rangeOf(old) }],
        failure: [...failure, { request_range: { key } }],
      }
      const response = await this.client.call(doing, (etcd, options) => etcd.kv.txn(request, options), signal)
      const there = response.succeeded ? undefined : response.responses.at(-1)?.response_range.kvs[0]
      // A record of ours is one of a first try whose answer was lost.
      if (there === undefined || there.value.equals(value)) return response
    }
    throw new EtcdError('etcd-failed', `cannot ${doing}: other operators were faster each time`, {
      fix: 'see what they do: overlayctl audit, then try again',
    })
  }

  /** All records, the newest first. */
  async list(signal: AbortSignal): Promise<AuditEntry[]> {
    const { kvs } = await this.client.call(
      'read the audit',
      (etcd, options) => etcd.kv.range({ ...this.#newest(), limit: MOST_READ }, options),
      signal,
    )
    return kvs.flatMap(({ key, value }) => {
      const number = auditNumber(this.keys, key.toString())
      return number === undefined ? [] : { number, record: decodeAudit(value) }
    })
  }

  async #lastNumber(signal: AbortSignal): Promise<number> {
    const { kvs } = await this.client.call(
      'read the last record of the audit',
      (etcd, options) => etcd.kv.range({ ...this.#newest(), keys_only: true, limit: MOST_STRAY }, options),
      signal,
    )
    const numbers = kvs.map(({ key }) => auditNumber(this.keys, key.toString()))
    const last = numbers.find((number) => number !== undefined) ?? (kvs.length === MOST_STRAY ? -1 : 0)
    if (last >= 0 && last < LAST_NUMBER) return last
    throw new EtcdError('etcd-failed', `${this.keys.audit} holds keys that are no records`, {
      fix: `look who wrote them, and delete them: etcdctl get ${this.keys.audit} --prefix --keys-only`,
    })
  }

  #newest() {
    const range = rangeOf(auditRange(this.keys, 0, LAST_NUMBER + 1))
    return { ...range, sort_order: 'Descend', sort_target: 'Key' } as const
  }
}
