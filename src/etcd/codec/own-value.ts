/** Values of our own keys: JSON by a schema. */
import type { z } from 'zod'
import { firstIssue } from '../../model/go-json'
import type { Decoded } from './keys'
import { refuse } from './lease-codec'

/** Reads the text of a value, whose length the caller has bounded. Never throws. */
export function readOwnValue<T>(schema: z.ZodType<T>, text: string): Decoded<T> {
  let json: unknown
  try {
    json = JSON.parse(text)
  } catch (error) {
    return refuse(`the value is not JSON: ${error instanceof Error ? error.message : String(error)}`)
  }
  const read = schema.safeParse(json)
  return read.success ? { value: read.data } : refuse(`the value is not valid: ${firstIssue(read.error)}`)
}
