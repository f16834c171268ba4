/** A packet's way through a host: one hook after the other, until a rule drops the packet. */
import type { Hook } from '../../model/packet-filter'
import type { Packet } from './packet'
import { withFields } from './packet'
import { type Doubt, type Fate, type FilterIndex, type Layer, passHook, type Translation } from './walk'

export interface Stop {
  readonly layer: Layer
  readonly hook: Hook
  /** The interfaces of the packet at the hook. */
  readonly fields: Packet['fields']
}

export interface Journey {
  readonly fate: Fate
  readonly packet: Packet
  readonly translations: readonly Translation[]
}

export function travel(index: FilterIndex, stops: readonly Stop[], packet: Packet): Journey {
  const doubts: Doubt[] = []
  const translations: Translation[] = []
  let current = packet
  for (const { layer, hook, fields } of stops) {
    const passage = passHook(index, layer, hook, withFields(current, fields))
    translations.push(...passage.translations)
    if (passage.fate.kind === 'dropped') return { fate: passage.fate, packet: passage.packet, translations }
    if (passage.fate.kind === 'undecided') doubts.push(...passage.fate.doubts)
    current = passage.packet
  }
  return {
    fate: doubts.length === 0 ? { kind: 'passes' } : { kind: 'undecided', doubts },
    packet: current,
    translations,
  }
}

/** The hooks of a forwarded packet, with those of the devices by which it arrives and leaves. */
export function forwardStops(
  family: Layer,
  { from, to, port }: { readonly from: Link; readonly to: Link; readonly port?: string | undefined },
): Stop[] {
  const incoming = {
    iifname: from.name,
    oifname: '',
    ibrname: '',
    obrname: '',
    physin: from.isBridge ? port : '',
    physout: '',
  }
  const outgoing = { ...incoming, oifname: to.name }
  return [
    ...(from.isBridge ? bridgeIn(from.name, port) : []),
    { layer: 'device', hook: 'ingress', fields: incoming },
    { layer: family, hook: 'prerouting', fields: incoming },
    { layer: family, hook: 'forward', fields: outgoing },
    { layer: family, hook: 'postrouting', fields: outgoing },
    { layer: 'device', hook: 'egress', fields: outgoing },
    ...(to.isBridge ? bridgeOut(to.name, port) : []),
  ]
}

export interface Link {
  readonly name: string
  readonly isBridge: boolean
}

/** A frame that arrives at a port of a bridge, for the host. */
function bridgeIn(bridge: string, port: string | undefined): Stop[] {
  const fields = { iifname: port, oifname: '', ibrname: bridge, obrname: '', physin: port, physout: '' }
  return [
    { layer: 'device', hook: 'ingress', fields },
    { layer: 'bridge', hook: 'prerouting', fields },
    { layer: 'bridge', hook: 'input', fields: { ...fields, oifname: '' } },
  ]
}

/** A frame of the host that leaves by a port of a bridge. */
function bridgeOut(bridge: string, port: string | undefined): Stop[] {
  const fields = { iifname: '', oifname: port, ibrname: '', obrname: bridge, physin: '', physout: port }
  return [
    { layer: 'bridge', hook: 'output', fields },
    { layer: 'bridge', hook: 'postrouting', fields },
    { layer: 'device', hook: 'egress', fields },
  ]
}

/** A packet that the host itself sends. */
export function outputStops(family: Layer, link: string): Stop[] {
  const fields = { iifname: '', oifname: link, ibrname: '', obrname: '', physin: '', physout: '' }
  return [
    { layer: family, hook: 'output', fields },
    { layer: family, hook: 'postrouting', fields },
    { layer: 'device', hook: 'egress', fields },
  ]
}

/** A packet for the host itself. */
export function inputStops(family: Layer, link: string): Stop[] {
  const fields = { iifname: link, oifname: '', ibrname: '', obrname: '', physin: '', physout: '' }
  return [
    { layer: 'device', hook: 'ingress', fields },
    { layer: family, hook: 'prerouting', fields },
    { layer: family, hook: 'input', fields },
  ]
}
