import { readdirSync, readFileSync } from 'node:fs'
import { join, resolve } from 'node:path'
import { runProgram } from '../../../src/firewall/program'
import { childEnvironment } from '../../../src/model/child-environment'
import { patient } from '../../lab/patience'

const SRC = resolve(__dirname, '../../../src')

test('a child gets PATH and a locale, and no secret', () => {
  const env = { PATH: '/bin', FLANNELD_ETCD_PASSWORD: 'hunter2', NOTIFY_SOCKET: '/x', LANG: 'de_DE.UTF-8' }
  expect(childEnvironment(env)).toEqual({ PATH: '/bin', LC_ALL: 'C' })
})

test('a program that is run has this environment', async () => {
  process.env['FLANNELD_ETCD_PASSWORD'] = 'hunter2'
  try {
    const output = await runProgram('x', {
      command: ['/usr/bin/env'],
      signal: AbortSignal.timeout(patient(10_000)),
    })
    expect(output).toContain('PATH=')
    expect(output).not.toMatch(/hunter2|FLANNELD_/)
  } finally {
    delete process.env['FLANNELD_ETCD_PASSWORD']
  }
})

test('every call in src that starts a program passes this environment', () => {
  const files = readdirSync(SRC, { recursive: true, encoding: 'utf8' }).filter((file) => file.endsWith('.ts'))
  const starting = files.filter((file) =>
    readFileSync(join(SRC, file), 'utf8').includes("'node:child_process'"),
  )
  expect(starting.length).toBeGreaterThan(2)
  for (const file of starting) {
    const code = readFileSync(join(SRC, file), 'utf8')
    const calls =
      code.match(/(?<![.\w])(?:execFile|spawn|exec|fork|execFileSync|spawnSync)\)?\((?!\))/g) ?? []
    expect([file, code.match(/env: childEnvironment\(/g)?.length ?? 0]).toEqual([file, calls.length])
  }
})
