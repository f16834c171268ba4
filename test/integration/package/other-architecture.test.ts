/**
 * The packages of the architecture that this machine does not have, arm64 on most: their program runs under
 * QEMU's emulation of a user's processes, with the libraries of the container image.
 */
import { mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { z } from 'zod'
import packageJson from '../../../package.json'
import { TARGETS } from '../../../scripts/package/targets'
import { patient } from '../../lab/patience'
import { type RunResult, run, runOk } from '../../lab/process'
import { cachedIn, digestsIn, makePackages, NONE_REJECTED, printRejected } from '../../support/packages'

jest.setTimeout(patient(200_000))

const { version } = packageJson
const other = TARGETS.find(({ node }) => node !== process.arch)
if (other === undefined) throw new Error('there are packages for two architectures')
const LIBRARY = 'usr/lib/overlayd'

let work: string
const made = () => join(work, 'made')
/** What is in each kind of package, below a directory of its own. */
const unpacked = (kind: string): string => join(work, kind)

beforeAll(async () => {
  work = mkdtempSync(join(tmpdir(), 'overlayd-other-'))
  await makePackages(['--fast', `--arch=${other.debian}`, '--kinds=deb,rpm,oci,sysext', `--output=${made()}`])
  const file = (ending: RegExp): string => {
    const [name = ''] = readdirSync(made()).filter((each) => ending.test(each))
    return join(made(), name)
  }
  for (const kind of ['rpm', 'oci', 'layout']) mkdirSync(unpacked(kind))
  await runOk(['dpkg-deb', '--extract', file(/\.deb$/), unpacked('deb')])
  await runOk(['sh', '-c', `rpm2archive -n <"$1" | tar -x -C "$2"`, 'sh', file(/\.rpm$/), unpacked('rpm')])
  await runOk(['unsquashfs', '-quiet', '-no-progress', '-dest', unpacked('sysext'), file(/\.raw$/)])
  await runOk(['tar', '-xf', file(/\.tar$/), '-C', unpacked('layout')])
  const [image] = z
    .array(z.object({ Layers: z.array(z.string()) }))
    .parse(JSON.parse(readFileSync(join(unpacked('layout'), 'manifest.json'), 'utf8')))
  for (const layer of image?.Layers ?? [])
    await runOk(['tar', '--no-same-owner', '-xf', join(unpacked('layout'), layer), '-C', unpacked('oci')])
})
afterAll(() => rmSync(work, { recursive: true, force: true }))

const library = () => join(unpacked('oci'), LIBRARY)

/** Runs the node of the package. */
const node = (...args: readonly string[]): Promise<RunResult> => {
  const qemu = [`qemu-${other.rpm}`, '-L', unpacked('oci')] as const
  return run([...qemu, join(library(), 'node'), ...args], {
    env: { PATH: process.env['PATH'] },
    timeoutMs: patient(60_000),
  })
}

/** Runs a file of the package by the node in it. */
const emulated = (file: string, ...args: readonly string[]): Promise<RunResult> =>
  node(join(library(), file), ...args)

test('all kinds of packages have the same programs', () => {
  const programs = (kind: string) =>
    digestsIn(join(unpacked(kind), LIBRARY)).filter(([file]) => !file.startsWith('docker.service.d'))
  expect(programs('oci').length).toBeGreaterThan(7)
  for (const kind of ['deb', 'rpm', 'sysext']) expect([kind, programs(kind)]).toEqual([kind, programs('oci')])
})

test('they have compiled themselves for the images, and V8 takes the caches', async () => {
  for (const kind of ['oci', 'sysext'])
    expect(cachedIn(join(unpacked(kind), LIBRARY))).toEqual(['bundle', 'overlayctl'])
  const rejected = await node('--eval', printRejected(join(library(), 'launch.js')))
  expect(rejected).toMatchObject({ code: 0, stdout: NONE_REJECTED })
})

test('they run', async () => {
  expect(await emulated('overlayd.js', '--version')).toMatchObject({ code: 0, stderr: `${version}\n` })
  const config = '{"Network":"10.5.0.0/16","Backend":{"Type":"vxlan"}}'
  expect(await emulated('overlayctl.js', 'config', 'validate', config)).toMatchObject({
    code: 0,
    stdout: expect.stringContaining('255 subnets of /24'),
  })
  expect(await emulated('overlayctl.js', 'completion', 'bash')).toMatchObject({
    code: 0,
    stdout: expect.stringContaining('_overlayctl() {'),
  })
})
