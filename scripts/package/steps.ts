/**
 * Steps that the scripts of several kinds of packages have in common. A script names a step in a line of its
 * own, `#step NAME`, and the text of `steps/NAME.sh` is put in its place. The variable `root` is the
 * directory of the installation, empty for the running system.
 */
import { readFile } from 'node:fs/promises'
import { join } from 'node:path'

/** @throws where there is no such step */
export async function withSteps(script: string): Promise<string> {
  const lines = script.split('\n').map(async (line) => {
    const [, indent = '', name] = /^( *)#step (\S+)$/.exec(line) ?? []
    if (name === undefined) return line
    const text = await readFile(join(__dirname, 'steps', `${name}.sh`), 'utf8')
    return text.trimEnd().replaceAll(/^(?=.)/gm, indent)
  })
  return (await Promise.all(lines)).join('\n')
}
