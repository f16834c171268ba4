/** The doctor's check of networks of Podman and CNI. */
import { diagnose } from '../../../src/judge/diagnose'
import { parseIpv6Prefix } from '../../../src/model/address'
import type { EngineFile, EngineFiles } from '../../../src/model/engines'
import { address, type Changes, DAEMON, facts, KERNEL, link, prefix, WELL } from './support'

const CNI_FILE = '/etc/cni/net.d/30-overlayd.conflist'

const cni = (subnet: string, more: Partial<EngineFile> = {}): EngineFile => ({
  engine: 'cni',
  path: '/etc/cni/net.d/10-web.conflist',
  name: 'web',
  subnets: [prefix(subnet)],
  bridge: 'cni0',
  mtu: 1450,
  masquerades: false,
  isInternal: false,
  isFlannel: false,
  madeBy: undefined,
  ...more,
})
const podman = (subnet: string, more: Partial<EngineFile> = {}): EngineFile =>
  cni(subnet, {
    engine: 'podman',
    path: '/etc/containers/networks/web.json',
    bridge: 'podman1',
    masquerades: true,
    ...more,
  })
const OURS = { path: CNI_FILE, name: 'overlay', bridge: 'cni-0a050700', madeBy: 'overlayctl cni' }

/** Bridges with a container each. */
const used = (...names: readonly string[]): Changes => ({
  kernel: {
    ...KERNEL,
    links: [
      ...KERNEL.links,
      ...names.flatMap((name, at) => [
        link(20 + 2 * at, name, { kind: 'bridge' }),
        link(21 + 2 * at, `veth${at}`, { master: 20 + 2 * at, mtu: 1450 }),
      ]),
    ],
    addresses: [...KERNEL.addresses, ...names.map((_, at) => address(20 + 2 * at, `10.${88 + at}.0.1/16`))],
  },
})
const subnetFile = (more: Partial<typeof WELL.subnetFile>): Changes => ({
  subnetFile: { ...WELL.subnetFile, ...more },
})
const check = (files: readonly EngineFile[], changes: Changes = {}, more: Partial<EngineFiles> = {}) => {
  const [result] = diagnose(facts({ ...changes, engines: { files, problems: [], unread: [], ...more } }), [
    'engines',
  ])
  if (result === undefined) throw new Error('no result')
  return result
}
const codes = (...given: Parameters<typeof check>): string[] =>
  check(...given).findings.map(({ code }) => code)

test('networks in the overlay are named, also those of a further subnet and of the plugin of flannel', () => {
  expect(check([])).toMatchObject({ state: 'ok', summary: '0 networks in the overlay' })
  const { lease } = DAEMON
  if (lease === undefined) throw new Error('the daemon has no lease')
  const daemon = { ...DAEMON, lease: { ...lease, further: ['10.5.250.0/26'] } }
  const flannel = cni('10.5.7.0/24', { name: 'cbr0', subnets: [], bridge: undefined, isFlannel: true })
  const all = [cni('10.5.7.0/26'), podman('10.5.250.0/27', { name: 'more' }), flannel]
  expect(check(all, { daemon })).toMatchObject({
    state: 'ok',
    summary: '3 networks in the overlay: cbr0, web, more',
  })
})

