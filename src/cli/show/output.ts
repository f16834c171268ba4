/** Prints a document: as text for people, as JSON or YAML for programs. */
import type { z } from 'zod'
import { print } from '../../host/streams'
import { toJson } from '../../model/printable'

export const OUTPUTS = ['text', 'wide', 'json', 'yaml'] as const
export type Output = (typeof OUTPUTS)[number]

/**
 * Prints a document.
 * @param text renders it for people; with `wide` nothing is left out
 */
export function printDocument<Document>(
  document: Document,
  output: Output,
  text: (wide: boolean) => string,
): void {
  print(formatDocument(document, output, text))
}

export function formatDocument<Document>(
  document: Document,
  output: Output,
  text: (wide: boolean) => string,
): string {
  if (output === 'json') return `${toJson(document, 2)}\n`
  if (output === 'yaml') return toYaml(document)
  return text(output === 'wide')
}

/** Prints the JSON Schema (draft 2020-12) of a document. */
export async function printSchema(schema: z.ZodType, title: string): Promise<void> {
  const { z } = await import('zod')
  const { $schema, ...rest } = z.toJSONSchema(schema)
  print(`${toJson({ $schema, title, ...rest }, 2)}\n`)
}

/**
 * Words that every version of YAML reads as text without quotes. `no`, `on` and the like are not among them.
 */
const PLAIN = /^(?!(?:y|n|yes|no|on|off|true|false|null)$)[a-z][a-z\d]*(?:[-_][a-z\d]+)*$/i

/**
 * JSON data as YAML. Text other than plain words is quoted as in JSON, which is valid YAML (YAML 1.2, 1.3).
 * So every reader takes an address, a MAC or a number in text as text.
 */
export function toYaml(data: unknown): string {
  return `${blockOf(JSON.parse(JSON.stringify(data)), '')
    .replace(/^\n/, '')
    .trimStart()}\n`
}

function blockOf(value: unknown, indent: string): string {
  if (Array.isArray(value) && value.length > 0) {
    return value.map((item) => `\n${indent}- ${blockOf(item, `${indent}  `).trimStart()}`).join('')
  }
  if (typeof value === 'object' && value !== null && !Array.isArray(value) && Object.keys(value).length > 0) {
    return Object.entries(value)
      .map(([key, item]) => {
        const block = blockOf(item, Array.isArray(item) ? indent : `${indent}  `)
        return `\n${indent}${scalarOf(key)}:${block.startsWith('\n') ? block : ` ${block}`}`
      })
      .join('')
  }
  return scalarOf(value)
}

const scalarOf = (value: unknown): string =>
  typeof value === 'string' && PLAIN.test(value) ? value : yamlEscapes(toJson(value))

/**
 * Adapts JSON escapes to YAML. A character outside of the first plane is one escape in YAML and two in JSON.
 * A lone surrogate cannot be written in YAML, so it becomes U+FFFD.
 */
const yamlEscapes = (json: string): string =>
  json.replace(
    /\\(?:u(d[89ab][\da-f]{2})\\u(d[c-f][\da-f]{2})|u(d[89a-f][\da-f]{2})|.)/g,
    (escaped, high, low, half) => {
      if (half !== undefined) return '\\ufffd'
      if (high === undefined) return escaped
      const code =
        String.fromCharCode(Number.parseInt(high, 16), Number.parseInt(low, 16)).codePointAt(0) ?? 0
      return `\\U${code.toString(16).padStart(8, '0')}`
    },
  )
