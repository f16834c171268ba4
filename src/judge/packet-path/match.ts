/** Whether a condition holds for a packet: yes, no, or it cannot be decided (`undefined`). */
import type { BitOperator, Condition, Expression, Value, ValueSet } from '../../model/packet-filter'
import type { Known, Packet } from './packet'

export type Holds = boolean | undefined

export function holds(condition: Condition, packet: Packet): Holds {
  const values = condition.left.map((expression) => evaluate(expression, packet))
  // A condition on a header that the packet does not have never matches.
  if (values.includes(null)) return false
  const { operator } = condition
  if (operator === '==' || operator === '!=') {
    const found = anyRow(condition.rows, values)
    return found === undefined || operator === '==' ? found : !found
  }
  const [value] = values
  const [wanted] = condition.rows[0]?.[0]?.exact ?? []
  if (value === undefined || value === null || wanted === undefined || typeof value !== typeof wanted)
    return undefined
  switch (operator) {
    case '<':
      return value < wanted
    case '>':
      return value > wanted
    case '<=':
      return value <= wanted
    case '>=':
      return value >= wanted
    case 'has-bit':
      return typeof value === 'number' && typeof wanted === 'number' ? (value & wanted) !== 0 : undefined
  }
}

/** Any condition of several. */
export function anyHolds(conditions: readonly Condition[], packet: Packet): Holds {
  let result: Holds = false
  for (const condition of conditions) {
    const each = holds(condition, packet)
    if (each === true) return true
    if (each === undefined) result = undefined
  }
  return result
}

function anyRow(rows: readonly (readonly ValueSet[])[], values: readonly Known[]): Holds {
  let result: Holds = false
  for (const row of rows) {
    const each = rowHolds(row, values)
    if (each === true) return true
    if (each === undefined) result = undefined
  }
  return result
}

export function rowHolds(row: readonly ValueSet[], values: readonly Known[]): Holds {
  let result: Holds = true
  for (const [i, set] of row.entries()) {
    const value = values[i]
    const each = value === undefined || value === null ? unknownIn(set) : contains(set, value)
    if (each === false) return false
    if (each === undefined) result = undefined
  }
  return result
}

/** Even an unknown value is certainly not in an empty set. */
const unknownIn = ({ exact, ranges, beginnings, isPartial }: ValueSet): Holds =>
  exact.size + ranges.length + beginnings.length === 0 && !isPartial ? false : undefined

export function contains({ exact, ranges, beginnings, isPartial }: ValueSet, value: Value): Holds {
  if (exact.has(value)) return true
  if (typeof value === 'string' && beginnings.some((beginning) => value.startsWith(beginning))) return true
  if (ranges.length > 0 && inRanges(ranges, value)) return true
  return isPartial ? undefined : false
}

/** Ranges do not overlap and are sorted. */
function inRanges(ranges: ValueSet['ranges'], value: Value): boolean {
  let [low, high] = [0, ranges.length - 1]
  while (low <= high) {
    const middle = (low + high) >> 1
    const [first, last] = ranges[middle] ?? [value, value]
    if (typeof first !== typeof value) return false
    if (value < first) high = middle - 1
    else if (value > last) low = middle + 1
    else return true
  }
  return false
}

export function evaluate(expression: Expression, packet: Packet): Known {
  switch (expression.kind) {
    case 'value':
      return expression.value
    case 'unknown':
      return undefined
    case 'field': {
      const { field, family, protocols } = expression
      if (family !== undefined && family !== packet.family) return null
      if (protocols !== undefined) {
        const { protocol } = packet.fields
        if (typeof protocol !== 'number') return undefined
        if (!protocols.includes(protocol)) return null
      }
      return packet.fields[field]
    }
    case 'bits': {
      const operands = expression.operands.map((operand) => evaluate(operand, packet))
      if (operands.includes(null)) return null
      return operands.reduce((left, right) => bits(expression.operator, left, right))
    }
  }
}

function bits(operator: BitOperator, left: Known, right: Known): Known {
  if (typeof left === 'bigint' && typeof right === 'bigint') return wideBits(operator, left, right)
  // A mask of 0 leaves nothing, also of an unknown mark.
  if (operator === '&' && (left === 0 || right === 0)) return 0
  if (typeof left !== 'number' || typeof right !== 'number') return undefined
  switch (operator) {
    case '&':
      return (left & right) >>> 0
    case '|':
      return (left | right) >>> 0
    case '^':
      return (left ^ right) >>> 0
    case '<<':
      return (left << right) >>> 0
    case '>>':
      return left >>> right
  }
}

function wideBits(operator: BitOperator, left: bigint, right: bigint): Known {
  switch (operator) {
    case '&':
      return left & right
    case '|':
      return left | right
    case '^':
      return left ^ right
    default:
      return undefined
  }
}