test.each<[string, EngineFile[], Changes, string[]]>([
  ['elsewhere, with a container', [cni('10.9.0.0/24')], used('cni0'), ['engine-network-outside']],
  ['elsewhere, without a container', [cni('10.9.0.0/24')], used('other'), []],
  ['elsewhere, without a bridge', [cni('10.9.0.0/24', { bridge: undefined })], used('cni0'), []],
  [
    'of Podman, elsewhere, with a container',
    [podman('10.89.0.0/24')],
    used('podman1'),
    ['engine-network-outside'],
  ],
  [
    'of Podman, elsewhere, that lets nothing out',
    [podman('10.89.0.0/24', { isInternal: true })],
    used('podman1'),
    [],
  ],
  ['that Podman has without a file, with a container', [], used('podman0'), ['engine-network-outside']],
  ['that CNI masquerades', [cni('10.5.7.0/24', { masquerades: true })], {}, ['engine-network-masquerade']],
  [
    'that CNI masquerades, where overlayd does not',
    [cni('10.5.7.0/24', { masquerades: true })],
    subnetFile({ ipMasq: false }),
    [],
  ],
  ['that Podman masquerades, behind the rules of overlayd', [podman('10.5.7.0/24')], {}, []],
  [
    'that Podman masquerades, where overlayd does not',
    [podman('10.5.7.0/24')],
    subnetFile({ ipMasq: false }),
    ['engine-network-masquerade'],
  ],
  ['with a larger MTU', [cni('10.5.7.0/24', { mtu: undefined })], {}, ['engine-network-mtu']],
  [
    'with a larger MTU and a container, which the check of the bridge judges',
    [cni('10.5.7.0/24', { mtu: undefined })],
    used('cni0'),
    [],
  ],
  ['made for another subnet', [cni('10.5.8.0/24', OURS)], {}, ['engine-network-stale']],
  [
    'made for another subnet, with a container: one finding',
    [cni('10.5.8.0/24', OURS)],
    used(OURS.bridge),
    ['engine-network-stale'],
  ],
  [
    'made before the host had a subnet of IPv6',
    [cni('10.5.7.0/24', OURS)],
    subnetFile({ ipv6: parseIpv6Prefix('fd00:5:7::/64') }),
    ['engine-network-stale'],
  ],
])('a network %s', (_, files, changes, expected) => {
  expect(codes(files, changes)).toEqual(expected)
})

test('the findings name the file, and the command that writes the file anew', () => {
  const web = { ...OURS, name: 'web', path: '/etc/cni/net.d/40-web.conflist' }
  const stale = check([cni('10.5.8.0/25', OURS), cni('10.5.8.128/25', web)])
  expect(stale.findings).toMatchObject([
    {
      severity: 'warn',
      evidence: [
        `overlay of CNI (cni-0a050700) has 10.5.8.0/25; ${CNI_FILE}`,
        `web of CNI (cni-0a050700) has 10.5.8.128/25; ${web.path}`,
        'this host has 10.5.7.0/24',
      ],
      commands: [
        `overlayctl cni --output=${CNI_FILE}`,
        `overlayctl cni --name=web --output=${web.path}`,
        'systemctl enable --now overlayd-cni.path',
      ],
    },
  ])
  expect(check([], used('podman0')).findings).toMatchObject([
    {
      severity: 'warn',
      evidence: ['podman of Podman (podman0) has 10.88.0.1/16; it is built in, without a file'],
      commands: ['overlayctl podman-network'],
    },
  ])
})

test('files that are broken or cannot be read are one finding, and the rest is judged', () => {
  const result = check([cni('10.5.7.0/24', { masquerades: true })], undefined, {
    problems: ['/etc/cni/net.d/50-x.conf is not a network: no name'],
    unread: [{ path: '/etc/cni/net.d/60-y.conf', why: 'it has 2000000 bytes', isDenied: false }],
  })
  expect(result.findings).toMatchObject([
    {
      code: 'engine-network-file',
      severity: 'warn',
      what: '2 files of Podman or CNI cannot be used',
      evidence: [
        '/etc/cni/net.d/50-x.conf is not a network: no name',
        '/etc/cni/net.d/60-y.conf cannot be read: it has 2000000 bytes',
      ],
    },
    { code: 'engine-network-masquerade' },
  ])
})

test('what this user may not read is said, and is no finding', () => {
  const unread = [{ path: CNI_FILE, why: 'permission denied', isDenied: true }]
  expect(check([], {}, { unread })).toMatchObject({ findings: [], unmade: 'rights' })
})
