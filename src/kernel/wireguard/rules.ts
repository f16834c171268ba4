/**
 * The rule and the routes by which IPv6 packets to a WireGuard device leave by it (linux/fib_rules.h).
 *
 * A forwarding entry names the device that its packets must use, but for IPv6 the kernel takes that as a mere
 * wish once a packet has a source address: without a route over the device the packets leave in clear, by
 * whatever route leads to the peer (net/ipv6/route.c, RT6_LOOKUP_F_IFACE). So a rule sends the look-ups for
 * the device to a table with a default route over it. A last route of the table refuses what finds no
 * device: while the device is down the kernel has dropped its routes.
 */
import { constants } from 'node:os'
import { OverlayError } from '../../model/errors'
import { ROUTE_PROTOCOL } from '../../model/kernel/route'
import type { LinkClients } from '../links/link-operations'
import type { Question, RequestFormat } from '../netlink/client'
import { type MessageOf, messageCodec } from '../netlink/codec'
import * as k from '../netlink/constants'
import { NetlinkError } from '../netlink/errors'
import { present, text, u8, u32 } from '../netlink/layout'
import { routeMessage } from '../netlink/messages'

/**
 * Priority of our rules: before the main table (32766) and before other programs' rules, which begin at 99
 * or later as a rule. They concern no packet but ours. `ip -6 rule` shows it first in the line.
 */
const RULE_PRIORITY = 79

/** Metric of the routes over the device: the kernel's for a route without one (IP6_RT_PRIO_USER). */
const DEVICE_METRIC = 1024
/** Metric of the route that refuses: the worst. */
const LAST_METRIC = 0xffffffff

/** struct fib_rule_hdr and FRA_* (linux/fib_rules.h). */
const ruleMessage = messageCodec(
  {
    size: 12,
    fields: {
      family: [0, u8],
      destinationLength: [1, u8],
      sourceLength: [2, u8],
      tos: [3, u8],
      table: [4, u8],
      action: [7, u8],
      flags: [8, u32],
    },
  },
  {
    priority: [k.FRA_PRIORITY, u32],
    tableId: [k.FRA_TABLE, u32],
    outName: [k.FRA_OIFNAME, text],
    protocol: [k.FRA_PROTOCOL, u8],
    inName: [k.FRA_IIFNAME, present],
    mark: [k.FRA_FWMARK, present],
    users: [k.FRA_UID_RANGE, present],
    ipProtocol: [k.FRA_IP_PROTO, present],
    sourcePorts: [k.FRA_SPORT_RANGE, present],
    destinationPorts: [k.FRA_DPORT_RANGE, present],
  },
)

type Rule = MessageOf<typeof ruleMessage>
type RouteMessage = MessageOf<typeof routeMessage>

/** Dump: the rules of our protocol for packets to that device. */
const listOwnRules = (name: string): Question<Rule> => ({
  attempted: 'list the IPv6 rules',
  encode: (writer) => ruleMessage.encode(writer, k.RTM_GETRULE, k.NLM_F_REQUEST, { family: k.AF_INET6 }),
  decode(view, start, end) {
    const rule = ruleMessage.decode(view, start, end)
    return rule.protocol === ROUTE_PROTOCOL && rule.outName === name ? rule : undefined
  },
})

const isRight = (rule: Rule, table: number): boolean =>
  rule.priority === RULE_PRIORITY &&
  (rule.tableId ?? rule.table) === table &&
  rule.action === k.FR_ACT_TO_TBL &&
  (rule.flags & k.FIB_RULE_INVERT) === 0 &&
  rule.sourceLength === 0 &&
  rule.destinationLength === 0 &&
  rule.tos === 0 &&
  [rule.inName, rule.mark, rule.users, rule.ipProtocol, rule.sourcePorts, rule.destinationPorts].every(
    (selector) => selector === undefined,
  )

