/**
 * `overlayctl bundle` with planted secrets: what is in the archive, what never is, and what it says where
 * daemon, etcd or rights are missing.
 */
import { randomBytes } from 'node:crypto'
import {
  appendFileSync,
  chmodSync,
  existsSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  statSync,
  writeFileSync,
} from 'node:fs'
import { basename, join } from 'node:path'
import { Lab } from '../../lab/lab'
import { patient } from '../../lab/patience'
import { run, runOk } from '../../lab/process'
import { OVERLAYCTL } from '../../lab/programs'
import { Pending, waitFor } from '../../lab/wait'

jest.setTimeout(patient(120_000))

const NOBODY = ['setpriv', '--reuid=65534', '--regid=65534', '--clear-groups', '--bounding-set=-all']

/** What is planted: each is a text that occurs nowhere else. */
const SECRETS = {
  inFile: `File-${randomBytes(9).toString('hex')} "quoted"`,
  inEnvironment: `Env-${randomBytes(9).toString('hex')}`,
  inUrl: `Url-${randomBytes(9).toString('hex')}`,
  token: `Tok-${randomBytes(9).toString('hex')}`,
  tlsKey: randomBytes(36).toString('base64'),
  wireguard: randomBytes(32).toString('base64'),
  inRules: `Rule-${randomBytes(9).toString('hex')}`,
  inUnit: `Unit-${randomBytes(9).toString('hex')}`,
}
const PEM = ['-----BEGIN EC PRIVATE KEY-----', SECRETS.tlsKey, '-----END EC PRIVATE KEY-----']

let lab: Lab
let programs: string
beforeAll(async () => {
  lab = await Lab.create({ hosts: 2 })
  await lab.startAll()
  await host().addContainer()
  const password = SECRETS.inFile.replaceAll('"', '\\"')
  appendFileSync(
    join(host().defaultsDirectory, 'overlayd'),
    `FLANNELD_ETCD_USERNAME=root\nFLANNELD_ETCD_PASSWORD="${password}"\nCLOUD_TOKEN=${SECRETS.token}\n`,
  )
  await host().exec('nft', 'add table inet planted')
  await host().exec('nft', `add chain inet planted c { comment "password=${SECRETS.inRules}"; }`)
  // There is no systemd here: the programs are ours, the journal's lines are as journald writes them.
  programs = join(lab.directory, 'programs')
  mkdirSync(programs)
  const journal = [
    `connecting to http://root:${SECRETS.inUrl}@192.0.2.1:2379`,
    `started with ${SECRETS.inEnvironment} and ${SECRETS.inFile}`,
    ...PEM,
    `peer has the key ${SECRETS.wireguard}`,
    `Authorization: Bearer ${SECRETS.token}`,
    'the last line',
  ].map((line) => `2026-01-01T00:00:00+0000 host1 overlayd[7]: ${line}`)
  program('journalctl', journal)
  program('systemctl', [
    'NRestarts=4',
    'Result=exit-code',
    `Environment=A=1 FLANNELD_ETCD_PASSWORD=${SECRETS.inUnit} B=2`,
  ])
})
afterAll(() => lab?.close())

const host = () => lab.host(1)

function program(name: string, lines: readonly string[]): void {
  const text = join(programs, `${name}.txt`)
  writeFileSync(text, `${lines.join('\n')}\n`)
  writeFileSync(join(programs, name), `#!/bin/sh\ncat ${text}\n`)
  chmodSync(join(programs, name), 0o755)
  chmodSync(text, 0o644)
}

const environment = () => ({
  ...process.env,
  PATH: `${programs}:${process.env['PATH']}`,
  FLANNELD_ETCD_USERNAME: 'root',
  FLANNELD_ETCD_PASSWORD: SECRETS.inEnvironment,
})

const bundle = (...flags: readonly string[]) =>
  run(host().overlayctlCommand('bundle', ...flags), { env: environment() })

