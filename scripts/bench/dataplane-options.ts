/**
 * Measures other features of the kernel for a VXLAN overlay, one at a time, against the objects that overlayd
 * programs.
 */
import { cpus } from 'node:os'
import { run } from '../../test/lab/process'
import type { Case, Sample } from './case'
import {
  addHandMade,
  type HandMade,
  handMadeDevice,
  handMadePort,
  offloadNothing,
  onPair,
  type Pair,
  type Path,
} from './dataplane-lab'
import {
  type Figures,
  type Load,
  type Measure,
  request,
  shuffled,
  tcp,
  udp,
  withServers,
  worseBy,
} from './dataplane-load'

/**
 * A path of its own, or a feature that is switched on and off on the path that all options are compared with.
 */
type Option = { readonly name: string } & (
  | { readonly made: Omit<HandMade, 'number'> }
  /** Commands on each host that switch the feature on and off. */
  | { readonly on: readonly string[]; readonly off: readonly string[] }
)

/** Like the device that overlayd makes. */
const USUAL: HandMade = { number: 0, vxlan: 'nolearning', nexthops: true }
const DEVICE = handMadeDevice(USUAL.number)
const PORT = handMadePort(USUAL.number)

const own = (name: string, made: Omit<HandMade, 'number'>): Option => ({ name, made: { ...USUAL, ...made } })
const feature = (name: string, device: string, option: string, usual: 'on' | 'off'): Option => ({
  name,
  on: [`ethtool -K ${device} ${option} ${usual === 'on' ? 'off' : 'on'}`],
  off: [`ethtool -K ${device} ${option} ${usual}`],
})
const sysfs = (name: string, file: string, on: string): Option => ({
  name,
  on: [`echo ${on} >/sys/class/net/${file}`],
  off: [`echo 0 >/sys/class/net/${file}`],
})
const table = (name: string, content: string): Option => ({
  name,
  on: [`nft -f - <<'END'\ntable ip bench {\n${content}\n}\nEND`],
  off: ['nft delete table ip bench'],
})
const forward = (...rules: readonly string[]) =>
  `chain forward {\ntype filter hook forward priority filter - 1\n${rules.join('\n')}\n}`
const ALL_CPUS = (2 ** Math.min(cpus().length, 31) - 1).toString(16)
const untracked = (match: string) =>
  ['prerouting', 'output']
    .map((hook) => `chain ${hook} {\ntype filter hook ${hook} priority raw\n${match} notrack\n}`)
    .join('\n')

/**
 * Two options are missing because TCP comes to a standstill with them (Linux 6.18): remote checksum offload
 * (remcsumtx, remcsumrx) with a card that takes 64 kB at once, and threaded NAPI on the device.
 */
const OPTIONS: readonly Option[] = [
  table('outer UDP not tracked', untracked(`udp dport ${PORT}`)),
  table('nothing tracked at all', untracked('')),
  own('no outer UDP checksum', { vxlan: 'nolearning noudpcsum' }),
  own('IPv6 underlay', { six: true }),
  own('IPv6 underlay without outer checksum', {
    six: true,
    vxlan: 'nolearning udp6zerocsumtx udp6zerocsumrx',
  }),
  own('learning', { vxlan: 'learning' }),
  own('one source port', { vxlan: 'nolearning srcport 50000 50001' }),
  own('DF set', { vxlan: 'nolearning df set' }),
  own('routes without nexthop objects', { nexthops: false }),
  own('4 queues', { link: 'numtxqueues 4 numrxqueues 4' }),
  own('MTU 1430', { mtu: 1430 }),
  {
    name: 'queue of 1000 packets',
    on: [`tc qdisc add dev ${DEVICE} root pfifo limit 1000`],
    off: [`tc qdisc delete dev ${DEVICE} root`],
  },
  sysfs('RPS on the device', `${DEVICE}/queues/rx-0/rps_cpus`, ALL_CPUS),
  sysfs('RPS on the card', 'eth0/queues/rx-0/rps_cpus', ALL_CPUS),
  feature('no GRO on the device', DEVICE, 'gro', 'on'),
  feature('GRO lists on the device', DEVICE, 'rx-gro-list', 'off'),
  feature('UDP GRO on the device', DEVICE, 'rx-udp-gro-forwarding', 'off'),
  feature("GRO on the container's veth", 'veth1', 'gro', 'off'),
  table('1000 rules before ours', forward(...Array.from({ length: 1000 }, () => 'ip saddr 198.18.0.1 drop'))),
  table(
    'flow table',
    `flowtable fast {\nhook ingress priority filter\ndevices = { ${DEVICE}, docker0 }\n}\n` +
      forward('meta l4proto { tcp, udp } flow add @fast'),
  ),
]

