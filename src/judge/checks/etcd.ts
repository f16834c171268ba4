/**
 * etcd: whether it answers, how fast, whether it lets this host in, and for how long; and whether the clocks
 * agree.
 */
import { type CertificateFact, ETCD_UNKNOWN, type Known, NO_RIGHTS } from '../facts'
import { type Check, check, type Finding, type Outcome, outcome, skipFor } from '../finding'

/** etcd itself calls an answer slow after 100 ms (the default of --warning-apply-duration). */
const SLOW_MS = 100
/** Some seconds do no harm: leases live for a day. Minutes make logs and certificates disagree. */
const MOST_SKEW_SECONDS = 10
const DAY_MS = 86_400_000
/** Long enough to act in working hours. certbot renews 30 days before the end. */
const CERTIFICATE_NEAR_MS = 21 * DAY_MS

const UNFOLLOWED =
  'running hosts keep what they have, but nobody can join, and hosts that move or leave are not followed'

/** code of an EtcdError -> the finding's */
const CODES: Readonly<Record<string, { readonly code: string; readonly what: string }>> = {
  'etcd-unreachable': { code: 'etcd-unreachable', what: 'etcd cannot be reached' },
  'etcd-timeout': { code: 'etcd-timeout', what: 'etcd does not answer' },
  'etcd-tls': { code: 'etcd-tls', what: 'etcd and this host do not trust each other (TLS)' },
  'etcd-refused': { code: 'etcd-refused', what: 'etcd refuses this host' },
  'etcd-options': { code: 'etcd-options', what: 'the options for etcd cannot be used' },
}

export const ETCD_CHECKS: readonly Check[] = [
  check({
    name: 'etcd',
    about: 'etcd is reachable, fast, and lets this host in',
    needs: [],
    uses: ['etcd'],
    run: checkEtcd,
  }),
  check({
    name: 'certificates',
    about: 'the certificates for etcd are valid for some time',
    needs: ['certificates'],
    run({ certificates, now }) {
      if (certificates.value.length === 0) return outcome('none in use: etcd is spoken to in plain text', [])
      const first = certificates.value.reduce((a, b) => (a.notAfter < b.notAfter ? a : b))
      const findings = certificates.value.map((certificate) => judgeCertificate(certificate, now))
      return outcome(`valid for ${inDays(first.notAfter - now)} at least`, findings)
    },
  }),
  check({
    name: 'clock',
    about: "this host's clock agrees with etcd's",
    needs: ['clock'],
    run({ clock }) {
      const { endpoint, aheadSeconds } = clock.value
      const apart = Math.abs(aheadSeconds)
      const finding: Finding = {
        code: 'clock-skew',
        severity: 'warn',
        what: `this host's clock is ${apart} s ${aheadSeconds > 0 ? 'behind' : 'before'} that of etcd`,
        evidence: [`the Date header of ${endpoint}, to the second`],
        breaks:
          'leases are counted by etcd alone and do not suffer, but certificates may count as expired, ' +
          'login tokens too, and logs of hosts cannot be compared',
        fix: 'have both follow one time server; the wrong clock may be that of etcd',
        commands: ['timedatectl set-ntp true', 'chronyc tracking'],
      }
      return outcome(`within ${Math.max(1, apart)} s of etcd's`, [
        apart > MOST_SKEW_SECONDS ? finding : undefined,
      ])
    },
  }),
]

function checkEtcd({ etcd, etcdEndpoints }: Known<never, 'etcd'>): Outcome {
  if (!etcd.ok) {
    const { code, text, fix } = etcd.problem
    if (code === ETCD_UNKNOWN || code === NO_RIGHTS) return skipFor(etcd.problem)
    const known = CODES[code] ?? { code: 'etcd-failed', what: 'etcd cannot be used' }
    return outcome('', [
      {
        ...known,
        severity: 'fail',
        evidence: [text],
        breaks: UNFOLLOWED,
        fix: fix ?? 'look at etcd and its log',
        ...(known.code === 'etcd-refused' || known.code === 'etcd-options'
          ? {}
          : { commands: [`etcdctl ${endpointsOption(etcdEndpoints)}endpoint health`] }),
      },
    ])
  }
  const { endpoint, latencyMs } = etcd.value
  const shown = `${latencyMs.toFixed(latencyMs < 10 ? 1 : 0)} ms`
  return outcome(`${endpoint} answers in ${shown}`, [
    latencyMs <= SLOW_MS
      ? undefined
      : {
          code: 'etcd-slow',
          severity: 'warn',
          what: `etcd is slow: it takes ${shown} for a read`,
          evidence: [
            `the fastest of several reads from ${endpoint}; ${SLOW_MS} ms is what etcd itself calls slow`,
          ],
          breaks: 'joins and moves of hosts are followed late; at some seconds calls fail',
          fix: 'look at its disk (fsync times), its load and the way there',
          commands: [
            `etcdctl --endpoints=${endpoint} endpoint status -w table`,
            `etcdctl --endpoints=${endpoint} check perf`,
          ],
        },
  ])
}

/** etcdctl's option; without it etcdctl asks this host. */
const endpointsOption = (endpoints: readonly string[]): string =>
  endpoints.length === 0 ? '' : `--endpoints=${endpoints.join(',')} `

function judgeCertificate({ name, path, notAfter }: CertificateFact, now: number): Finding | undefined {
  const left = notAfter - now
  if (left > CERTIFICATE_NEAR_MS) return undefined
  const expired = left <= 0
  return {
    code: expired ? 'certificate-expired' : 'certificate-near-expiry',
    severity: expired ? 'fail' : 'warn',
    what: expired ? `${name} has expired` : `${name} expires in ${inDays(left)}`,
    evidence: [`${path}: not after ${new Date(notAfter).toISOString()}`],
    breaks: expired ? `no new connection to etcd: ${UNFOLLOWED}` : `then ${UNFOLLOWED}`,
    fix: 'replace it; overlayd takes a new file up by itself within 10 s',
  }
}

const inDays = (ms: number): string =>
  ms < 2 * DAY_MS ? `${Math.max(0, Math.floor(ms / 3_600_000))} h` : `${Math.floor(ms / DAY_MS)} days`
