/** Records of operators' writes to etcd. */

/** Who wrote, as the machine of the operator says it. Nothing proves it. */
export interface Operator {
  /** The user of etcd, or the name in the client certificate; absent where etcd asks for none. */
  readonly etcdUser?: string
  /** The user of that machine; with sudo the one who called it. */
  readonly user: string
  /** Name of that machine. */
  readonly host: string
}

/** One write. */
export interface AuditRecord {
  readonly time: Date
  readonly who: Operator
  /** The command: `config set`. */
  readonly verb: string
  /** What was written, in words. */
  readonly what: string
  /** Random hexadecimal digits, by which a writer knows its own record again. */
  readonly id: string
}

/** Records that are kept; the write of one more removes the oldest. */
export const MOST_RECORDS = 1000

/** Most characters of each text in a record; longer texts are cut. */
export const LONGEST_RECORD_TEXT = 512
