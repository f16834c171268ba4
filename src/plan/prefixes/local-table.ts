/**
 * What this host has in the kernel for announced prefixes besides the routes to peers, of one family: routes
 * to what it announces, and addresses that it answers for on its bridges.
 */
import type { ProxyKey } from '../../model/kernel/objects'
import type { Route, RouteKey } from '../../model/kernel/route'
import { PLAN } from '../objects'
import { type LocalObjects, NO_LOCAL_OBJECTS } from '../reconcile/desired'

/** The table, to read. */
export interface LocalView {
  readonly objects: LocalObjects
  /** Indexes of the links that routes lead over: the kernel drops the routes with such a link, silently. */
  readonly links: ReadonlySet<number>
  /** Whether there is an object, or was: one may be left in the kernel. */
  readonly isUsed: boolean
}

/** Keys of objects that have changed, come or gone. */
export interface LocalChange {
  readonly routes: readonly RouteKey[]
  readonly proxies: readonly ProxyKey[]
}

export class LocalTable implements LocalView {
  #objects = NO_LOCAL_OBJECTS
  #links: ReadonlySet<number> = new Set()
  #isUsed = false

  get objects(): LocalObjects {
    return this.#objects
  }

  get links(): ReadonlySet<number> {
    return this.#links
  }

  get isUsed(): boolean {
    return this.#isUsed
  }

  /** Has these objects, and no others. */
  replace(objects: LocalObjects): LocalChange {
    const before = this.#objects
    this.#objects = objects
    this.#isUsed ||= objects.route.size + objects.proxy.size > 0
    this.#links = new Set([...objects.route.values()].flatMap(linksOf))
    return {
      routes: changed(before.route, objects.route, PLAN.route.same),
      proxies: changed(before.proxy, objects.proxy, PLAN.proxy.same),
    }
  }
}

const linksOf = ({ target }: Route): number[] => ('link' in target ? [target.link] : [])

function changed<Key, Value>(
  before: ReadonlyMap<Key, Value>,
  now: ReadonlyMap<Key, Value>,
  same: (a: Value, b: Value) => boolean,
): Key[] {
  const news = [...now].flatMap(([key, value]) => {
    const former = before.get(key)
    return former !== undefined && same(former, value) ? [] : [key]
  })
  return [...news, ...[...before.keys()].filter((key) => !now.has(key))]
}
