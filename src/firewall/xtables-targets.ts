/** Reads the target of an iptables rule. */
import type { Expression, Step } from '../model/packet-filter'

const VERDICTS = { ACCEPT: 'accept', DROP: 'drop', RETURN: 'return', REJECT: 'reject' } as const
const NAT = {
  MASQUERADE: 'masquerade',
  SNAT: 'snat',
  DNAT: 'dnat',
  REDIRECT: 'redirect',
  NETMAP: 'dnat',
} as const
/** Targets that continue with the next rule and change nothing that conditions test here. */
const WITHOUT_EFFECT: ReadonlySet<string> = new Set([
  ...[
    'LOG',
    'NFLOG',
    'ULOG',
    'TRACE',
    'AUDIT',
    'TCPMSS',
    'TCPOPTSTRIP',
    'CHECKSUM',
    'CLASSIFY',
    'DSCP',
    'TOS',
  ],
  ...['TTL', 'HL', 'SET', 'ECN', 'RATEEST', 'IDLETIMER', 'LED', 'SECMARK', 'CONNSECMARK', 'TEE'],
])

/** @param words the target and its options */
export function readTarget(
  isGoto: boolean,
  words: readonly string[],
  isChain: (name: string) => boolean,
): Step[] {
  const [target = '', ...options] = words
  if (isGoto) return [{ kind: 'verdict', verdict: { kind: 'goto', chain: target } }]
  if (isChain(target)) return [{ kind: 'verdict', verdict: { kind: 'jump', chain: target } }]
  const verdict = entry(VERDICTS, target)
  if (verdict !== undefined) return [{ kind: 'verdict', verdict: { kind: verdict } }]
  const how = entry(NAT, target)
  if (how !== undefined) return [{ kind: 'nat', how }]
  if (WITHOUT_EFFECT.has(target)) return []
  if (target === 'NOTRACK') return [{ kind: 'untrack' }]
  if (target === 'CT') return options.includes('--notrack') ? [{ kind: 'untrack' }] : []
  if (target === 'MARK') return [readMark('mark', options)]
  if (target === 'CONNMARK') return [readConnmark(options)]
  return [{ kind: 'verdict', verdict: { kind: 'unknown', what: `the target ${target}` } }]
}

const entry = <T>(table: Readonly<Record<string, T>>, key: string): T | undefined =>
  Object.hasOwn(table, key) ? table[key] : undefined

/** `--set-xmark VALUE/MASK`: clears the bits of the mask, then flips (XORs) the bits of the value. */
function readMark(field: 'mark' | 'ct-mark', options: readonly string[]): Step {
  const [option, text = ''] = options
  const [value, mask = 0xffffffff] = text.split('/').map(Number)
  const lost: Expression = { kind: 'unknown', what: `a mark (${options.join(' ')})` }
  if (option !== '--set-xmark' || value === undefined || Number.isNaN(value) || Number.isNaN(mask))
    return { kind: 'set-mark', field, value: lost }
  const old: Expression = { kind: 'field', field }
  const number = (bits: number): Expression => ({ kind: 'value', value: bits })
  const kept: Expression = { kind: 'bits', operator: '&', operands: [old, number(~mask >>> 0)] }
  return {
    kind: 'set-mark',
    field,
    value:
      mask >>> 0 === 0xffffffff
        ? number(value)
        : { kind: 'bits', operator: '^', operands: [kept, number(value)] },
  }
}

function readConnmark(options: readonly string[]): Step {
  const isWhole =
    options.length === 1 || options.slice(1).every((each) => !each.startsWith('0x') || each === '0xffffffff')
  const from = (field: 'mark' | 'ct-mark'): Expression =>
    isWhole ? { kind: 'field', field } : { kind: 'unknown', what: 'a part of a mark' }
  if (options[0] === '--restore-mark') return { kind: 'set-mark', field: 'mark', value: from('ct-mark') }
  if (options[0] === '--save-mark') return { kind: 'set-mark', field: 'ct-mark', value: from('mark') }
  return readMark('ct-mark', options)
}
