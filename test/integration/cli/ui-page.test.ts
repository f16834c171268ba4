/**
 * The page in a browser: few hosts and many, by keyboard, light and dark, narrow and wide. The documents are
 * made up, in the form of a real status; ui.test.ts has the page of a real host.
 */
import { mkdirSync } from 'node:fs'
import type { Server } from 'node:http'
import { join } from 'node:path'
import type { OverlayEvent } from '../../../src/api/events'
import type { PeerStatus, Status } from '../../../src/api/status'
import { Feed } from '../../../src/cli/ui/feed'
import { urlOf } from '../../../src/cli/ui/listen'
import { servePage } from '../../../src/cli/ui/server'
import { patient } from '../../lab/patience'
import { Chromium } from '../../support/chromium'
import { peer, statusWith } from '../../unit/cli/ui/support'

jest.setTimeout(patient(30_000))

/**
 * Where the screenshots go that people look at; nowhere by default. Those in scripts/docs are `two` and
 * `thousand`, with fewer colours: pngquant 32 --nofs --strip.
 */
const SCREENSHOTS = process.env['OVERLAYD_SCREENSHOTS']

/** A token is not needed to test what the page does. */
const TOKEN = 'test'
const DARK = { width: 1440, height: 920, scheme: 'dark' } as const
const LIGHT = { width: 1280, height: 800, scheme: 'light' } as const

let status: Status | Error
const TEXTS = [
  'a peer <b>with a name</b>',
  'peer 10.5.1.0/24 does not answer through the overlay; its PublicIP 192.0.0.1 does',
  'kernel: cannot add the route to 10.5.254.0/24: a route of someone else is there',
]
const events: OverlayEvent[] = (['info', 'warn', 'error'] as const).map((level, place) => ({
  seq: place + 1,
  time: new Date(Date.now() - (9 - place) * 60_000).toISOString(),
  level,
  kind: (['peer-joined', 'peer-unreachable', 'kernel-refusal'] as const)[place] ?? 'started',
  about: ['10.5.1.0/24', '192.0.0.1'],
  text: TEXTS[place] ?? '',
}))
const feed = new Feed(
  {
    host: 'host7',
    status: async () => {
      if (status instanceof Error) throw status
      return { status, daemonMs: 0 }
    },
    events: async () =>
      (async function* () {
        yield* events
        await new Promise(() => undefined)
      })(),
  },
  { period: 100 },
)

let server: Server
let url: string
let browser: Chromium
beforeAll(async () => {
  const served = await servePage({ ip: '127.0.0.1', port: 0 }, TOKEN, feed)
  server = served.server
  url = urlOf(served.address, TOKEN)
  browser = await Chromium.open()
})
afterAll(async () => {
  await browser?.close()
  feed.close()
  server?.close()
  server?.closeAllConnections()
})
afterEach(() => expect(browser.complaints.splice(0)).toEqual([]))

/** Opens the page, and waits until it shows that many hosts. */
async function open(shown: Status | Error, hosts: number, look: Parameters<Chromium['look']>[0] = LIGHT) {
  status = shown
  await browser.goTo('about:blank')
  await browser.look(look)
  await browser.goTo(url)
  await drawn(hosts)
}
const drawn = (hosts: number) =>
  browser.until(`document.documentElement?.dataset.drawn === '${hosts}' && document.title.includes('host7')`)

/** The trimmed texts of all elements that a selector finds. */
const texts = async (selector: string): Promise<readonly string[]> => {
  const all = `[...document.querySelectorAll(${JSON.stringify(selector)})].map((each) => each.textContent.trim())`
  return (await browser.evaluate(all)) as string[]
}
const overflow = () =>
  browser.evaluate('document.documentElement.scrollWidth - document.documentElement.clientWidth')
const focusOn = (selector: string) =>
  browser.evaluate(`document.querySelector(${JSON.stringify(selector)}).focus()`)
const focused = () => browser.evaluate('document.activeElement.textContent.trim()')

async function screenshot(name: string): Promise<void> {
  if (SCREENSHOTS === undefined) return
  mkdirSync(SCREENSHOTS, { recursive: true })
  await browser.screenshot(join(SCREENSHOTS, `${name}.png`))
}

