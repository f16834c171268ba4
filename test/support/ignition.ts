/**
 * Lays down what an Ignition config names, below a root that has not booted yet, as Ignition does in the
 * initramfs of a host's first boot.
 */
import { mkdirSync, symlinkSync, writeFileSync } from 'node:fs'
import { basename, dirname, join } from 'node:path'
import type { Ignition } from '../../scripts/ignition/translate'

/** Ignition's default for files. */
const MODE = 0o644
const UNITS = '/etc/systemd/system'

/** Fetches a URL to a path below the root. */
export type Fetch = (url: string, path: string) => Promise<void>

export async function layDown(config: Ignition, root: string, fetch: Fetch): Promise<void> {
  const put = (path: string, content: string, mode = MODE): void => {
    makeParent(root, path)
    writeFileSync(join(root, path), content, { mode })
  }
  const link = (path: string, target: string): void => {
    makeParent(root, path)
    symlinkSync(target, join(root, path))
  }
  for (const { path, mode, contents } of config.storage.files) {
    const [, data] = /^data:,(.*)$/s.exec(contents.source) ?? []
    if (data !== undefined) put(path, decodeURIComponent(data), mode)
    else {
      makeParent(root, path)
      await fetch(contents.source, join(root, path))
    }
  }
  for (const { path, target, hard } of config.storage.links) {
    if (hard === true) throw new Error(`${path} is a hard link, which this interpreter does not make`)
    link(path, target)
  }
  for (const { name, enabled, contents, dropins = [] } of config.systemd.units) {
    if (contents !== undefined) put(`${UNITS}/${name}`, contents)
    for (const each of dropins) put(`${UNITS}/${name}.d/${each.name}`, each.contents)
    if (enabled !== true) continue
    // A unit of the image has no contents here. All units of images that configs enable are for this target.
    const [, target = 'multi-user.target'] = /^WantedBy=(.*)$/m.exec(contents ?? '') ?? []
    const file = contents === undefined ? `/usr/lib/systemd/system/${name}` : `${UNITS}/${name}`
    link(`${UNITS}/${target}.wants/${basename(name)}`, file)
  }
}

const makeParent = (root: string, path: string): void => {
  mkdirSync(dirname(join(root, path)), { recursive: true })
}
