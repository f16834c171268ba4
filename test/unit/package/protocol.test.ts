/** The bundle has a part of etcd's protocol only. Without a method that is called, a command fails there alone. */
import { readdirSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { readProtocol } from '../../../scripts/package/bundle'

const ETCD = join(__dirname, '../../../src/etcd')

/** Methods of the service Auth in the source, as `etcd.auth.userGet(...)`. */
const called = (): string[] =>
  readdirSync(ETCD, { recursive: true, encoding: 'utf8' })
    .filter((file) => file.endsWith('.ts'))
    .flatMap((file) => [...readFileSync(join(ETCD, file), 'utf8').matchAll(/\.auth\s*\.(\w+)\(/g)])
    .map(([, method = '']) => method.replace(/^./, (letter) => letter.toUpperCase()))

test('the bundle has the methods of logins, users and roles that src/etcd calls, and no others', () => {
  const used = new Set(['Authenticate', ...called()])
  expect(used.size).toBeGreaterThan(5)
  const nested = readProtocol().nested as Record<string, { nested: Record<string, { methods: object }> }>
  const methods = nested['etcdserverpb']?.nested['Auth']?.methods ?? {}
  expect(Object.keys(methods).sort()).toEqual([...used].sort())
})
