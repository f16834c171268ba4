/**
 * Watches one file for changes, through its directory: the file may come and go, and so may the directory
 * (inotify(7)).
 */
import { type FSWatcher, type Stats, statSync, watch } from 'node:fs'
import { basename, dirname } from 'node:path'

export class FileWatch {
  readonly #directory: string
  readonly #names: readonly string[]
  #watcher: FSWatcher | undefined
  #watched: Pick<Stats, 'dev' | 'ino'> | undefined

  /** @param onChange called from the event loop for each hint, also for changes this process made */
  constructor(
    path: string,
    private readonly onChange: () => void,
  ) {
    this.#directory = dirname(path)
    // An event about the directory itself carries the directory's name.
    this.#names = [basename(path), basename(this.#directory)]
  }

  /**
   * Starts watching, or watches anew if the directory was replaced. If that fails, no changes are reported.
   */
  arm(): void {
    try {
      const { dev, ino } = statSync(this.#directory)
      if (this.#watched?.dev === dev && this.#watched.ino === ino) return
      this.close()
      const watcher = watch(this.#directory, { persistent: false })
      watcher.on('change', (_event, name) => {
        if (name === null || this.#names.includes(String(name))) this.onChange()
      })
      watcher.on('error', () => this.close())
      this.#watcher = watcher
      this.#watched = { dev, ino }
    } catch {
      this.close()
    }
  }

  /** Idempotent. */
  close(): void {
    this.#watcher?.close()
    this.#watcher = undefined
    this.#watched = undefined
  }
}
