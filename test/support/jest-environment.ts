/**
 * The environment of each test file: jest's for Node, without two of its costs. A test file still has a
 * context and a module registry of its own. Test files of one process share only compiled code, which has no
 * state.
 */
import { AsyncLocalStorage } from 'node:async_hooks'
import vm from 'node:vm'
import { TestEnvironment } from 'jest-environment-node'

/** The compiled code of each file, and the text that it was compiled from. */
const scripts = new Map<string, { readonly text: string; readonly script: vm.Script }>()

const { compileFunction } = vm

/**
 * Compiles a module once per process. jest would compile its own modules, and those of libraries, again for
 * each test file: a ninth of the CPU time of `npm test`. The callback for dynamic imports is left out, because
 * it needs `--experimental-vm-modules`, and swc makes `require` of them.
 */
vm.compileFunction = (source, params = [], options = {}) => {
  const { filename, parsingContext } = options
  if (filename === undefined || parsingContext === undefined) return compileFunction(source, params, options)
  const head = `(function (${params.join(', ')}) {`
  const text = `${head}${source}\n})`
  let known = scripts.get(filename)
  if (known?.text !== text) {
    known = { text, script: new vm.Script(text, { filename, columnOffset: -head.length }) }
    scripts.set(filename, known)
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
