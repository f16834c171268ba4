/**
 * The rules of nftables of this network namespace as a whole: which tables there are, and whether any rule
 * may have changed. Two messages take the place of starting `nft` for each table.
 */
import { isOverlayError } from '../../model/errors'
import type { MessageWriter } from '../netlink/bytes'
import { NetlinkClient, type Question } from '../netlink/client'
import { attributesIn } from '../netlink/codec'
import * as k from '../netlink/constants'
import { MalformedMessageError } from '../netlink/errors'
import { text } from '../netlink/layout'
import { openRawSocket } from '../netlink/raw-socket'
import { familyWord, NFGENMSG_SIZE } from './netfilter'

export interface Ruleset {
  /** Family and name of each table as `nft` prints them, such as `ip filter`. */
  readonly tables: ReadonlySet<string>
  /** A number that differs after each change of any table, chain, rule or set by any program. */
  readonly generation: number
}

/**
 * Reads the ruleset. The tables are at least as new as the generation.
 * @returns `undefined` where the kernel does not say, as without CAP_NET_ADMIN or without nf_tables
 * @throws the signal's reason if the signal fired
 */
export async function readRuleset(signal: AbortSignal): Promise<Ruleset | undefined> {
  const connect = (handlers: Parameters<typeof openRawSocket>[0]) =>
    openRawSocket(handlers, { protocol: k.NETLINK_NETFILTER })
  let client: NetlinkClient | undefined
  try {
    client = await NetlinkClient.open(connect, () => undefined)
    const generation = await client.get(GENERATION, signal)
    const tables = await client.dump(TABLES, signal)
    return generation === undefined ? undefined : { generation, tables: new Set(tables) }
  } catch (error) {
    signal.throwIfAborted()
    if (isOverlayError(error)) return undefined
    throw error
  } finally {
    client?.close()
  }
}

/** A message about all families: its header is zero (NFPROTO_UNSPEC, NFNETLINK_V0). */
function writeRequest(writer: MessageWriter, type: number): void {
  writer.begin((k.NFNL_SUBSYS_NFTABLES << 8) | type, k.NLM_F_REQUEST)
  writer.reserve(NFGENMSG_SIZE)
  writer.finish()
}

const GENERATION: Question<number> = {
  attempted: 'read the generation of the rules of nftables',
  encode: (writer) => writeRequest(writer, k.NFT_MSG_GETGEN),
  decode(view, start, end) {
    for (const [type, at, stop] of attributesIn(view, bodyOf(start, end), end))
      if (type === k.NFTA_GEN_ID && stop - at === 4) return view.getUint32(at)
    return undefined
  },
}

const TABLES: Question<string> = {
  attempted: 'list the tables of nftables',
  encode: (writer) => writeRequest(writer, k.NFT_MSG_GETTABLE),
  decode(view, start, end) {
    const body = bodyOf(start, end)
    const family = familyWord(view.getUint8(start))
    for (const [type, at, stop] of attributesIn(view, body, end)) {
      if (type !== k.NFTA_TABLE_NAME) continue
      const name = text.read(view, at, stop - at, 'name')
      return name === undefined ? undefined : `${family} ${name}`
    }
    return undefined
  },
}

/** @throws {MalformedMessageError} for a message without its header */
function bodyOf(start: number, end: number): number {
  if (start + NFGENMSG_SIZE > end)
    throw new MalformedMessageError(`an answer about nftables of ${end - start} bytes`)
  return start + NFGENMSG_SIZE
}
