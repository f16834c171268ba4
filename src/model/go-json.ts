import type { z } from 'zod'
import { describeFault, findJsonFault } from './json-text'

/**
 * Reads JSON text by the rules of Go's encoding/json that flannel's files rely on: the text must be an
 * object, field names match regardless of case, the last of several equal names wins, unknown fields are
 * ignored.
 * @param text the JSON text
 * @param fields the field names, spelled as in the result
 * @returns the known fields that occur in the text
 * @throws {SyntaxError} if the text is not JSON
 * @throws {TypeError} if it is not an object
 */
export function parseGoObject<Field extends string>(
  text: string,
  fields: readonly Field[],
): Partial<Record<Field, unknown>> {
  return foldGoObject(parseJson(text), fields)
}

/** @throws {SyntaxError} with line, column and character of the first fault */
function parseJson(text: string): unknown {
  try {
    return JSON.parse(text)
  } catch (error) {
    const fault = findJsonFault(text)
    throw fault === undefined ? error : new SyntaxError(describeFault(text, fault))
  }
}

/**
 * A field's name folded as Go compares names: without case, and with the long s and the Kelvin sign folded
 * too.
 */
export const foldName = (name: string): string => name.toUpperCase().toLowerCase()

/** {@link parseGoObject} for a value that is already parsed. */
export function foldGoObject<Field extends string>(
  value: unknown,
  fields: readonly Field[],
): Partial<Record<Field, unknown>> {
  if (typeof value !== 'object' || value === null || Array.isArray(value)) {
    throw new TypeError(`expected a JSON object, found ${JSON.stringify(value)?.slice(0, 40)}`)
  }
  const spelling = new Map(fields.map((field) => [foldName(field), field]))
  const folded: Partial<Record<Field, unknown>> = {}
  for (const [name, content] of Object.entries(value)) {
    const field = spelling.get(foldName(name))
    // To Go, `null` leaves a field as it is: it does not override an earlier value of the same name.
    if (field !== undefined && !(content === null && field in folded)) folded[field] = content
  }
  return folded
}

/** A scalar field as Go reads it: `null` leaves the default in place, so it counts as absent. */
export const goField = <Schema extends z.ZodType>(schema: Schema) =>
  schema.nullish().transform((value) => value ?? undefined)

/**
 * The first problem zod found, as text for people: `Backend.VNI: Too big: expected number to be <=16777215`.
 */
export function firstIssue(error: z.ZodError): string {
  const issue = error.issues[0]
  if (issue === undefined) return 'not valid'
  return issue.path.length === 0 ? issue.message : `${issue.path.join('.')}: ${issue.message}`
}
