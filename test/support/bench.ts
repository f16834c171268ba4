/** The benchmark suite, run as a program. */
import { join, resolve } from 'node:path'
import { type RunResult, run } from './process'

const ROOT = resolve(__dirname, '../..')

/** Runs it to its end, on a machine that may be busy: less than three minutes. */
export const bench = (...args: readonly string[]): Promise<RunResult> =>
  run([join(ROOT, 'node_modules/.bin/tsx'), join(ROOT, 'scripts/bench/main.ts'), ...args], {
    timeoutMs: 170_000,
  })
