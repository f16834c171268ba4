/**
 * Root's access to files in directories of other users. The tests need root to make files of another user.
 */

import { execFileSync } from 'node:child_process'
import {
  chmodSync,
  chownSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  readlinkSync,
  rmSync,
  statSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { removeFile, writeFileAtomically } from '../../../src/host/atomic-file'
import { openPlace, readFileOfOthers } from '../../../src/host/trusted-path'

const OTHER = 65_534
// Only root can make files of another user. scripts/test as root, as in CI, runs these tests too.
const asRoot = process.geteuid?.() === 0 ? describe : describe.skip

let root: string
let theirs: string
beforeEach(() => {
  root = mkdtempSync(join(tmpdir(), 'overlayd-trust-'))
  theirs = join(root, 'theirs')
  mkdirSync(theirs)
  writeFileSync(join(root, 'victim'), 'secret', { mode: 0o600 })
})
afterEach(() => rmSync(root, { recursive: true }))

const descriptors = () => readdirSync('/proc/self/fd').length

test('our own symlinks are followed, also chains of them, and directories are made', async () => {
  symlinkSync('theirs', join(root, 'a'))
  symlinkSync('../victim', join(theirs, 'b'))
  symlinkSync(join(root, 'a', 'b'), join(root, 'c'))
  expect(await readFileOfOthers(join(root, 'c'))).toBe('secret')
  await writeFileAtomically(join(root, 'c'), 'new')
  expect(readFileSync(join(root, 'victim'), 'utf8')).toBe('new')
  expect(statSync(join(root, 'victim')).mode & 0o777).toBe(0o600)
  await writeFileAtomically(join(root, 'x/y/z'), 'made')
  expect(readFileSync(join(root, 'x/y/z'), 'utf8')).toBe('made')
  await removeFile(join(root, 'c'))
  expect(existsSync(join(root, 'c'))).toBe(false)
  await removeFile(join(root, 'none/at/all'))
})

test.each([
  ['no file', 'none', 'ENOENT'],
  ['a directory', 'theirs', 'EISDIR'],
  ['no directory', 'victim/x', 'ENOTDIR'],
])('%s causes its own error, and nothing stays open', async (_what, name, code) => {
  const before = descriptors()
  await expect(readFileOfOthers(join(root, name))).rejects.toMatchObject({ code })
  expect(descriptors()).toBe(before)
})

test('a pipe, a device, a loop of symlinks and an endless file are refused at once', async () => {
  execFileSync('mkfifo', [join(root, 'pipe')])
  await expect(readFileOfOthers(join(root, 'pipe'))).rejects.toMatchObject({ code: 'EINVAL' })
  await expect(readFileOfOthers('/dev/zero')).rejects.toMatchObject({ code: 'EINVAL' })
  symlinkSync('loop', join(root, 'loop'))
  await expect(readFileOfOthers(join(root, 'loop'))).rejects.toMatchObject({ code: 'ELOOP' })
  writeFileSync(join(root, 'long'), 'x'.repeat(2000))
  await expect(readFileOfOthers(join(root, 'long'), 1000)).rejects.toMatchObject({ code: 'EFBIG' })
})

test('a temporary file is never an existing one', async () => {
  const path = join(root, 'file')
  symlinkSync(join(root, 'victim'), join(root, `.file.${process.pid}`))
  await writeFileAtomically(path, 'text')
  expect(readFileSync(join(root, 'victim'), 'utf8')).toBe('secret')
  expect(readdirSync(root).filter((name) => name.startsWith('.file.'))).toEqual([`.file.${process.pid}`])
})

asRoot('for root', () => {
  beforeEach(() => chownSync(theirs, OTHER, OTHER))

  test('a symlink in a directory of another user is never followed', async () => {
    symlinkSync(join(root, 'victim'), join(theirs, 'link'))
    symlinkSync(root, join(theirs, 'directory'))
    for (const path of [join(theirs, 'link'), join(theirs, 'directory', 'victim')]) {
      await expect(readFileOfOthers(path)).rejects.toMatchObject({ code: 'ELOOP' })
      await expect(writeFileAtomically(path, 'x')).rejects.toMatchObject({ code: 'ELOOP' })
    }
    await expect(removeFile(join(theirs, 'directory', 'victim'))).rejects.toMatchObject({ code: 'ELOOP' })
    // The symlink itself may be removed.
    await removeFile(join(theirs, 'link'))
    expect(existsSync(join(theirs, 'link'))).toBe(false)
    expect(readlinkSync(join(theirs, 'directory'))).toBe(root)
    expect(readFileSync(join(root, 'victim'), 'utf8')).toBe('secret')
  })

  test('another user’s symlink in a directory where all may write is not followed', async () => {
    chmodSync(root, 0o1777)
    symlinkSync('victim', join(root, 'link'))
    execFileSync('chown', ['-h', `${OTHER}`, join(root, 'link')])
    await expect(readFileOfOthers(join(root, 'link'))).rejects.toMatchObject({ code: 'ELOOP' })
    symlinkSync('victim', join(root, 'own'))
    expect(await readFileOfOthers(join(root, 'own'))).toBe('secret')
  })

  test('other users who can change a file are reported', async () => {
    const place = await openPlace(join(theirs, 'file'))
    expect(place.otherWriter).toBe(`user ${OTHER}`)
    await place.close()
    const own = await openPlace(join(root, 'victim'))
    expect(own.otherWriter).toBeUndefined()
    await own.close()
  })

  test('another user’s pipe in place of the file is not written to', async () => {
    execFileSync('mkfifo', [join(theirs, 'pipe')])
    await expect(writeFileAtomically(join(theirs, 'pipe'), 'x')).rejects.toMatchObject({ code: 'EINVAL' })
  })
})
