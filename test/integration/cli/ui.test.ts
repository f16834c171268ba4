/**
 * `overlayctl ui` on a real host: who gets the page, what it shows while things go wrong, and the snapshot.
 */
import { existsSync, readdirSync, readFileSync, statSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { pathToFileURL } from 'node:url'
import { ETCD_PREFIX, Lab } from '../../lab/lab'
import { inNamespace } from '../../lab/namespace'
import { patient, patientSeconds } from '../../lab/patience'
import { LongProcess, runOk } from '../../lab/process'
import { Chromium } from '../../support/chromium'

jest.setTimeout(patient(60_000))

let lab: Lab
let ui: LongProcess
let url: string
let browser: Chromium
beforeAll(async () => {
  lab = await Lab.create({ hosts: 2 })
  for (const each of lab.hosts) each.start({ env: { FLANNELD_PROBE: 'on' } })
  await lab.waitConverged()
  ui = new LongProcess('overlayctl ui', host().overlayctlCommand('ui'))
  url = await ui.waitForOutput(/http:\/\/127\.0\.0\.1:\d+\/[\w-]{32}\//)
  browser = await Chromium.open(inNamespace(host().namespace, []))
})
afterAll(async () => {
  await browser?.close()
  await ui?.stop('SIGKILL')
  await lab?.close()
})

const host = () => lab.host(1)

/** Asks by curl, which sends what it is told. @returns status and body */
async function ask(path: string, ...flags: readonly string[]): Promise<{ status: number; text: string }> {
  const format = ['-sS', '--max-time', `${patientSeconds(10)}`, '-w', '\n%{http_code}']
  const text = await host().exec('curl', ...format, ...flags, new URL(path, url).href)
  const end = text.lastIndexOf('\n')
  return { status: Number(text.slice(end)), text: text.slice(0, end) }
}

test('only whoever has the address, token included, gets the page; nothing else is answered', async () => {
  expect(await ask('.')).toMatchObject({ status: 200, text: expect.stringMatching(/^<!doctype html>/i) })
  for (const path of ['/', '/events', `/${'x'.repeat(32)}/`, `/${'x'.repeat(32)}/events`])
    expect(await ask(path)).toEqual({ status: 403, text: expect.stringContaining('overlayctl ui') })
  expect(await ask('status')).toMatchObject({ status: 404 })
  expect(await ask('.', '-X', 'POST')).toMatchObject({ status: 405 })
  expect(await ask('.', '-H', 'Host: evil.example')).toMatchObject({ status: 421 })
  expect(await ask('events', '-H', 'Host: evil.example')).toMatchObject({ status: 421 })
  expect(await ask('.', '-H', 'Host: localhost:9999')).toMatchObject({ status: 200 })
  const { text } = await ask('.', '-D', '-', '-o', '/dev/null')
  expect(text).toMatch(/^content-security-policy: default-src 'none'; .*frame-ancestors 'none'/im)
  for (const line of [
    'referrer-policy: no-referrer',
    'x-content-type-options: nosniff',
    'cache-control: no-store',
  ])
    expect(text.toLowerCase()).toContain(`${line}\r\n`)
})

test('no more pages are served than are bounded, and their end makes room', async () => {
  const open = () => new LongProcess('page', inNamespace(host().namespace, ['curl', '-sN', `${url}events`]))
  const pages = Array.from({ length: 16 }, open)
  try {
    await Promise.all(pages.map((page) => page.waitForOutput(/data: \{"kind":"page"/)))
    expect(await ask('events')).toEqual({ status: 503, text: expect.stringContaining('16 pages are open') })
  } finally {
    await Promise.all(pages.map((page) => page.stop('SIGKILL')))
  }
  const last = open()
  await last.waitForOutput(/data: \{"kind":"page"/)
  await last.stop('SIGKILL')
})

const text = (selector: string) => `(document.querySelector(${JSON.stringify(selector)})?.textContent ?? '')`
/** A daemon that takes long for its answer, as on a busy machine, is asked again after 10 s at most. */
const shows = (selector: string, part: string, timeoutMs = 20_000) =>
  browser.until(`${text(selector)}.includes(${JSON.stringify(part)})`, { timeoutMs })

test('two hosts see each other, and the page says so in the words of overlayctl status', async () => {
  await browser.goTo(url)
  await shows('.group .title', '1 answering')
  const peer = lab.host(2)
  await shows('.links .box', peer.address)
  await shows('.links .over', ' ms')
  await shows('#verdict', 'healthy')
  await shows('#events', 'etcd-connected')
  const { stdout } = await host().overlayctl('status', '-o', 'wide')
  const [network] = /^network .*$/m.exec(stdout) ?? ['']
  expect(await browser.evaluate(text('#facts'))).toContain(network.replace(/^network +/, ''))
})

test('a peer that joins is drawn; one that calls itself code is text', async () => {
  const name = '<img src=x onerror=alert(1)>'
  await lab.client.put(`${ETCD_PREFIX}/subnets/${name}`).value('{}')
  await shows('.group .title', '1 rejected')
  await shows('.group .host', name)
  expect(await browser.evaluate("document.querySelectorAll('img').length")).toBe(0)
  const path = join(lab.directory, 'hosts.html')
  expect(await host().overlayctl('ui', `--output=${path}`)).toMatchObject({ code: 0, stderr: '' })
  expect(statSync(path).mode & 0o777).toBe(0o600)
  await browser.goTo(pathToFileURL(path).href)
  await shows('#liveness', 'snapshot of ')
  await shows('.group .host', name)
  await shows('#events', 'etcd-connected')
  expect(await browser.evaluate("document.querySelectorAll('img').length")).toBe(0)
  await lab.client.delete().key(`${ETCD_PREFIX}/subnets/${name}`)
  await browser.goTo(url)
  await browser.until("document.querySelectorAll('.group').length === 1")
})

test('a snapshot overwrites nothing, follows no link, and leaves no rest', async () => {
  const [kept, link] = [join(lab.directory, 'kept'), join(lab.directory, 'link')]
  writeFileSync(kept, 'kept')
  await runOk(['ln', '-s', join(lab.directory, 'target'), link])
  for (const path of [kept, link, join(lab.directory, 'nowhere', 'x')])
    expect(await host().overlayctl('ui', `--output=${path}`)).toMatchObject({
      code: 1,
      stdout: '',
      stderr: expect.stringContaining('--output=FILE'),
    })
  expect(readFileSync(kept, 'utf8')).toBe('kept')
  expect(existsSync(join(lab.directory, 'target'))).toBe(false)
  expect(readdirSync(lab.directory).filter((name) => name.startsWith('.'))).toEqual([])
  const { code, stdout } = await host().overlayctl('ui', '--output', '-')
  expect({ code, end: stdout.trimEnd().slice(-7) }).toEqual({ code: 0, end: '</html>' })
})

test('a daemon that is down, and an etcd that is, are said in the words of status; both come back', async () => {
  await lab.etcd.stop()
  await shows('#verdict', 'DEGRADED')
  await shows('#facts', 'NOT CONNECTED')
  await host().stop('SIGKILL')
  await shows('#verdict', 'DAEMON DOWN')
  await shows('#notices', 'overlayd does not run')
  await shows('#empty', 'not known: etcd could not be asked')
  await lab.etcd.start()
  await shows('#facts', 'connected: ')
  host().start({ env: { FLANNELD_PROBE: 'on' } })
  await shows('#verdict', 'healthy')
  await shows('.group .title', '1 answering')
})

test('another address is warned of, one that is taken is an error, and wrong ones are wrong usage', async () => {
  const open = new LongProcess('ui', host().overlayctlCommand('ui', `--listen=${host().address}:0`))
  try {
    const [, port] = /:(\d+)\/[\w-]{32}\//.exec(await open.waitForOutput(/http:\S+/)) ?? []
    expect(open.output).toMatch(/warning: the page is plain HTTP/)
    const taken = await host().overlayctl('ui', `--listen=${host().address}:${port}`)
    expect(taken).toMatchObject({ code: 1, stderr: expect.stringContaining('--listen') })
  } finally {
    expect(await open.stop('SIGTERM')).toEqual({ code: 0, signal: null })
  }
  expect(await host().overlayctl('ui', '--listen=8080')).toMatchObject({
    code: 2,
    stderr: expect.stringContaining('127.0.0.1:8080'),
  })
})

test('Ctrl-C ends it with pages open, and the page says so', async () => {
  expect(await ui.stop('SIGINT')).toEqual({ code: 0, signal: null })
  await shows('#liveness', 'overlayctl ui does not answer')
  // All that went wrong in the page is that its server ended.
  expect(browser.complaints.filter((line) => !/ERR_|Failed to load resource/.test(line))).toEqual([])
})
