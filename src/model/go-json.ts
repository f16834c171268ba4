import type { z } from 'zod'

/**
 * JSON text read by the rules of Go's encoding/json that flannel's files rely on: an object is wanted, field names match in any
 * case, the last of two equal names wins, unknown fields are left out.
 * @param text the JSON text
 * @param fields the field names, spelled as in the result
 * @returns the known fields; a field that is absent in the text is absent here
 * @throws {SyntaxError} when the text is not JSON
 * @throws {TypeError} when it is not an object
 */
export function parseGoObject<Field extends string>(
  text: string,
  fields: readonly Field[],
): Partial<Record<Field, unknown>> {
  return foldGoObject(JSON.parse(text), fields)
}

/** The same for a value that is already parsed. */
export function foldGoObject<Field extends string>(
  value: unknown,
  fields: readonly Field[],
): Partial<Record<Field, unknown>> {
  if (typeof value !== 'object' || value === null || Array.isArray(value)) {
    throw new TypeError(`a JSON object is wanted, this is ${JSON.stringify(value)?.slice(0, 40)}`)
  }
  const spelling = new Map(fields.map((field) => [field.toLowerCase(), field]))
  const folded: Partial<Record<Field, unknown>> = {}
  for (const [name, content] of Object.entries(value)) {
    const field = spelling.get(name.toLowerCase())
    if (field !== undefined) folded[field] = content
  }
  return folded
}

/** A scalar field as Go reads it: `null` leaves the default untouched, so it is the same as an absent field. */
export const goField = <Schema extends z.ZodType>(schema: Schema) =>
  schema.nullish().transform((value) => value ?? undefined)

/** The first problem zod found, worded for people: `Backend.VNI: Too big: expected number to be <=16777215`. */
export function firstIssue(error: z.ZodError): string {
  const issue = error.issues[0]
  if (issue === undefined) return 'not valid'
  return issue.path.length === 0 ? issue.message : `${issue.path.join('.')}: ${issue.message}`
}
