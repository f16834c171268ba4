/** The programs that can be measured: this tree's daemon, the bundle of the package, or a flanneld. */
import { existsSync, readdirSync, readFileSync } from 'node:fs'
import { join, resolve } from 'node:path'
import { flanneldAt } from '../../test/lab/flanneld'
import type { StartOptions } from '../../test/lab/host'

const ROOT = resolve(__dirname, '../..')

export interface Subject {
  readonly name: string
  readonly flannel: boolean
  /** How a host starts the daemon. */
  readonly start: StartOptions
  /** The command of its overlayctl. */
  readonly control: readonly [string, ...string[]]
}

const overlayd = (name: string, directory: string): Subject => {
  const program = (stem: string): [string, ...string[]] => {
    const file = join(directory, `${stem}.js`)
    return [process.execPath, ...nodeOptions(file), file]
  }
  return {
    name,
    flannel: false,
    start: { program: program('overlayd'), flags: { v: '0' } },
    control: program('overlayctl'),
  }
}

/** The options of node in the first line of a program. */
const nodeOptions = (file: string): readonly string[] =>
  readFileSync(file, 'utf8')
    .split('\n', 1)[0]
    ?.split(' ')
    .filter((word) => word.startsWith('--')) ?? []

/** The daemon as `npm run build` leaves it. */
export const builtTree = (): Subject => overlayd('dist', join(ROOT, 'dist'))

/**
 * The daemon as in the package, run by the node that runs this program. `npm run package` makes the bundle,
 * and its compile cache with that node.
 */
export function bundle(): Subject {
  const packages = join(ROOT, 'dist/package')
  const [name] = existsSync(packages)
    ? readdirSync(packages).filter((each) => each.endsWith(`-linux-${process.arch}`))
    : []
  if (name === undefined) throw new Error('there is no bundle: npm run package makes it')
  return overlayd('bundle', join(packages, name))
}

/** A flanneld, with flags that it and overlayd have in common. */
export const flanneld = (path: string): Subject => ({
  name: 'flanneld',
  flannel: true,
  start: flanneldAt(path, { v: '0' }),
  control: ['false'],
})