/** Hosts of which one in a hundred is in trouble. */
const many = (count: number): PeerStatus[] =>
  Array.from({ length: count }, (_, number) => {
    const rttMs = 0.2 + ((number * 37) % 100) / 5
    if (number % 250 === 1)
      return peer(number, { probe: { reach: 'unreachable', layer: 'overlay', loss: 1 }, encryption: 'clear' })
    const probe = { reach: 'answering', rttMs, loss: 0, answeredSecondsAgo: 3, fullSize: 'passes' } as const
    if (number % 250 === 2)
      return peer(number, { probe: { ...probe, fullSize: 'lost', pathMtu: 1350 }, encryption: 'encrypted' })
    return peer(number, { probe, encryption: 'encrypted' })
  })
const TROUBLE: Partial<Status> = {
  state: 'degraded',
  problems: ['mesh: 4 hosts do not answer through the overlay, and their PublicIPs do'],
}

test('two hosts: the other one with round trip, MTU and encryption, and a screen reader is told all', async () => {
  await open(statusWith([peer(1, { encryption: 'encrypted' })]), 1, { ...LIGHT, width: 1000, height: 400 })
  expect(await texts('.wire')).toEqual(['0.31 ms, MTU 1450encrypted'])
  expect(await texts('.self p')).toEqual([
    ...['host7', 'this host', '10.5.12.0/24', '192.168.77.11', 'MTU 1450'],
  ])
  expect(await texts('#verdict')).toEqual(['healthy'])
  expect(await texts('#facts dt')).toEqual([
    'daemon',
    'network',
    'lease',
    'device',
    'etcd',
    'kernel',
    'peers',
  ])
  await browser.until("document.querySelectorAll('#events li').length === 3")
  expect(await texts('#events li .kind')).toEqual(['kernel-refusal', 'peer-unreachable', 'peer-joined'])
  // What others write is text.
  expect(await texts('#events li p')).toContain(TEXTS[0])
  await screenshot('two')
  const tree = await browser.accessible()
  const controls = tree.filter(({ role }) => /^(button|searchbox|checkbox|link|textbox)$/.test(role))
  expect(controls.filter(({ name }) => name === '')).toEqual([])
  expect(controls).toEqual(
    expect.arrayContaining([
      { role: 'searchbox', name: 'Filter' },
      { role: 'checkbox', name: 'only warnings and errors' },
      {
        role: 'button',
        name: '10.5.1.0/24, 192.0.0.1, answering, 0.31 ms, MTU 1450, encrypted',
      },
    ]),
  )
  const roles = (role: string) => tree.filter((node) => node.role === role).map(({ name }) => name)
  expect(roles('heading')).toEqual(
    expect.arrayContaining(['host7', 'Seen from this host', 'Hosts', 'Status']),
  )
  expect(roles('columnheader')).toEqual(expect.arrayContaining(['SUBNET', 'STATE', 'RTT', 'MTU', 'WHY']))
  expect(roles('rowheader')).toEqual(['10.5.1.0/24'])
  expect(roles('main')).toHaveLength(1)
})

