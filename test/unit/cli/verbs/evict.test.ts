import { noKeyOf } from '../../../../src/cli/verbs/evict'
import type { EtcdLeaseId, Revision } from '../../../../src/model/lease'
import { type PrefixClaim, parseVia, prefixName } from '../../../../src/model/prefixes'
import { lease, net } from '../../plan/support'

const claim = (host: string, text: string, priority: number): PrefixClaim => ({
  name: `${host}/${prefixName(net(text))}`,
  host,
  announcement: { prefix: net(text), priority, until: undefined, via: parseVia('br-moving') },
  claimedAt: 1n as Revision,
  etcdLease: '1' as EtcdLeaseId,
  modRevision: 1n as Revision,
})

const snapshot = {
  leases: [lease('10.5.7.0/24'), lease('10.5.42.0/24')],
  prefixes: [claim('10.5.7.0-24', '10.5.240.7/32', 100), claim('10.5.42.0-24', '10.5.240.7/32', 200)],
}

test.each([
  ['10.5.42.7', 'it is in 10.5.42.0/24', 'overlayctl evict 10.5.42.0/24'],
  ['10.5.42.0/26', 'it is in 10.5.42.0/24', 'overlayctl evict 10.5.42.0/24'],
  [
    '10.5.240.7/32',
    'is in the announced prefix 10.5.240.7/32 of 10.5.42.0/24 (via br-moving)',
    'overlayctl withdraw 10.5.240.7/32; where the host is gone, ' +
      'the prefix goes with its lease: overlayctl evict 10.5.42.0/24',
  ],
  ['10.5.240.8', 'nobody has "10.5.240.8"', 'overlayctl peers'],
  ['words', 'nobody has "words"', 'overlayctl peers'],
])('evict %s: nobody is evicted by an address, and the refusal names its host', (text, message, fix) => {
  const error = noKeyOf(text, snapshot)
  expect(error.message).toContain(message)
  expect(error.fix).toContain(fix)
})
