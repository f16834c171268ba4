/** The messages of traffic control that we speak: qdiscs, and filters of u32 that hand frames to other links (linux/pkt_cls.h). */
import type { Match } from '../../model/multicast'
import { HOST_LITTLE_ENDIAN } from './bytes'
import { listOf, messageCodec, nested } from './codec'
import * as k from './constants'
import { MalformedMessageError } from './errors'
import { type Payload, s32, text, u32 } from './layout'

/** struct tcmsg (linux/rtnetlink.h) */
const TCMSG = {
  size: 20,
  fields: { index: [4, s32], handle: [8, u32], parent: [12, u32], info: [16, u32] },
} as const

/** RTM_*QDISC */
export const qdiscMessage = messageCodec(TCMSG, { kind: [k.TCA_KIND, text] })

/** What a filter of u32 looks at. */
export interface Selector {
  readonly flags: number
  readonly matches: readonly Match[]
  /** It looks further than at fixed offsets. */
  readonly varies: boolean
}

/** sizeof(struct tc_u32_sel) without its keys, and sizeof(struct tc_u32_key) */
const SELECTOR_SIZE = 16
const KEY_SIZE = 16

/** struct tc_u32_sel: masks and values in network order, the rest in the host's */
const selector: Payload<Selector> = {
  write(writer, type, { flags, matches }) {
    const at = writer.attribute(type, SELECTOR_SIZE + matches.length * KEY_SIZE)
    writer.view.setUint8(at, flags)
    writer.view.setUint8(at + 2, matches.length)
    for (const [index, match] of matches.entries()) {
      const key = at + SELECTOR_SIZE + index * KEY_SIZE
      writer.view.setUint32(key, match.mask)
      writer.view.setUint32(key + 4, match.value)
      writer.view.setInt32(key + 8, match.at, HOST_LITTLE_ENDIAN)
    }
  },
  read(view, at, length, name) {
    const keys = length < SELECTOR_SIZE ? 0 : view.getUint8(at + 2)
    if (length < SELECTOR_SIZE + keys * KEY_SIZE) {
      throw new MalformedMessageError(
        `attribute ${name} has ${length} bytes and says that it has ${keys} keys`,
      )
    }
    let varies = view.getUint8(at + 1) !== 0
    for (let word = at + 4; word < at + SELECTOR_SIZE; word += 4) varies ||= view.getUint32(word) !== 0
    const matches = Array.from({ length: keys }, (_, index): Match => {
      const key = at + SELECTOR_SIZE + index * KEY_SIZE
      varies ||= view.getUint32(key + 12) !== 0
      return {
        mask: view.getUint32(key),
        value: view.getUint32(key + 4),
        at: view.getInt32(key + 8, HOST_LITTLE_ENDIAN),
      }
    })
    return { flags: view.getUint8(at), matches, varies }
  },
}

/** What is done with a frame. */
export interface Mirred {
  /** TC_ACT_*: what comes then. */
  readonly next: number
  /** TCA_EGRESS_*: whether the link gets the frame or a copy. */
  readonly how: number
  /** Index of the link; 0 when that is gone. */
  readonly link: number
}

/** sizeof(struct tc_mirred): tc_gen { index, capab, action, refcnt, bindcnt }, eaction, ifindex */
const MIRRED_SIZE = 28

const mirred: Payload<Mirred> = {
  write(writer, type, { next, how, link }) {
    const at = writer.attribute(type, MIRRED_SIZE)
    writer.view.setInt32(at + 8, next, HOST_LITTLE_ENDIAN)
    writer.view.setInt32(at + 20, how, HOST_LITTLE_ENDIAN)
    writer.view.setUint32(at + 24, link, HOST_LITTLE_ENDIAN)
  },
  read(view, at, length, name) {
    if (length < MIRRED_SIZE) throw new MalformedMessageError(`attribute ${name} has ${length} bytes`)
    return {
      next: view.getInt32(at + 8, HOST_LITTLE_ENDIAN),
      how: view.getInt32(at + 20, HOST_LITTLE_ENDIAN),
      link: view.getUint32(at + 24, HOST_LITTLE_ENDIAN),
    }
  },
}

const action = nested({
  kind: [k.TCA_ACT_KIND, text],
  mirred: [
    k.TCA_ACT_OPTIONS,
    nested({ parameters: [k.TCA_MIRRED_PARMS, mirred] }),
    { sibling: 'kind', is: 'mirred' },
  ],
})

/** RTM_*TFILTER; `info` is the priority and, in network order, the EtherType. */
export const filterMessage = messageCodec(TCMSG, {
  kind: [k.TCA_KIND, text],
  u32: [
    k.TCA_OPTIONS,
    nested({
      classId: [k.TCA_U32_CLASSID, u32],
      selector: [k.TCA_U32_SEL, selector],
      actions: [k.TCA_U32_ACT, listOf(action)],
    }),
    { sibling: 'kind', is: 'u32' },
  ],
})
