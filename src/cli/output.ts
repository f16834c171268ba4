/** How a document is printed: text for people, JSON and YAML for programs. */
import type { z } from 'zod'

export const OUTPUTS = ['text', 'wide', 'json', 'yaml'] as const
export type Output = (typeof OUTPUTS)[number]

/**
 * Prints a document.
 * @param text renders it for people; `wide` leaves nothing out
 */
export function printDocument<Document>(
  document: Document,
  output: Output,
  text: (wide: boolean) => string,
): void {
  process.stdout.write(formatDocument(document, output, text))
}

export function formatDocument<Document>(
  document: Document,
  output: Output,
  text: (wide: boolean) => string,
): string {
  if (output === 'json') return `${JSON.stringify(document, undefined, 2)}\n`
  if (output === 'yaml') return toYaml(document)
  return text(output === 'wide')
}

/** Prints the JSON Schema (draft 2020-12) of a document. */
export async function printSchema(schema: z.ZodType, title: string): Promise<void> {
  const { z } = await import('zod')
  const { $schema, ...rest } = z.toJSONSchema(schema)
  process.stdout.write(`${JSON.stringify({ $schema, title, ...rest }, undefined, 2)}\n`)
}

/** Read as text by every version of YAML, without quotes. `no`, `on` and the like are not among them. */
const PLAIN = /^(?!(?:y|n|yes|no|on|off|true|false|null)$)[a-z][a-z\d]*(?:[-_][a-z\d]+)*$/i

/**
 * JSON data as YAML. All text that is not a plain word is quoted as in JSON, which is YAML too (YAML 1.2, 1.3): an address, a MAC or a number in
 * text is read as text by every reader.
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
  typeof value === 'string' && PLAIN.test(value) ? value : JSON.stringify(value)
