import { execFileSync } from 'node:child_process'
import { readdirSync } from 'node:fs'
import { Kernel } from '../../../src/kernel/kernel'
import { patient } from '../../lab/patience'
import { openKernel, reported, requireSandbox } from './network'

beforeAll(() => requireSandbox())

const descriptors = (): number => readdirSync('/proc/self/fd').length

test('opening and closing leaves nothing behind', async () => {
  ;(await openKernel()).close()
  await new Promise(setImmediate)
  const before = descriptors()
  for (let round = 0; round < 100; round++) {
    const kernel = await openKernel()
    await kernel.link('lo')
    kernel.close()
    kernel.close()
  }
  await new Promise(setImmediate)
  expect(descriptors()).toBe(before)
  expect(reported).toEqual([])
})

test('a closed kernel refuses, and what was under way is rejected', async () => {
  const kernel = await openKernel()
  const running = kernel.hostNetwork()
  setImmediate(() => kernel.close())
  await running.catch((error) => expect(error).toMatchObject({ code: 'netlink-closed' }))
  await expect(kernel.link('lo')).rejects.toMatchObject({ code: 'netlink-closed' })
  expect(() => kernel.checkOverruns()).not.toThrow()
})

test('without CAP_NET_ADMIN one clear error says so', () => {
  const script = `
    require('tsx/cjs')
    const { Kernel } = require('./src/kernel/kernel.ts')
    Kernel.openWriter({ report() {} }).then(() => console.log('opened'), (error) => console.log(error.code, error.message, error.fix))`
  // A user namespace of its own has no rights over this network.
  const output = execFileSync('unshare', ['--user', process.execPath, '-e', script], { encoding: 'utf8' })
  expect(output).toContain(
    'no-net-admin this process must not change the network: it lacks the capability CAP_NET_ADMIN',
  )
  expect(output).toContain('AmbientCapabilities=CAP_NET_ADMIN')
})

test('a reader needs no right', () => {
  const script = `
    require('tsx/cjs')
    const { Kernel } = require('./src/kernel/kernel.ts')
    Kernel.open().then(async (kernel) => console.log((await kernel.links())[0].name), (error) => console.log(error.code))`
  const output = execFileSync('unshare', ['--user', process.execPath, '-e', script], { encoding: 'utf8' })
  expect(output).toBe('lo\n')
})

test('it does not keep a process alive, and an exit with it open is clean', () => {
  const script = `
    require('tsx/cjs')
    const { Kernel } = require('./src/kernel/kernel.ts')
    Kernel.openWriter({ report() {} }).then(async (kernel) => console.log((await kernel.hostNetwork()).links[0].name))`
  expect(execFileSync(process.execPath, ['-e', script], { encoding: 'utf8', timeout: patient(20_000) })).toBe(
    'lo\n',
  )
})

test('an error thrown by a listener reaches the report, not the process', async () => {
  const errors: Error[] = []
  const kernel = await Kernel.openWriter({ report: (error) => errors.push(error) })
  try {
    const told = new Promise<void>((resolve) => {
      kernel.onChange(() => {
        resolve()
        throw new Error('listener')
      })
    })
    execFileSync('ip', ['address', 'add', '192.0.2.201/32', 'dev', 'lo'])
    await told
    execFileSync('ip', ['address', 'delete', '192.0.2.201/32', 'dev', 'lo'])
    expect(errors[0]?.message).toBe('listener')
  } finally {
    kernel.close()
  }
})