/** Unpacks a bundle. @returns file name -> its text */
async function unpack(path: string): Promise<Map<string, string>> {
  const directory = join(lab.directory, `unpacked-${basename(path)}`)
  mkdirSync(directory)
  await runOk(['tar', 'xzf', path, '-C', directory])
  const [top = '', ...others] = readdirSync(directory)
  expect(others).toEqual([])
  expect(top).toMatch(/^overlayd-bundle-[\w.-]+-\d{8}T\d{6}Z$/)
  return new Map(
    readdirSync(join(directory, top)).map((name) => [name, readFileSync(join(directory, top, name), 'utf8')]),
  )
}

/** Whatever form a secret has in a text of a program, or in JSON. */
const formsOf = (secret: string): string[] => [
  ...[secret, JSON.stringify(secret).slice(1, -1), encodeURIComponent(secret)],
  ...[Buffer.from(secret).toString('base64').replace(/=+$/, ''), secret.split(' ')[0] ?? secret],
]

function expectNoSecret(texts: Iterable<string>): void {
  for (const text of texts)
    for (const [name, secret] of Object.entries(SECRETS))
      for (const form of formsOf(secret))
        expect({ name, found: text.includes(form) }).toEqual({ name, found: false })
}

test('all of a running host is in it, but no secret', async () => {
  let number = 0
  const { files, stdout, stderr } = await waitFor('a bundle while etcd answers in time', async () => {
    number += 1
    const path = join(lab.directory, `running-${number}.tar.gz`)
    const { code, stdout, stderr } = await bundle(`--output=${path}`)
    expect({ code, stderr }).toEqual({ code: 0, stderr: '' })
    expect(statSync(path).mode & 0o777).toBe(0o600)
    const files = await unpack(path)
    const [status = '', report = ''] = [files.get('status.json'), files.get('doctor.json')]
    const isWell = JSON.parse(status).state === 'healthy' && JSON.parse(report).verdict === 'ok'
    return isWell ? { files, stdout, stderr } : new Pending(status + report)
  })
  expect([...files.keys()].sort()).toEqual(
    [
      ...['README', 'config.json', 'doctor.json', 'events.jsonl', 'ip.txt', 'iptables.txt', 'journal.txt'],
      ...[
        'leases.json',
        'links.json',
        'metrics.txt',
        'nft.txt',
        'prefixes.json',
        'routes.json',
        'settings.json',
      ],
      ...['status.json', 'sysctls.txt', 'unit.txt', 'versions.txt'],
    ].sort(),
  )
  expectNoSecret([...files.values(), stdout, stderr])
  const of = (name: string): string => files.get(name) ?? ''
  expect(JSON.parse(of('status.json'))).toMatchObject({ state: 'healthy', peers: [{ state: 'ok' }] })
  expect(JSON.parse(of('doctor.json'))).toMatchObject({ verdict: 'ok', peers: [{ reach: 'ok' }] })
  expect(JSON.parse(of('config.json'))).toMatchObject({ Backend: { Type: 'vxlan' } })
  expect(JSON.parse(of('leases.json')).leases).toHaveLength(2)
  expect(JSON.parse(of('links.json')).links.map(({ name }: { name: string }) => name)).toContain('flannel.1')
  expect(JSON.parse(of('settings.json'))).toMatchObject({
    unit: 'overlayd',
    file: { variables: { FLANNELD_ETCD_PASSWORD: '[removed]', CLOUD_TOKEN: '[removed]' } },
    environment: { FLANNELD_ETCD_PASSWORD: '[removed]' },
  })
  for (const line of of('events.jsonl').trimEnd().split('\n')) JSON.parse(line)
  expect(of('nft.txt')).toContain('table inet planted')
  expect(of('ip.txt')).toContain('vxlan id 1')
  expect(of('sysctls.txt')).toContain('net/ipv4/ip_forward = 1')
  expect(of('unit.txt')).toContain('NRestarts=4')
  expect(of('journal.txt')).toMatch(/@192\.0\.2\.1:2379\n[\s\S]*\[key [0-9a-f]{8}\]\n[\s\S]*the last line\n$/)
  for (const name of files.keys()) if (name !== 'README') expect(of('README')).toContain(`\n${name} `)
  expect(stdout).toMatch(/running-\d+\.tar\.gz: [\d.]+ kB, 17 parts, 1 missing\n/)
  expect(stdout).toMatch(/last-exit\.json +missing: no daemon has ended with an error\n/)
})

