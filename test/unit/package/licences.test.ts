/** The licences of all shipped packages allow shipping. */
import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { z } from 'zod'

const lock = z
  .object({
    packages: z.record(
      z.string(),
      z.object({
        license: z.string().optional(),
        dev: z.boolean().optional(),
        resolved: z.string().optional(),
      }),
    ),
  })
  .parse(JSON.parse(readFileSync(join(__dirname, '../../../package-lock.json'), 'utf8')))

/** Licences whose only condition is that the licence is included. */
const PERMISSIVE = ['MIT', 'ISC', 'Apache-2.0', 'BSD-2-Clause', 'BSD-3-Clause', '0BSD', 'BlueOak-1.0.0']

test('each package of the production install has a permissive licence', () => {
  const shipped = Object.entries(lock.packages).filter(([path, { dev }]) => path !== '' && dev !== true)
  expect(shipped.length).toBeGreaterThan(10)
  const others = shipped.filter(([, { license = 'none' }]) => !PERMISSIVE.includes(license))
  expect(others.map(([path, { license }]) => `${path}: ${license}`)).toEqual([])
})