/** Dump: the routes of a table; ENOENT if the table has none and had none before. */
const listTable = (table: number): Question<RouteMessage> => ({
  attempted: `list the IPv6 routes of table ${table}`,
  encode: (writer) =>
    routeMessage.encode(writer, k.RTM_GETROUTE, k.NLM_F_REQUEST, { family: k.AF_INET6, ...inTable(table) }),
  decode(view, start, end) {
    const route = routeMessage.decode(view, start, end)
    const isOfTable = route.family === k.AF_INET6 && (route.tableId ?? route.table) === table
    return isOfTable && (route.flags & k.RTM_F_CLONED) === 0 ? route : undefined
  },
})

/** A table's number in the header, or in an attribute if it exceeds 8 bits. */
const inTable = (table: number) => (table < 256 ? { table } : { table: k.RT_TABLE_UNSPEC, tableId: table })

/** A default route of the table: over a device, or one that refuses. */
interface TableRoute {
  readonly table: number
  /** `undefined`: it refuses. */
  readonly link: number | undefined
}

const isRoute = (route: RouteMessage, { link }: TableRoute): boolean =>
  link === undefined
    ? route.type === k.RTN_UNREACHABLE && route.metric === LAST_METRIC
    : route.type === k.RTN_UNICAST &&
      route.link === link &&
      route.gateway === undefined &&
      route.metric === DEVICE_METRIC

type Step =
  | { readonly kind: 'add-route' | 'delete-route'; readonly route: TableRoute }
  | { readonly kind: 'add-rule'; readonly name: string; readonly table: number }
  | { readonly kind: 'delete-rule'; readonly name: string; readonly rule: Rule }

const STEP_FORMAT: RequestFormat<Step> = {
  encode(writer, step) {
    if (step.kind === 'add-rule') {
      ruleMessage.encode(writer, k.RTM_NEWRULE, k.NLM_F_REQUEST | k.NLM_F_CREATE | k.NLM_F_EXCL, {
        family: k.AF_INET6,
        action: k.FR_ACT_TO_TBL,
        priority: RULE_PRIORITY,
        tableId: step.table,
        outName: step.name,
        protocol: ROUTE_PROTOCOL,
      })
    } else if (step.kind === 'delete-rule') {
      const { rule } = step
      ruleMessage.encode(writer, k.RTM_DELRULE, k.NLM_F_REQUEST, {
        family: k.AF_INET6,
        action: rule.action,
        priority: rule.priority,
        tableId: rule.tableId ?? rule.table,
        outName: rule.outName,
        protocol: ROUTE_PROTOCOL,
      })
    } else {
      const { table, link } = step.route
      const isAddition = step.kind === 'add-route'
      const flags = isAddition ? k.NLM_F_CREATE | k.NLM_F_REPLACE : 0
      routeMessage.encode(writer, isAddition ? k.RTM_NEWROUTE : k.RTM_DELROUTE, k.NLM_F_REQUEST | flags, {
        family: k.AF_INET6,
        ...inTable(table),
        protocol: ROUTE_PROTOCOL,
        scope: isAddition ? k.RT_SCOPE_UNIVERSE : k.RT_SCOPE_NOWHERE,
        type: link === undefined ? k.RTN_UNREACHABLE : k.RTN_UNICAST,
        link,
        metric: link === undefined ? LAST_METRIC : DEVICE_METRIC,
      })
    }
  },
  describe(step) {
    if (step.kind === 'add-rule') return `add the IPv6 rule oif ${step.name} lookup ${step.table}`
    if (step.kind === 'delete-rule') return `delete an IPv6 rule oif ${step.name}`
    const verb = step.kind === 'add-route' ? 'add' : 'delete'
    const where = step.route.link === undefined ? 'that refuses' : `over interface ${step.route.link}`
    return `${verb} the IPv6 default route ${where} in table ${step.route.table}`
  },
}

/**
 * See {@link WireguardDevices.ensureRule6}.
 * @throws {NetlinkError} ENETDOWN if the device is down: its packets are refused then
 */
export async function ensureRule6(
  clients: LinkClients,
  { index, name }: { readonly index: number; readonly name: string },
  table: number,
  signal?: AbortSignal,
): Promise<boolean> {
  const { steps, routes } = await missingSteps(clients, { index, name }, table, signal)
  const stranger = routes.find(({ protocol }) => protocol !== ROUTE_PROTOCOL)
  if (stranger !== undefined) {
    throw new OverlayError(
      'table-taken',
      `cannot send IPv6 packets by ${name}: another program has a route in the table ${table}`,
      `look at it, and take it away: ip -6 route show table ${table}`,
    )
  }
  for (const step of steps) await clients.requests.change(step, STEP_FORMAT, signal)
  return steps.length > 0
}

