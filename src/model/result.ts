/** A value, or the problem that kept it from being read. */
import { isOverlayError, OverlayError, systemErrorCode } from './errors'

/** One thing that is wrong, as a value. Words for people are made from it last. */
export interface Problem<Part extends string = string> {
  /** What is affected: `etcd`, `config`, `kernel`. */
  readonly part: Part
  /** Stable, for programs: the code of an OverlayError, of a system error, or `unknown`. */
  readonly code: string
  /** For people; does not name the part again. */
  readonly text: string
  /** What a person can do about it. */
  readonly fix?: string
  /** Commands that carry out the fix. */
  readonly commands?: readonly string[]
}

/** `value` and `problem` may be read without checking `ok`: the absent one is `undefined`. */
export type Result<T> =
  | { readonly ok: true; readonly value: T; readonly problem?: never }
  | { readonly ok: false; readonly problem: Problem; readonly value?: never }

export type Found<T> = Extract<Result<T>, { readonly ok: true }>
export type Failed = Extract<Result<never>, { readonly ok: false }>

export const found = <T>(value: T): Found<T> => ({ ok: true, value })

export const failed = (problem: Problem): Failed => ({ ok: false, problem })

/** The problem that a thrown error stands for. */
export function problemOf(part: string, error: unknown): Problem {
  if (isOverlayError(error)) {
    const { code, message, fix } = error
    return { part, code, text: message, ...(fix !== undefined && { fix }) }
  }
  return {
    part,
    code: systemErrorCode(error) ?? 'unknown',
    text: error instanceof Error ? error.message : String(error),
  }
}

/** A result of the return value, or of the thrown error. */
export async function attempt<T>(part: string, read: () => T | Promise<T>): Promise<Result<T>> {
  try {
    return found(await read())
  } catch (error) {
    return failed(problemOf(part, error))
  }
}

/**
 * The value of a result.
 * @throws {OverlayError} the problem
 */
export function valueOrThrow<T>(result: Result<T>): T {
  if (result.ok) return result.value
  const { code, text, fix } = result.problem
  throw new OverlayError(code, text, fix)
}

/** The words of a problem, with its fix. */
export const describeProblem = ({
  text,
  fix,
}: {
  readonly text: string
  readonly fix?: string | undefined
}): string => (fix === undefined ? text : `${text}; ${fix}`)
