/**
 * The environment of each test file: jest's for Node, without two of its costs. A test file still has a
 * context and a module registry of its own. Test files of one process share only compiled code, which has no
 * state.
 */
import { AsyncLocalStorage } from 'node:async_hooks'
import vm from 'node:vm'
import { TestEnvironment } from 'jest-environment-node'
import { timeLimits } from '../lab/time-limits'

/** The compiled code of a file, and what it was compiled from. */
interface Compiled {
  readonly head: string
  readonly source: string
  readonly script: vm.Script
}
const compiled = new Map<string, Compiled>()

const { compileFunction } = vm

/**
 * Compiles a module once per process. jest would compile its own modules, and those of libraries, again for
 * each test file: a ninth of the CPU time of `npm test`. The callback for dynamic imports is left out,
 * because it needs `--experimental-vm-modules`, and swc makes `require` of them.
 */
vm.compileFunction = (source, params = [], options = {}) => {
  const { filename, parsingContext } = options
  if (filename === undefined || parsingContext === undefined) return compileFunction(source, params, options)
  const head = `(function (${params.join(', ')}) {`
  let known = compiled.get(filename)
  if (known?.source !== source || known.head !== head) {
    const script = new vm.Script(`${head}${source}\n})`, { filename, columnOffset: -head.length })
    known = { head, source, script }
    compiled.set(filename, known)
  }
  return known.script.runInContext(parsingContext)
}

/** Storages that the present test file has used. */
const storages = new Set<AsyncLocalStorage<unknown>>()

const { run } = AsyncLocalStorage.prototype
AsyncLocalStorage.prototype.run = function (this: AsyncLocalStorage<unknown>, ...args: unknown[]) {
  storages.add(this)
  return Reflect.apply(run, this, args)
}

export default class Environment extends TestEnvironment {
  readonly handleTestEvent = timeLimits()

  /**
   * Disables the storages of the test file. jest makes one for each test file and never disables it. In Node
   * 20 and 22 each promise costs time for each storage: for the last test files more than all else.
   */
  override async teardown(): Promise<void> {
    await super.teardown()
    for (const storage of storages) storage.disable()
    storages.clear()
  }
}
