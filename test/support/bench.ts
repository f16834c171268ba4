/** Runs the benchmark suite as a program. */
import { join, resolve } from 'node:path'
import { type RunResult, run } from '../lab/process'

const ROOT = resolve(__dirname, '../..')

/** @returns the finished run; it is killed after 170 s (more on a slow machine) */
export const bench = (...args: readonly string[]): Promise<RunResult> =>
  run([join(ROOT, 'node_modules/.bin/tsx'), join(ROOT, 'scripts/bench/main.ts'), ...args], {
    timeoutMs: 170_000,
  })
