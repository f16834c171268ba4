/** Runs a tool that has to succeed. */
import { execFile } from 'node:child_process'

export interface RunOptions {
  readonly cwd?: string
  readonly env?: NodeJS.ProcessEnv
  /** Named when the program is missing. */
  readonly debianPackage?: string
}

/** @returns its standard output */
export function run(
  [program, ...args]: readonly [string, ...string[]],
  { cwd, env, debianPackage }: RunOptions = {},
): Promise<string> {
  return new Promise((resolve, reject) => {
    execFile(
      program,
      args,
      { cwd, env: { ...process.env, LC_ALL: 'C.UTF-8', ...env }, maxBuffer: 1 << 24 },
      (error, stdout, stderr) => {
        if (error === null) resolve(stdout)
        else if ('code' in error && error.code === 'ENOENT') {
          const fix = debianPackage === undefined ? '' : `; Debian has it in ${debianPackage}`
          reject(new Error(`${program} is missing${fix}`))
        } else
          reject(new Error(`${program} ${args.join(' ')}: ${(stderr || stdout || error.message).trim()}`))
      },
    )
  })
}
