/** Operations on objects as messages. */
import type { Kind, ObjectOperation, OperationOf } from '../../model/kernel/objects'
import { describeOperation } from '../../model/kernel/words'
import type { MessageWriter } from '../netlink/bytes'
import type { RequestFormat } from '../netlink/client'
import { KERNEL } from '.'

/** Operations on the link with that index as messages. */
export const objectFormat = (link: number): RequestFormat<ObjectOperation> => ({
  encode: (writer, operation) => encode(writer, link, operation),
  describe: describeOperation,
})

const encode = <K extends Kind>(writer: MessageWriter, link: number, operation: OperationOf<K>): void =>
  KERNEL[operation.kind].encode(writer, link, operation)
