/**
 * A host between three others, in both families. The host is the sandbox itself, so that the code under test
 * runs in the test's process.
 *
 *   container 10.5.1.2 ── docker0 ┐
 *   peer      10.5.2.2 ─ flannel.1┼─ host ─ eth0 192.0.2.1 ── outside 192.0.2.2
 *
 * Each of these hosts answers a connection to port 7000 or 7001 with the source address of the connection.
 */
import { chmodSync, mkdirSync, mkdtempSync, readFileSync, rmSync, symlinkSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import winston from 'winston'
import { FirewallKeeper, type FirewallKeeperOptions } from '../../../src/daemon/keepers/firewall-keeper'
import { findProgram } from '../../../src/firewall/program'
import type { FirewallRequest } from '../../../src/model/firewall'
import { assertSandbox, inNamespace, ipBatch } from '../../lab/namespace'
import { type Command, LongProcess, runOk } from '../../lab/process'
import { Pending, waitFor } from '../../lab/wait'
import { request } from '../../support/firewall'

export type Place = 'host' | 'container' | 'peer' | 'outside'
type Neighbour = Exclude<Place, 'host'>
type Version = 'ipv4' | 'ipv6'

export const ADDRESSES: Readonly<Record<Version, Readonly<Record<Place, string>>>> = {
  ipv4: { host: '192.0.2.1', container: '10.5.1.2', peer: '10.5.2.2', outside: '192.0.2.2' },
  ipv6: { host: '2001:db8::1', container: 'fd00:5:0:1::2', peer: 'fd00:5:0:2::2', outside: '2001:db8::2' },
}
/** Addresses of the host in the overlay. */
export const OVERLAY: Readonly<Record<Version, string>> = { ipv4: '10.5.1.0', ipv6: 'fd00:5:0:1::' }
export const PORT = 7000
/** Port of connections that {@link OPERATOR} marks. */
export const MARKED_PORT = 7001

/** Rules of another program. One rule marks packets that must not be masqueraded, and sets one bit more. */
export const OPERATOR = `table inet operator {
	chain prerouting {
		type filter hook prerouting priority mangle; policy accept;
		tcp dport ${MARKED_PORT} meta mark set 0x00004001
	}
}
`

const FORWARDING = ['/proc/sys/net/ipv4/ip_forward', '/proc/sys/net/ipv6/conf/all/forwarding']

interface Wire {
  readonly place: Neighbour
  readonly device: string
  readonly near: readonly string[]
  readonly far: readonly string[]
  readonly routes: readonly string[]
}
const WIRES: readonly Wire[] = [
  {
    place: 'container',
    device: 'docker0',
    near: ['10.5.1.1/24', 'fd00:5:0:1::1/64'],
    far: ['10.5.1.2/24', 'fd00:5:0:1::2/64'],
    routes: ['default via 10.5.1.1', 'default via fd00:5:0:1::1'],
  },
  {
    place: 'peer',
    device: 'flannel.1',
    near: ['10.5.1.0/32', 'fd00:5:0:1::/128'],
    far: ['10.5.2.2/24', 'fd00:5:0:2::2/64'],
    routes: ['default via 10.5.1.0 dev eth0 onlink', 'default via fd00:5:0:1:: dev eth0 onlink'],
  },
  {
    place: 'outside',
    device: 'eth0',
    near: ['192.0.2.1/24', '2001:db8::1/64'],
    far: ['192.0.2.2/24', '2001:db8::2/64'],
    routes: ['10.5.0.0/16 via 192.0.2.1', 'fd00:5::/48 via 2001:db8::1'],
  },
]

export class Site {
  readonly directory = mkdtempSync(join(tmpdir(), 'firewall-'))
  readonly #path = process.env['PATH']
  readonly #sysctls = FORWARDING.map((path) => [path, readFileSync(path, 'latin1')] as const)
  readonly #servers: LongProcess[] = []

  static async create(): Promise<Site> {
    assertSandbox()
    const site = new Site()
    try {
      for (const wire of WIRES) await connect(wire)
      await ipBatch(undefined, [
        'route add 10.5.2.0/24 dev flannel.1',
        'route add fd00:5:0:2::/64 dev flannel.1',
      ])
      for (const path of FORWARDING) writeFileSync(path, '1')
      await Promise.all(WIRES.map(({ place }) => site.#serve(place)))
      return site
    } catch (error) {
      await site.close()
      throw error
    }
  }

  private constructor() {}

  async close(): Promise<void> {
    this.usePath(undefined)
    for (const server of this.#servers) await server.stop('SIGKILL')
    await this.flush()
    for (const { place, device } of WIRES) {
      await ipBatch(undefined, [`link delete ${device}`, `netns delete ${place}`]).catch(() => undefined)
    }
    for (const [path, value] of this.#sysctls) writeFileSync(path, value)
    rmSync(this.directory, { recursive: true, force: true })
  }

  /** Removes every rule in the namespace. */
  async flush(): Promise<void> {
    await nft('flush ruleset')
  }

  /** A PATH with the given programs alone; without programs, the former PATH. */
  async onlyPrograms(...names: readonly string[]): Promise<void> {
    const directory = mkdtempSync(join(this.directory, 'bin-'))
    for (const name of names) {
      const program = await findProgram(name, this.#path)
      if (program === undefined) throw new Error(`${name} is not installed`)
      symlinkSync(program, join(directory, name))
    }
    this.usePath(directory)
  }

  /** A PATH with a program replaced by a shell script. */
  replaceProgram(name: string, script: string): void {
    const directory = mkdtempSync(join(this.directory, 'bin-'))
    mkdirSync(directory, { recursive: true })
    writeFileSync(join(directory, name), `#!/bin/sh\n${script}\n`)
    chmodSync(join(directory, name), 0o755)
    this.usePath(`${directory}:${this.#path}`)
  }

  /**
   * A PATH in which these programs note each start.
   * @returns a function for the number of starts so far
   */
  async countPrograms(...names: readonly string[]): Promise<() => number> {
    const directory = mkdtempSync(join(this.directory, 'bin-'))
    const notes = join(directory, 'starts')
    writeFileSync(notes, '')
    for (const name of names) {
      const program = await findProgram(name, this.#path)
      if (program === undefined) throw new Error(`${name} is not installed`)
      const script = `#!/bin/sh\necho ${name} >>${notes}\nexec ${program} "$@"\n`
      writeFileSync(join(directory, name), script, { mode: 0o755 })
    }
    this.usePath(`${directory}:${this.#path}`)
    return () => readFileSync(notes, 'utf8').split('\n').length - 1
  }

  usePath(path: string | undefined): void {
    process.env['PATH'] = path ?? this.#path
  }

  async #serve(place: Neighbour): Promise<void> {
    const script = `for (const port of [${PORT}, ${MARKED_PORT}]) require('node:net')
      .createServer((socket) => socket.on('error', () => {}).end(socket.remoteAddress)).listen(port, '::', () => console.log('ready', port))`
    const command = inNamespace(place, [process.execPath, '-e', script])
    const server = new LongProcess(`the server of ${place}`, command)
    this.#servers.push(server)
    await server.waitForOutput(/ready 7001/)
  }
}

async function connect({ place, device, near, far, routes }: Wire): Promise<void> {
  await ipBatch(undefined, [
    `netns add ${place}`,
    `link add ${device} type veth peer name eth0 netns ${place}`,
    ...near.map((address) => `address add ${address} dev ${device}${nodad(address)}`),
    `link set ${device} up`,
  ])
  await ipBatch(place, [
    'link set lo up',
    ...far.map((address) => `address add ${address} dev eth0${nodad(address)}`),
    'link set eth0 up',
    ...routes.map((route) => `route add ${route}`),
  ])
}

/** The flag of `ip address add` that makes an IPv6 address usable without duplicate address detection. */
const nodad = (address: string): string => (address.includes(':') ? ' nodad' : '')

const ASK = `const [host, port, localAddress] = process.argv.slice(1)
const ask = () => new Promise((resolve, reject) => {
  const socket = require('node:net').connect({ host, port, localAddress }).setEncoding('utf8').setTimeout(5000, () => socket.destroy(new Error('no answer')))
  let text = ''
  socket.on('data', (data) => { text += data }).on('error', reject).on('end', () => resolve(text.replace('::ffff:', '')))
})`

const askCommand = (from: Place, script: string, args: readonly string[]): Command => {
  const command: Command = [process.execPath, '-e', `${ASK};${script}`, ...args]
  return from === 'host' ? command : inNamespace(from, command)
}

/** The source address that the other end of a connection sees. */
export async function seenFrom(from: Place, to: string, port = PORT, local?: string): Promise<string> {
  const args = [to, String(port), ...(local === undefined ? [] : [local])]
  return (await runOk(askCommand(from, 'ask().then(console.log)', args))).trim()
}

/** Connects again and again during an action, and collects the source addresses that the other end saw. */
export async function seenDuring(from: Place, to: string, action: () => Promise<void>): Promise<Set<string>> {
  const forever = '(async () => { for (;;) console.log(await ask()) })()'
  const asking = new LongProcess(`connections from ${from}`, askCommand(from, forever, [to, String(PORT)]))
  try {
    await asking.waitForOutput(/\n.*\n/)
    await action()
    const from = asking.output.length
    await asking.waitForOutput(/\n.*\n/, { from })
    return new Set(asking.output.trim().split('\n').slice(0, -1))
  } finally {
    await asking.stop('SIGKILL')
  }
}

/** A keeper, and the lines of its log. */
export function keeper(
  fields: Partial<FirewallRequest>,
  options: Partial<FirewallKeeperOptions> = {},
): FirewallKeeper {
  const log = winston.createLogger({ silent: true })
  return new FirewallKeeper(request(fields), { log, ...options })
}

/** Enforces the rules of a request by one check. Throws the problem of the keeper. */
export async function apply(fields: Partial<FirewallRequest>): Promise<FirewallKeeper> {
  const made = keeper(fields)
  await made.look(new AbortController().signal)
  if (made.problem !== undefined) throw new Error(made.problem)
  return made
}

/** Runs a keeper during an action, and ends the keeper. */
export async function whileRunning<T>(made: FirewallKeeper, action: () => Promise<T>): Promise<T> {
  const ending = new AbortController()
  await made.look(ending.signal)
  const running = made.run(ending.signal)
  try {
    return await action()
  } finally {
    ending.abort()
    await running
  }
}

export const nft = (...input: readonly string[]): Promise<string> =>
  runOk(['nft', '-f', '-'], { input: `${input.join('\n')}\n` })

/** A program with its arguments. */
export const run = (...command: [string, ...string[]]): Promise<string> => runOk(command)

/** All rules of the namespace. */
export const ruleset = (): Promise<string> => runOk(['nft', 'list', 'ruleset'])

/** The output of iptables-save for both families, without remarks, policies and counters. */
export async function iptables(): Promise<string[]> {
  const both = [await runOk(['iptables-save']), await runOk(['ip6tables-save'])]
  return both.flatMap((text) => text.split('\n')).filter((line) => /^-A|^:.* - /.test(line))
}

export const until = (what: string, holds: () => Promise<boolean>): Promise<true> =>
  waitFor(what, async () => (await holds()) || new Pending('it is not so'), { timeoutMs: 30_000 })
