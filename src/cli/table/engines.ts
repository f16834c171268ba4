/** The commands about container engines other than Docker: part of the table of commands. */
import { DEFAULT_NAME } from '../../model/engines'
import { EXIT } from '../exit'
import { type Verb, verb } from '../verb'

const NETWORK_FLAGS = {
  name: { type: 'string', default: DEFAULT_NAME, describe: 'name of the network' },
  subnet: {
    type: 'string',
    array: true,
    describe:
      "the part of the host's subnet, or of a further one (overlayctl lease), as in 10.5.7.64/27; " +
      'once for IPv4 and once for IPv6',
  },
  size: {
    type: 'string',
    describe:
      'prefix length of a free part ' +
      "(default: that of the present file, else that of docker0's part, else the whole subnet)",
  },
  force: {
    type: 'boolean',
    default: false,
    describe: 'set a file of your own with the same name aside',
  },
} as const

export const ENGINE_VERBS: readonly Verb[] = [
  verb({
    path: 'cni',
    describe: "print or write a CNI network on this host's subnet, for nerdctl, containerd and Nomad",
    options: {
      ...NETWORK_FLAGS,
      output: {
        type: 'string',
        default: '',
        describe: 'the file, below /etc/cni/net.d (default: standard output)',
      },
    },
    examples: [
      ['cni', 'the list of plugins'],
      ['cni --output=/etc/cni/net.d/30-overlayd.conflist', 'as overlayd-cni.service does'],
      ['cni --size=27', 'where Docker has the rest of the subnet'],
    ],
    run: async (flags, { local }) => {
      const { runEngineNetwork } = await import('../verbs/engine-network.js')
      await runEngineNetwork('cni', await local(), flags)
      return EXIT.healthy
    },
  }),
  verb({
    path: 'podman-network',
    describe: "print or write a network of Podman on this host's subnet",
    options: {
      ...NETWORK_FLAGS,
      output: {
        type: 'string',
        default: '',
        describe: 'the file, /etc/containers/networks/NAME.json (default: standard output)',
      },
    },
    examples: [
      ['podman-network', 'the network as JSON'],
      ['podman-network --output=/etc/containers/networks/overlay.json', 'then: podman run --network=overlay'],
    ],
    run: async (flags, { local }) => {
      const { runEngineNetwork } = await import('../verbs/engine-network.js')
      await runEngineNetwork('podman', await local(), flags)
      return EXIT.healthy
    },
  }),
]
