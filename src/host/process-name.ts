/**
 * The name under which the process is listed. Node's own names are those of its program and of its first
 * thread.
 */
import { writeFileSync } from 'node:fs'

/** Flags whose value is secret: all users of a host see the command lines of its processes. */
const SECRET = /^--?etcd-password(?:=|$)/

/** The command line as it is listed, without secrets. */
export function titleOf(name: string, words: readonly string[]): string {
  const shown: string[] = []
  for (let place = 0; place < words.length; place += 1) {
    const word = words[place] ?? ''
    if (!SECRET.test(word)) shown.push(word)
    // The value is the next word: skip it as well.
    else if (!word.includes('=')) place += 1
  }
  return [name, ...shown].join(' ')
}

/**
 * Names the process for ps and pidof, and its first thread for pgrep, top and the kernel log (proc(5):
 * /proc/PID/cmdline, /proc/PID/comm).
 * @param name at most 15 bytes (TASK_COMM_LEN)
 * @param words the flags, listed after the name without secrets
 */
export function nameProcess(name: string, words: readonly string[]): void {
  process.title = titleOf(name, words)
  try {
    // process.title has put the flags into comm too.
    writeFileSync('/proc/self/comm', name)
  } catch {
    // The thread keeps its other name: harmless.
  }
}
