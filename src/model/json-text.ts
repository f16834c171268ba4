/**
 * JSON text with positions (RFC 8259): where a text stops being JSON, and the members of an object with the
 * place and the exact text of their values.
 */

/** Where a text is not JSON, and what was expected there. */
export interface JsonFault {
  /** Index of the character; the length of the text if it ends too early. */
  readonly at: number
  readonly wanted: string
}

/** One `"name": value` of an object. */
export interface Member {
  readonly name: string
  /** The value exactly as written. */
  readonly text: string
  /** Index of its first character. */
  readonly at: number
}

const BLANK = /[ \t\n\r]*/y
const NUMBER = /-?(?:0|[1-9]\d*)(?:\.\d+)?(?:[eE][+-]?\d+)?/y
const WORD = /true|false|null/y
/** Characters that a string may contain unescaped: all from the space on, except " and \\. */
const PLAIN = /[ !#-[\]-\uffff]*/y
const ESCAPE = /\\(?:["\\/bfnrt]|u[\da-fA-F]{4})/y

class Scanner {
  at = 0

  constructor(readonly text: string) {}

  skip(pattern: RegExp): boolean {
    pattern.lastIndex = this.at
    const found = pattern.exec(this.text)
    this.at += found?.[0].length ?? 0
    return found !== null
  }

  take(character: string): boolean {
    if (this.text[this.at] !== character) return false
    this.at += 1
    return true
  }

  fault(wanted: string): JsonFault {
    return { at: this.at, wanted }
  }

  /** Reads the rest of a string, after its opening quote. */
  string(): JsonFault | undefined {
    do this.skip(PLAIN)
    while (this.skip(ESCAPE))
    if (this.take('"')) return undefined
    const found = this.text[this.at]
    if (found === '\\') return this.fault('an escape such as \\n, \\" or \\u00e9')
    return this.fault(
      found === undefined ? 'the closing " of a string' : 'a string without raw control characters',
    )
  }

  /** Reads a string, a number or a word. Brackets are left to the caller. */
  scalar(): JsonFault | undefined {
    if (this.take('"')) return this.string()
    return this.skip(WORD) || this.skip(NUMBER) ? undefined : this.fault('a value')
  }
}

/**
 * Finds the first fault. The time grows with the length of the text only, not with its depth.
 * @returns undefined if the text is JSON
 */
export function findJsonFault(text: string): JsonFault | undefined {
  const scanner = new Scanner(text)
  /** Closing brackets still expected, innermost last. */
  const open: ('}' | ']')[] = []
  for (;;) {
    scanner.skip(BLANK)
    let fault: JsonFault | undefined
    const isOpened = scanner.take('{') ? '}' : scanner.take('[') ? ']' : undefined
    if (isOpened !== undefined) {
      scanner.skip(BLANK)
      if (!scanner.take(isOpened)) {
        open.push(isOpened)
        fault = isOpened === '}' ? fieldName(scanner) : undefined
        if (fault !== undefined) return fault
        continue
      }
    } else fault = scanner.scalar()
    if (fault !== undefined) return fault
    // A value has ended, and perhaps the values around it.
    for (let isNext = false; !isNext; ) {
      scanner.skip(BLANK)
      const closing = open.at(-1)
      if (closing === undefined)
        return scanner.at === text.length ? undefined : scanner.fault('the end of the text')
      if (scanner.take(closing)) open.pop()
      else if (scanner.take(',')) isNext = true
      else return scanner.fault(`, or ${closing}`)
    }
    scanner.skip(BLANK)
    fault = open.at(-1) === '}' ? fieldName(scanner) : undefined
    if (fault !== undefined) return fault
  }
}

function fieldName(scanner: Scanner): JsonFault | undefined {
  scanner.skip(BLANK)
  if (!scanner.take('"')) return scanner.fault('the name of a field in double quotes (")')
  const fault = scanner.string()
  if (fault !== undefined) return fault
  scanner.skip(BLANK)
  return scanner.take(':') ? undefined : scanner.fault('a colon (:)')
}

/**
 * The members of an object in their order, including repeated names.
 * @param text a JSON value without a fault
 * @returns undefined if the value is not an object
 */
export function membersOf(text: string): readonly Member[] | undefined {
  const scanner = new Scanner(text)
  scanner.skip(BLANK)
  if (!scanner.take('{')) return undefined
  const members: Member[] = []
  for (;;) {
    scanner.skip(BLANK)
    if (scanner.take('}')) return members
    scanner.take(',')
    scanner.skip(BLANK)
    const start = scanner.at
    scanner.take('"')
    scanner.string()
    const name = String(JSON.parse(text.slice(start, scanner.at)))
    scanner.skip(BLANK)
    scanner.take(':')
    scanner.skip(BLANK)
    const at = scanner.at
    skipValue(scanner)
    members.push({ name, text: text.slice(at, scanner.at), at })
  }
}

function skipValue(scanner: Scanner): void {
  let depth = 0
  do {
    const found = scanner.text[scanner.at]
    if (found === '{' || found === '[') depth += 1
    else if (found === '}' || found === ']') depth -= 1
    if (found === '"' || (found !== undefined && /[-\dtfn]/.test(found))) scanner.scalar()
    else scanner.at += 1
  } while (depth > 0 && scanner.at < scanner.text.length)
}

/** A place in the text, for people: `line 2, column 5`. Columns count characters. */
export function placeIn(text: string, at: number): string {
  const before = text.slice(0, at).split('\n')
  return `line ${before.length}, column ${[...(before.at(-1) ?? '')].length + 1}`
}

/** Characters shown before and after the place of a fault. */
const AROUND = 12

/**
 * A fault as text: `line 1, column 54: '}' where the name of a field in double quotes (") is expected, near
 * ,}`.
 */
export function describeFault(text: string, { at, wanted }: JsonFault): string {
  const place = placeIn(text, at)
  if (text.trim() === '') return `${place}: the text is empty`
  const [found] = text.slice(at, at + 2)
  const near = text.slice(Math.max(0, at - AROUND), at + AROUND).replace(/\s+/g, ' ')
  if (found === undefined) return `${place}: the text ends where ${wanted} is expected, after ${near}`
  return `${place}: '${found}' where ${wanted} is expected, near ${near}${hintFor(found)}`
}

const HINTS: readonly (readonly [RegExp, string])[] = [
  [/[\u2018-\u201f\u00ab\u00bb]/, '; that is a typographic quote: write "'],
  [/'/, '; JSON has double quotes (") only'],
  [/[/#]/, '; JSON has no comments'],
  [/\ufeff/, '; that is a byte order mark (BOM), which flanneld refuses too: save the text without it'],
]

const hintFor = (found: string): string => HINTS.find(([pattern]) => pattern.test(found))?.[1] ?? ''
