/** Shorthands for operations on kernel objects. */
import type { IpAddress } from '../../src/model/address'
import type { DeleteOf, EntryOf, ForwardingTarget, KeyOf, Kind, SetOf } from '../../src/model/kernel/objects'
import { type Route, routeKey } from '../../src/model/kernel/route'

/** A destination of a forwarding entry. */
export const to = (address: IpAddress, via = 0): ForwardingTarget => ({ address, via })

export const set = <K extends Kind>(
  kind: K,
  key: KeyOf<K>,
  value: EntryOf<K>,
  replace = false,
): SetOf<K> => ({ do: 'set', kind, key, value, replace })

export const remove = <K extends Kind>(kind: K, key: KeyOf<K>, value: EntryOf<K>): DeleteOf<K> => ({
  do: 'delete',
  kind,
  key,
  value,
})

export const setRoute = (route: Route, replace = false): SetOf<'route'> =>
  set('route', routeKey(route.destination), route, replace)

export const removeRoute = (route: Route): DeleteOf<'route'> =>
  remove('route', routeKey(route.destination), route)