test('a thousand hosts: trouble first and large, the others as tiles; a filter by keyboard', async () => {
  await open(statusWith(many(1000), TROUBLE), 1000, DARK)
  expect(await texts('.group .title')).toEqual([...['4 unreachable', '4 smaller path MTU', '992 answering']])
  expect(await texts('.cards .host')).toEqual([
    '10.5.1.0/24',
    '10.5.251.0/24',
    '10.6.245.0/24',
    '10.7.239.0/24',
  ])
  expect(await browser.evaluate("document.querySelectorAll('.tiles .tile').length")).toBe(992)
  expect(await texts('#range')).toEqual(['1 to 50 of 1,000'])
  await screenshot('thousand')
  // By the Tab key one comes to the filter, and each group is one stop.
  await focusOn('#filter')
  await browser.type('10.6.0.77')
  await browser.until("document.querySelector('#range').textContent === '1 of 1,000'")
  expect(await texts('#body th')).toEqual(['10.6.0.0/24'])
  await browser.evaluate("document.querySelector('#filter').select()")
  await browser.type('at most 1350')
  await browser.until("document.querySelector('#range').textContent === '4 of 1,000'")
  await browser.evaluate("document.querySelector('#filter').select()")
  await browser.type('nowhere')
  await browser.until("document.querySelector('#empty').textContent === 'no host matches'")
  await browser.evaluate("document.querySelector('#filter').select()")
  await browser.type(' ')
  await browser.until("document.querySelector('#range').textContent === '1 to 50 of 1,000'")
  await browser.press('Tab')
  expect(await focused()).toBe('4 unreachable')
  await browser.press('Enter')
  await browser.until("document.querySelector('#range').textContent === '4 of 1,000'")
  expect(await browser.evaluate("document.activeElement.getAttribute('aria-pressed')")).toBe('true')
  await browser.press('Enter')
  await browser.until("document.querySelector('#range').textContent === '1 to 50 of 1,000'")
})

test('the table is sorted by keyboard, and turned', async () => {
  await open(statusWith(many(120)), 120)
  const first = "document.querySelector('#body th').textContent"
  await focusOn('th[data-column="RTT"] button')
  await browser.press('Enter')
  await browser.until(`${first} === '10.5.0.0/24'`)
  expect(await texts('[aria-sort="ascending"]')).toEqual(['RTT'])
  await browser.press('Enter')
  await browser.until("document.querySelector('[aria-sort=descending]') !== null")
  // Without a round trip: the last when sorted up, and so the first when sorted down.
  expect(await texts('#body tr:first-child th')).toEqual(['10.5.1.0/24'])
  await browser.press('Enter')
  await browser.until("document.querySelector('[aria-sort]') === null")
  await focusOn('#next')
  await browser.press('Enter')
  await browser.until("document.querySelector('#range').textContent === '51 to 100 of 120'")
  await browser.press('Enter')
  await browser.until("document.querySelector('#range').textContent === '101 to 120 of 120'")
  await browser.press('Enter')
  expect(await texts('#range')).toEqual(['101 to 120 of 120'])
  expect(await focused()).toBe('Next')
})

test('the arrow keys go from host to host; a host opens with its history and its events, and closes', async () => {
  await open(statusWith(many(30)), 30)
  await focusOn('.cards:last-child .card')
  await browser.press('ArrowRight')
  await browser.press('ArrowRight')
  await browser.press('ArrowLeft')
  const name = "document.activeElement.querySelector('.host').textContent"
  expect(await browser.evaluate(name)).toBe('10.5.3.0/24')
  await browser.press('Home')
  expect(await browser.evaluate(name)).toBe('10.5.0.0/24')
  await focusOn('.group .card')
  await browser.press('Enter')
  await browser.until("document.querySelector('dialog').open")
  expect(await texts('#details-title')).toEqual(['10.5.1.0/24'])
  expect(await texts('#details-group')).toEqual([expect.stringMatching(/^unreachable: /)])
  await browser.until("document.querySelectorAll('#details-events li').length === 3")
  await browser.press('Escape')
  await browser.until("!document.querySelector('dialog').open")
  expect(await browser.evaluate(name)).toBe('10.5.1.0/24')
  // The history grows while the page is open.
  await focusOn('.cards:last-child .card')
  await browser.press('Enter')
  for (const rttMs of [1, 2, 3])
    await news([peer(0, { probe: { reach: 'answering', rttMs, loss: 0 } })], `RTT${rttMs.toFixed(1)} ms`)
  expect(await browser.evaluate("document.querySelector('svg').getAttribute('aria-label')")).toMatch(
    /^0\.20 ms to 3\.0 ms in \d+ readings, 0 without an answer$/,
  )
  await browser.press('Escape')
})

/** Changes the hosts, and waits until the details have a text. */
async function news(peers: readonly PeerStatus[], text: string): Promise<void> {
  status = statusWith([...peers, ...many(30).slice(peers.length)])
  await browser.until(`document.querySelector('#details-facts').textContent.includes('${text}')`)
}

