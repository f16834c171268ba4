/**
 * What encryption has left on this host: WireGuard devices, the rules and routes of their IPv6 packets, and
 * the table that lets no packet pass in clear. A kernel without WireGuard, IPv6 or nftables has none of it.
 */

import type { KernelReader } from '../../kernel/kernel'
import { GuardTables } from '../../kernel/nftables/guard'
import { hasRule6, removeRule6 } from '../../kernel/wireguard/rules'
import { describeError, isOverlayError } from '../../model/errors'
import type { ObservedLink } from '../../model/kernel/link'
import { SLOTS } from '../../model/lease'
import { wireguardLinkName, wireguardTable } from '../../plan/encryption/encryption-plan'
import type { Removal, TeardownPlan } from '../show/teardown-plan'

/** Milliseconds to read or remove the table of one network. */
const GUARD_DEADLINE = 5000

/**
 * The removal, in an order in which no packet passes in clear that did not before: the table comes last.
 * @param vnis those of this host's networks
 * @param links all of this host
 */
export async function findEncryption(
  kernel: KernelReader,
  vnis: readonly number[],
  links: readonly ObservedLink[],
): Promise<TeardownPlan> {
  const removals: Removal[] = []
  const notes: string[] = []
  for (const vni of vnis) {
    for (const slot of SLOTS) {
      const name = wireguardLinkName(slot, vni)
      const link = links.find((each) => each.name === name)
      if (link?.kind === 'wireguard') removals.push(removalOfLink(link))
      else if (link !== undefined)
        notes.push(`the interface ${name} is not a WireGuard device (${link.kind ?? 'hardware'}), and stays`)
      const table = wireguardTable(slot, vni)
      if (await hasRule6(kernel.clients, name, table)) removals.push(removalOfRule(name, table))
    }
    const guard = await findGuard(wireguardLinkName(0, vni))
    removals.push(...guard.removals)
    notes.push(...guard.notes)
  }
  return { removals, notes }
}

const removalOfLink = ({ index, name }: ObservedLink): Removal => ({
  what: [`WireGuard device ${name}`],
  remove: (kernel) => kernel.applyLink({ kind: 'delete-link', index, name }),
})

const removalOfRule = (name: string, table: number): Removal => ({
  what: [`the IPv6 rule for packets to ${name}, and the routes of its table ${table}`],
  remove: (kernel) => removeRule6(kernel.clients, name, table),
})

async function findGuard(name: string): Promise<TeardownPlan> {
  const what = `nftables table inet ${name}`
  try {
    const isThere = await withGuards(
      async (guards) => (await guards.read(name, AbortSignal.timeout(GUARD_DEADLINE))) !== undefined,
    )
    const remove = () =>
      withGuards(async (guards) => void (await guards.remove(name, AbortSignal.timeout(GUARD_DEADLINE))))
    return { removals: isThere ? [{ what: [what], remove }] : [], notes: [] }
  } catch (error) {
    if (!isOverlayError(error)) throw error
    // A kernel without nftables has no table.
    const notes = error.code === 'no-guard' ? [] : [`the ${what} was not looked for: ${describeError(error)}`]
    return { removals: [], notes }
  }
}

async function withGuards<T>(use: (guards: GuardTables) => Promise<T>): Promise<T> {
  const ignore = (): void => undefined
  const guards = await GuardTables.open(ignore, ignore)
  try {
    return await use(guards)
  } finally {
    guards.close()
  }
}