/** Whether {@link ensureRule6} has nothing to do. Changes nothing. */
export async function isRule6Right(
  clients: LinkClients,
  link: { readonly index: number; readonly name: string },
  table: number,
  signal?: AbortSignal,
): Promise<boolean> {
  return (await missingSteps(clients, link, table, signal)).steps.length === 0
}

/** What is missing, and the routes of the table. */
async function missingSteps(
  clients: LinkClients,
  { index, name }: { readonly index: number; readonly name: string },
  table: number,
  signal: AbortSignal | undefined,
): Promise<{ readonly steps: readonly Step[]; readonly routes: readonly RouteMessage[] }> {
  const routes = await readTable(clients, table, signal)
  const missing = (link: number | undefined): Step[] => {
    const route: TableRoute = { table, link }
    return routes.some((each) => isRoute(each, route)) ? [] : [{ kind: 'add-route', route }]
  }
  const rules = await clients.dumps.dump(listOwnRules(name), signal)
  const [right] = rules.filter((rule) => isRight(rule, table))
  // The route over the device comes last: if the device is down it cannot be made, and packets are refused.
  const steps: Step[] = [
    ...missing(undefined),
    ...(right === undefined ? [{ kind: 'add-rule', name, table } as const] : []),
    ...missing(index),
    ...rules.filter((rule) => rule !== right).map((rule) => ({ kind: 'delete-rule', name, rule }) as const),
  ]
  return { steps, routes }
}

/** Whether there is anything that {@link removeRule6} would remove. */
export async function hasRule6(
  clients: LinkClients,
  name: string,
  table: number,
  signal?: AbortSignal,
): Promise<boolean> {
  if ((await readOwnRules(clients, name, signal)).length > 0) return true
  return (await readTable(clients, table, signal)).some(({ protocol }) => protocol === ROUTE_PROTOCOL)
}

/** See {@link WireguardDevices.removeRule6}. */
export async function removeRule6(
  clients: LinkClients,
  name: string,
  table: number,
  signal?: AbortSignal,
): Promise<void> {
  const rules = await readOwnRules(clients, name, signal)
  for (const rule of rules) await remove(clients, { kind: 'delete-rule', name, rule }, signal)
  for (const { type, link, protocol } of await readTable(clients, table, signal)) {
    if (protocol !== ROUTE_PROTOCOL) continue
    const route = { table, link: type === k.RTN_UNREACHABLE ? undefined : link }
    await remove(clients, { kind: 'delete-route', route }, signal)
  }
}

/** A kernel without IPv6, or without routing tables of IPv6, has no rule. */
async function readOwnRules(
  { dumps }: LinkClients,
  name: string,
  signal: AbortSignal | undefined,
): Promise<readonly Rule[]> {
  try {
    return await dumps.dump(listOwnRules(name), signal)
  } catch (error) {
    if (error instanceof NetlinkError && error.errno === constants.errno.EAFNOSUPPORT) return []
    throw error
  }
}

async function readTable(
  { dumps }: LinkClients,
  table: number,
  signal: AbortSignal | undefined,
): Promise<readonly RouteMessage[]> {
  try {
    return await dumps.dump(listTable(table), signal)
  } catch (error) {
    if (error instanceof NetlinkError && error.errno === constants.errno.ENOENT) return []
    throw error
  }
}

/** A deletion of what is not there, or goes with its device at this moment, is done. */
async function remove({ requests }: LinkClients, step: Step, signal: AbortSignal | undefined): Promise<void> {
  const { ENOENT, ESRCH, ENODEV } = constants.errno
  const [failure] = await requests.batch([step], STEP_FORMAT, signal)
  if (failure !== undefined && ![ENOENT, ESRCH, ENODEV].includes(failure.error.errno)) throw failure.error
}
