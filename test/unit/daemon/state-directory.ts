/** A directory in which the daemon keeps files, and what its log says: new for each test of a file. */
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { PassThrough } from 'node:stream'
import { EventLog } from '../../../src/daemon/tell/events'
import { createLogger } from '../../../src/daemon/tell/logger'

/** Registers what makes and removes the directory. */
export function stateDirectory() {
  const stream = new PassThrough().on('data', (chunk: Buffer) => {
    state.printed += chunk.toString()
  })
  const state = {
    directory: '',
    /** What the log has said since the test began, or since it was emptied. */
    printed: '',
    log: createLogger(3, { underJournald: true, stream }, new EventLog()),
  }
  beforeEach(() => {
    state.directory = mkdtempSync(join(tmpdir(), 'overlayd-state-'))
    state.printed = ''
  })
  afterEach(() => rmSync(state.directory, { recursive: true, force: true }))
  return state
}
