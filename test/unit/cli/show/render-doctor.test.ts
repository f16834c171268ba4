import { renderReport, screenOf } from '../../../../src/cli/show/render-doctor'
import type { DoctorReport } from '../../../../src/doctor/report'

const pings = (received: number, rttMs?: number) => ({
  sent: 3,
  received,
  ...(rttMs !== undefined && { rttMs }),
})

const bad: DoctorReport = {
  schema: 1,
  verdict: 'fail',
  subnets: ['10.5.7.0/24'],
  seconds: 2.3,
  checks: [
    { name: 'daemon', state: 'ok', summary: 'overlayd 0.1.0, running', findings: [] },
    {
      name: 'br-netfilter',
      state: 'warn',
      summary: '',
      findings: [
        {
          code: 'br-netfilter-missing',
          severity: 'warn',
          what: 'iptables does not see packets between containers of one bridge',
          evidence: ['the kernel module br_netfilter is not loaded'],
          breaks: 'published ports do not work between containers of this host',
          fix: 'load the module now, and at each boot',
          commands: ['modprobe br_netfilter'],
        },
      ],
    },
    { name: 'clock', state: 'skip', summary: 'etcd tells no time', findings: [] },
    {
      name: 'udp',
      state: 'fail',
      summary: '',
      findings: [
        {
          code: 'udp-blocked-in',
          severity: 'fail',
          what: 'UDP 8472 to 192.168.77.12 is dropped, there or on the way',
          evidence: [
            '10.5.42.0/24 at 192.168.77.12: 0 of 3 pings answered through the overlay, 3 of 3 pings answered to its PublicIP',
            'a second line',
          ],
          breaks: 'no packet of the overlay goes between those hosts and this one',
          fix: 'let UDP 8472 in on the peer, and through what is between (security groups, switches)',
          commands: [
            'iptables -I INPUT -p udp --dport 8472 -j ACCEPT    # on 192.168.77.12, a command is never broken',
          ],
        },
      ],
    },
  ],
  peers: [
    {
      subnet: '10.5.42.0/24',
      publicIp: '192.168.77.12',
      reach: 'unreached',
      overlayFull: pings(0),
      overlaySmall: pings(0),
      underlaySmall: pings(3, 0.21),
    },
    {
      subnet: '10.5.9.0/24',
      publicIp: '192.168.77.13',
      reach: 'loss',
      overlayFull: pings(2, 12.4),
      overlaySmall: pings(3, 0.4),
      underlaySmall: pings(3, 0.2),
    },
    {
      subnet: '10.5.99.0/24',
      publicIp: '192.168.77.14',
      reach: 'ok',
      overlayFull: pings(3, 0.31),
      underlaySmall: pings(3, 0.22),
    },
  ],
}

const good: DoctorReport = {
  ...bad,
  verdict: 'ok',
  checks: bad.checks.slice(0, 1),
  peers: Array.from({ length: 14 }, (_, i) => ({
    subnet: `10.5.${i}.0/24`,
    publicIp: `192.0.2.${i}`,
    reach: 'ok' as const,
    overlayFull: pings(3, 0.5),
    underlaySmall: pings(3, 0.25),
  })),
}

test.each([80, 120])('problems on %d columns', (width) => {
  expect(renderReport(bad, { width, colour: false })).toMatchSnapshot()
})

test.each([80, 120])('on %d columns no line is longer, except commands', (width) => {
  const lines = renderReport(bad, { width, colour: false }).split('\n')
  const long = lines.filter((line) => line.length > width && !line.trim().startsWith('$ '))
  expect(long).toEqual([])
})

test('the first line is the summary, and problems come before warnings', () => {
  const lines = renderReport(bad, { width: 80, colour: false }).split('\n')
  expect(lines[0]).toBe('1 problem and 1 warning on the host of 10.5.7.0/24 (3 checks, 1 skipped, 2.3 s)')
  expect(lines.findIndex((line) => line.startsWith('FAIL'))).toBeLessThan(
    lines.findIndex((line) => line.startsWith('warn')),
  )
})

test('the report of a healthy host is short, for any number of peers', () => {
  expect(renderReport(good, { width: 80, colour: false })).toMatchSnapshot()
})

test('output is coloured only on request', () => {
  expect(renderReport(bad, { width: 80, colour: false })).not.toContain('\u001b')
  expect(renderReport(bad, { width: 80, colour: true })).toContain('\u001b')
})

test('the width of a screen is bounded, and a pipe has 80 columns and no colour', () => {
  expect(screenOf({})).toEqual({ width: 80, colour: false })
  expect(screenOf({ isTTY: true, columns: 300 })).toEqual({ width: 120, colour: true })
  expect(screenOf({ isTTY: true, columns: 20 })).toEqual({ width: 60, colour: true })
})
