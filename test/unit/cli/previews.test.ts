/** Previews that commands show before they change something, and the routes of the kernel. */

import { type RoutesDocument, routesDocumentSchema } from '../../../src/api/documents'
import { renderConfigPreview } from '../../../src/cli/show/render-config'
import { renderDrainPreview } from '../../../src/cli/show/render-drain'
import { renderRoutes } from '../../../src/cli/show/render-routes'
import { renderTeardown } from '../../../src/cli/show/render-teardown'
import { planConfigEffect } from '../../../src/plan/config/config-effect'
import { config, hw, ip, lease, net } from '../plan/support'
import { DUAL_STACK, plain, STATUS, WIDTHS } from './fixtures'

const ROUTES: RoutesDocument = routesDocumentSchema.parse({
  schema: 1,
  daemonRunning: true,
  counts: { missing: 1, wrong: 1, extra: 1, foreign: 1, 'in-sync': 9 },
  objects: [
    { kind: 'route', object: '10.5.13.0/24 through nexthop 168103168 proto 79', state: 'missing' },
    {
      kind: 'neighbour',
      object: '10.5.13.0 lladdr 02:00:00:00:00:02',
      state: 'wrong',
      found: '10.5.13.0 lladdr 02:00:00:00:00:99',
    },
    { kind: 'fdb', object: '02:00:00:00:00:77 dst 192.168.77.77', state: 'extra' },
    { kind: 'route', object: '10.5.13.128/25 dev wg0', state: 'foreign' },
    { kind: 'device', object: 'flannel.1', state: 'in-sync' },
  ],
})

const mac = hw('02:42:0a:05:0c:02')
const USE = [
  {
    bridge: 'docker0',
    subnet: net('10.5.12.0/24'),
    ports: ['veth1a2b3c4', 'veth5d6e7f8'],
    addresses: [{ address: ip('10.5.12.2'), mac }],
  },
]
const LEASES = [lease('10.5.7.0/24', { publicIp: '192.168.77.11' }), lease('10.5.200.0/24')]
const preview = (fields: object, screen: { width: number; colour: boolean }, objections: string[] = []) =>
  renderConfigPreview(
    planConfigEffect(config(), config(fields), LEASES),
    objections,
    ['what it says'],
    screen,
  )

describe.each(WIDTHS)('in %i columns', (width) => {
  const screen = plain(width)

  test('routes', () => {
    expect(renderRoutes(ROUTES, screen)).toMatchSnapshot()
    expect(
      renderRoutes({ ...ROUTES, objects: [], counts: {}, daemonRunning: false }, screen),
    ).toMatchSnapshot()
  })

  test('a config that is applied without a restart', () => {
    expect(preview({ Network: '10.4.0.0/15' }, screen)).toMatchSnapshot()
  })

  test('a config that one lease does not fit, and that this host cannot use', () => {
    const fields = { Network: '10.5.0.0/16', SubnetMax: '10.5.99.0', Backend: { Type: 'vxlan', VNI: 7 } }
    expect(preview(fields, screen, ['Backend.MTU is 9000, and eth0 carries 1500'])).toMatchSnapshot()
  })

  test('a config that requires encryption while a host has no keys', () => {
    expect(
      preview({ Network: '10.5.0.0/16', Backend: { Type: 'vxlan', Encryption: 'required' } }, screen),
    ).toMatchSnapshot()
  })

  test('a config for which every host needs another subnet', () => {
    expect(preview({ Network: '10.5.0.0/16', SubnetLen: 26 }, screen)).toMatchSnapshot()
  })

  test('a first config', () => {
    expect(
      renderConfigPreview(planConfigEffect(undefined, config(), []), [], ['what it says'], screen),
    ).toMatchSnapshot()
  })

  test('a drain', () => {
    expect(renderDrainPreview(STATUS, USE, screen)).toMatchSnapshot()
    expect(renderDrainPreview(DUAL_STACK, [], screen)).toMatchSnapshot()
    expect(renderDrainPreview(STATUS, undefined, screen)).toMatchSnapshot()
  })

  test('a teardown', () => {
    const remove = async () => undefined
    const removals = [
      { what: ['device flannel.1, and with it 3 routes, 3 nexthops, 3 neighbours, 3 FDB entries'], remove },
      {
        what: [
          'iptables rule FORWARD -m comment --comment "flanneld forward" -j FLANNEL-FWD (table filter)',
          'iptables chain FLANNEL-FWD (table filter)',
        ],
        remove,
      },
      { what: ['/run/flannel/subnet.env'], remove },
    ]
    const notes = ['10.5.12.0/24 stays reserved for this host; to end that: overlayctl release 10.5.12.0/24']
    expect(renderTeardown({ removals, notes }, false, screen)).toMatchSnapshot()
    expect(renderTeardown({ removals: [], notes }, true, screen)).toMatchSnapshot()
  })
})
