/** The options that take part in the plan of this host. */
import { instanceId } from '../../options/instance'
import type { Options } from '../../options/schema'
import type { HostPolicy } from '../../plan/host-plan'

export const hostPolicy = (options: Options): HostPolicy => ({
  ipMasq: options['ip-masq'],
  fullyRandom: !options['ip-masq-fully-random-disable'],
  forwardRules: options['iptables-forward-rules'],
  forward: options['ip-forward'],
  dockerMark: options['docker-mark'],
  blackhole: options['ip-blackhole-route'],
  scope: instanceId(options),
})