test('a host that is opened before the page hears that the one before is closed is kept up to date', async () => {
  await open(statusWith(many(30)), 30)
  // In one task: the event of the closing comes after it.
  await browser.evaluate(
    "document.querySelector('.group .card').click(); document.querySelector('dialog').close(); " +
      "document.querySelector('.cards:last-child .card').click()",
  )
  await news([peer(0, { probe: { reach: 'answering', rttMs: 1, loss: 0 } })], 'RTT1.0 ms')
  await browser.press('Escape')
})

test('news are drawn where they are, and what was focused stays so; hosts come and go', async () => {
  await open(statusWith(many(30)), 30)
  await focusOn('#body tr:nth-child(4) button')
  const [before] = await texts('#body tr:nth-child(4) th')
  status = statusWith([...many(40).slice(1), peer(900, { state: 'rejected', reason: 'late' })])
  await browser.until(
    "document.querySelector('#body th').textContent !== '' && document.querySelector('#range').textContent === '40'",
  )
  expect(await focused()).toBe(before)
  expect(await texts('.group .title')).toContain('1 rejected')
  expect(await texts('#body th')).not.toContain('10.5.0.0/24')
})

test('silence is said, with its words, and the picture stays; then all is live again', async () => {
  await open(statusWith(many(5)), 5)
  status = new Error('no answer within 5 s')
  await browser.until("document.querySelector('#notices').textContent.includes('no answer within 5 s')")
  expect(await texts('#liveness')).toEqual([expect.stringMatching(/^no news since [\d:]+; trying again$/)])
  expect(await texts('.wire')).toHaveLength(5)
  status = statusWith(many(5))
  await browser.until("document.querySelector('#notices').textContent === ''")
  expect(await texts('#liveness')).toEqual([expect.stringMatching(/^live, as of /)])
})

test.each([
  [360, 1],
  [360, 1000],
  [1600, 1],
  [1600, 1000],
])('at a width of %i, %i hosts fit, light and dark, and all text has contrast', async (width, hosts) => {
  for (const scheme of ['light', 'dark'] as const) {
    await open(statusWith(many(hosts), hosts > 1 ? TROUBLE : {}), hosts, { width, height: 800, scheme })
    expect(await overflow()).toBe(0)
    expect(await browser.evaluate(LOW_CONTRAST)).toEqual([])
    await screenshot(`${width}-${hosts}-${scheme}`)
  }
})

/**
 * The texts whose contrast to what is behind them is below 4.5 (WCAG 2.2, 1.4.3), with it. Text that is only
 * a sign, or of a control that is switched off, is left out, as there.
 */
const LOW_CONTRAST = `(() => {
  const parse = (text) => (text.match(/[\\d.]+/g) ?? []).map(Number)
  const light = (rgb) => {
    const [r, g, b] = rgb.map((each) => each / 255).map((c) => (c <= 0.04045 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4))
    return 0.2126 * r + 0.7152 * g + 0.0722 * b
  }
  const behind = (element) => {
    for (let at = element; at !== null; at = at.parentElement) {
      const [r, g, b, alpha = 1] = parse(getComputedStyle(at).backgroundColor)
      if (alpha > 0.99) return [r, g, b]
    }
    return [255, 255, 255]
  }
  return [...document.querySelectorAll('body *')].flatMap((element) => {
    const text = [...element.childNodes].filter((node) => node.nodeType === 3).map((node) => node.data.trim()).join('')
    if (text === '' || !element.checkVisibility() || element.closest('[aria-disabled], script') !== null) return []
    const [a, b] = [light(parse(getComputedStyle(element).color).slice(0, 3)), light(behind(element))]
    const ratio = (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05)
    return ratio < 4.5 ? [text.slice(0, 40) + ' ' + ratio.toFixed(2)] : []
  })
})()`

test('ten thousand hosts are drawn, and news are too', async () => {
  await open(statusWith(many(10_000)), 10_000)
  expect(await texts('#range')).toEqual(['1 to 50 of 10,000'])
  status = statusWith(many(10_001))
  await drawn(10_001)
})
