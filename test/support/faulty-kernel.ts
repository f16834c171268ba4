/**
 * The real kernel with injected failures: an operation is refused with a random errno, or a call fails before
 * or after the kernel has executed it. Accepted operations are executed by the real kernel.
 */
import { constants } from 'node:os'
import { causeOf, errnoOf } from '../../src/kernel/failures'
import type { Kernel } from '../../src/kernel/kernel'
import { NetlinkError, NetlinkTimeoutError } from '../../src/kernel/netlink/errors'
import type { ObjectOperation, OperationFailure } from '../../src/model/kernel/objects'
import { describeOperation } from '../../src/model/kernel/words'

const ERRNOS = Object.values(constants.errno)
const CALLS = ['link', 'linkAddresses', 'applyLink', 'observe', 'underlayRoutes'] as const

export interface Faults {
  /** Probability that an operation or a call fails, 0 to 1. May be changed at any time. */
  rate: number
  /** Failures so far. */
  count: number
}

/** Wraps a kernel. @param random uniform numbers in [0, 1) */
export function faultyKernel(
  kernel: Kernel,
  random: () => number,
): { readonly kernel: Kernel; readonly faults: Faults } {
  const faults: Faults = { rate: 0, count: 0 }
  const fails = (): boolean => {
    const failed = random() < faults.rate
    if (failed) faults.count++
    return failed
  }
  const refusal = (what: string): NetlinkError =>
    new NetlinkError(ERRNOS[Math.floor(random() * ERRNOS.length)] ?? 1, what)

  const apply: Kernel['apply'] = async (index, operations, signal) => {
    if (fails()) throw new NetlinkTimeoutError('apply', 0)
    const refused: OperationFailure[] = []
    const accepted: ObjectOperation[] = []
    for (const operation of operations) {
      if (fails()) {
        const error = refusal(describeOperation(operation))
        refused.push({ operation, error, cause: causeOf(error), errno: errnoOf(error) })
      } else accepted.push(operation)
    }
    const failures = [...refused, ...(await kernel.apply(index, accepted, signal))]
    if (fails()) throw new NetlinkTimeoutError('apply', 0)
    return failures
  }

  const wrapped = new Proxy(kernel, {
    get(target, name: keyof Kernel) {
      if (name === 'apply') return apply
      const member = target[name] as unknown
      if (typeof member !== 'function') return member
      if (!(CALLS as readonly string[]).includes(name)) return member.bind(target)
      return async (...args: unknown[]) => {
        if (fails()) throw refusal(name)
        const result = await member.apply(target, args)
        if (fails()) throw new NetlinkTimeoutError(name, 0)
        return result
      }
    },
  })
  return { kernel: wrapped, faults }
}
