/** The key of the network config. */
import type { AuditRecord } from '../model/audit'
import type { Revision } from '../model/lease'
import type { Keys } from './codec/keys'
import { foundIn, type Transactions } from './transactions'

export class ConfigKey {
  constructor(
    private readonly keys: Keys,
    private readonly transactions: Transactions,
  ) {}

  /**
   * Writes the network config if it is still as it was read.
   * @param expected its revision when it was read, or `absent`
   * @returns `changed` when it is another one: nothing was written
   */
  async put(
    text: string,
    expected: Revision | 'absent',
    record: AuditRecord,
    signal: AbortSignal,
  ): Promise<'written' | 'changed'> {
    const key = Buffer.from(this.keys.config)
    const value = Buffer.from(text)
    const response = await this.transactions.run(
      'write the network config',
      {
        compare: [
          expected === 'absent'
            ? { key, target: 'Version', result: 'Equal', version: '0' }
            : { key, target: 'Mod', result: 'Equal', mod_revision: String(expected) },
        ],
        success: [{ request_put: { key, value } }],
        failure: [{ request_range: { key } }],
      },
      signal,
      record,
    )
    // The same text may be there by a first try of ours whose answer was lost; the config is as wanted in
    // either case.
    return response.succeeded || foundIn(response)?.value.equals(value) ? 'written' : 'changed'
  }
}