export const OPTION_NAMES = OPTIONS.map(({ name }) => name)

/** Number of options between two measurements of the path that they are compared with. */
const BETWEEN = 3
/** The loads by card: first a card that takes 64 kB at once, then one that offloads nothing. */
const STEPS: readonly { readonly card: string; readonly loads: readonly Load[] }[] = [
  { card: '', loads: [tcp, udp(64), request] },
  { card: 'no offloads', loads: [tcp] },
]
/**
 * The measures with a ratio. The p99 of requests is left out: rare long waits are noise, and so is a ratio of
 * them.
 */
const compared = ({ measures }: Load): Measure[] =>
  measures.filter(({ key, better }) => better !== undefined && key !== 'requestP99')
const withCard = (text: string, card: string): string => [text, card].filter(Boolean).join(', ')

export const dataplaneOptions: Case = {
  name: 'dataplane-options',
  onlyNamed: true,
  about:
    'How many times worse each option is than the objects that overlayd programs; below 1 it is better. ' +
    'The ratios are to measurements of those objects just before and after the option. A dash: this kernel ' +
    'lacks the option. No offloads: ethtool -K eth0 tx off gso off gro on.',
  metrics: OPTION_NAMES.flatMap((name) =>
    STEPS.flatMap(({ card, loads }) =>
      loads.flatMap(compared).map(({ key, label }) => ({
        key: `${name}/${withCard(key, card)}`,
        label: name,
        digits: 2,
        // Without the unit.
        column: withCard(label.replace(/,[^,]*$/, ''), card),
      })),
    ),
  ),
  measure: (stage) => onPair(stage, measureOptions),
}

async function measureOptions(pair: Pair): Promise<Sample> {
  const { effort, quiet } = pair.stage
  const usual = await addHandMade(pair, USUAL)
  const ways = await prepare(pair, usual)
  const sample: Record<string, number> = {}

  const measureLoad = async (load: Load, card: string): Promise<void> => {
    const measure = (path: Path) => load.run(path, effort.loadSeconds)
    let before = await measure(usual)
    const left = shuffled(ways)
    while (left.length > 0) {
      const some = left.splice(0, BETWEEN)
      const found: Figures[] = []
      for (const way of some) {
        await way.on()
        found.push(await measure(way.path))
        await way.off()
      }
      const after = await measure(usual)
      for (const figure of compared(load)) {
        const of = (figures: Sample) => figures[figure.key] ?? Number.NaN
        const reference = (of(before) + of(after)) / 2
        some.forEach(({ name }, index) => {
          sample[`${name}/${withCard(figure.key, card)}`] = worseBy(figure, of(found[index] ?? {}), reference)
        })
      }
      before = after
    }
  }

  await withServers(
    [usual, ...ways.filter(({ path }) => path !== usual).map(({ path }) => path)],
    async () => {
      await quiet()
      for (const { card, loads } of STEPS) {
        if (card !== '') await offloadNothing(pair)
        for (const load of loads) await measureLoad(load, card)
      }
    },
  )
  return sample
}

interface Way {
  readonly name: string
  readonly path: Path
  on(): Promise<void>
  off(): Promise<void>
}

/**
 * Makes the paths of options with a device of their own, and tries the other options. Options that this
 * kernel lacks are left out.
 */
async function prepare(pair: Pair, usual: Path): Promise<Way[]> {
  const ways: Way[] = []
  const nothing = async () => {}
  const { options } = pair.stage.effort
  for (const [index, option] of OPTIONS.entries()) {
    const { name } = option
    if (options?.includes(name) === false) continue
    try {
      if ('made' in option) {
        const path = await addHandMade(pair, { ...option.made, number: index + 1 })
        ways.push({ name, path, on: nothing, off: nothing })
      } else {
        const way = {
          name,
          path: usual,
          on: () => onBoth(pair, option.on),
          off: () => onBoth(pair, option.off),
        }
        await way.on()
        await way.off()
        ways.push(way)
      }
    } catch (error) {
      process.stderr.write(`left out, ${name}: ${error instanceof Error ? error.message : String(error)}\n`)
    }
  }
  return ways
}

/** Uses `ip netns exec`, because /sys shows the devices of the namespace in which it was mounted. */
async function onBoth({ hosts }: Pair, commands: readonly string[]): Promise<void> {
  for (const { namespace } of hosts) {
    const { code, stderr } = await run(['ip', 'netns', 'exec', namespace, 'sh', '-e'], {
      input: commands.join('\n'),
    })
    if (code !== 0) throw new Error(stderr.split('\n')[0])
  }
}
