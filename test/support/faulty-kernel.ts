/**
 * The real kernel, of whose answers some are wrong: an operation is refused with any errno, or a call fails before it is done, or after. What is
 * done is done by the kernel itself.
 */
import { constants } from 'node:os'
import type { Kernel } from '../../src/kernel/kernel'
import { NetlinkError, NetlinkTimeoutError } from '../../src/kernel/netlink/errors'
import { describeOperation } from '../../src/model/describe-operation'
import type { ObjectOperation, OperationFailure } from '../../src/model/kernel'

const ERRNOS = Object.values(constants.errno)
const CALLS = ['link', 'linkAddresses', 'applyLink', 'observe', 'underlayRoutes'] as const

export interface Faults {
  /** Chance of each operation and each call to fail; 0 for none. Change it at any time. */
  rate: number
  /** How many failed so far. */
  count: number
}

/** Wraps a kernel. */
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
      if (fails()) refused.push({ operation, error: refusal(describeOperation(operation)) })
      else accepted.push(operation)
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