test('nothing is overwritten, no link is followed, and the usual name is in the working directory', async () => {
  const path = join(lab.directory, 'kept')
  writeFileSync(path, 'kept')
  for (const place of [path, join(lab.directory, 'nowhere', 'x')]) {
    const answer = await bundle(`--output=${place}`)
    expect(answer).toMatchObject({ code: 1, stdout: '', stderr: expect.stringContaining('--output=FILE') })
  }
  expect(readFileSync(path, 'utf8')).toBe('kept')
  const link = join(lab.directory, 'link')
  await runOk(['ln', '-s', join(lab.directory, 'target'), link])
  expect((await bundle(`--output=${link}`)).code).toBe(1)
  expect(existsSync(join(lab.directory, 'target'))).toBe(false)
  const here = join(lab.directory, 'here')
  mkdirSync(here)
  const [program = '', ...args] = host().overlayctlCommand('bundle')
  const absolute = args.map((word) => (word.endsWith('overlayctl.js') ? OVERLAYCTL : word))
  const usual = await run(['sh', '-c', `cd ${here} && umask 0 && exec "$@"`, 'sh', program, ...absolute], {
    env: environment(),
  })
  expect(usual).toMatchObject({ code: 0 })
  const [name = ''] = readdirSync(here)
  expect(name).toMatch(/^overlayd-bundle-[\w.-]+-\d{8}T\d{6}Z\.tar\.gz$/)
  expect(statSync(join(here, name)).mode & 0o777).toBe(0o600)
})

test('without the rights of root it has what may be read, and says what may not', async () => {
  const path = join(lab.directory, 'nobody.tar.gz')
  const inner = `${NOBODY.join(' ')} "$@" > ${path}`
  const [program = '', ...args] = host().overlayctlCommand('bundle', '--output', '-')
  const at = args.indexOf(process.execPath)
  const command = [program, ...args.slice(0, at), 'sh', '-c', inner, 'sh', ...args.slice(at)] as const
  const { code, stderr } = await run([program, ...command.slice(1)], { env: environment() })
  expect({ code, stderr }).toMatchObject({ code: 0, stderr: expect.stringContaining('missing: ') })
  const files = await unpack(path)
  expectNoSecret([...files.values(), stderr])
  expect(files.get('links.json')).toContain('flannel.1')
  expect(files.get('README')).toMatch(/\nnft\.txt +missing [^\n]+\n +why: .*(?:permitted|denied)/i)
  expect(files.get('settings.json')).toContain('permission denied')
  expect(files.has('nft.txt')).toBe(false)
})

test('with daemon and etcd down it says what the kernel and the files have', async () => {
  await host().stop('SIGKILL')
  const path = join(lab.directory, 'down.tar.gz')
  expect((await bundle(`--output=${path}`, '--etcd-endpoints=http://127.0.0.1:1')).code).toBe(0)
  const files = await unpack(path)
  expectNoSecret(files.values())
  expect(JSON.parse(files.get('status.json') ?? '')).toMatchObject({
    state: 'down',
    device: { name: 'flannel.1' },
  })
  expect(JSON.parse(files.get('doctor.json') ?? '')).toMatchObject({ verdict: 'fail' })
  for (const name of ['events.jsonl', 'metrics.txt', 'config.json', 'leases.json']) {
    expect(files.has(name)).toBe(false)
    expect(files.get('README')).toMatch(
      new RegExp(`\\n${name} +missing [^\\n]+\\n +why: .*(?:nobody answers|127.0.0.1:1)`),
    )
  }
})
