/** How rules come into force, stay in force, and go. */
import { readFileSync, realpathSync, symlinkSync } from 'node:fs'
import { join } from 'node:path'
import { legacyTables } from '../../../src/firewall/legacy-tables'
import type { FirewallMode } from '../../../src/model/firewall'
import { desiredIptables, desiredTable } from '../../../src/plan/firewall/firewall'
import { patient } from '../../lab/patience'
import { runOk } from '../../lab/process'
import { prefix, request } from '../../support/firewall'
import { apply, iptables, keeper, nft, OPERATOR, ruleset, Site, until, whileRunning } from './site'

jest.setTimeout(patient(60_000))

let site: Site
beforeAll(async () => {
  site = await Site.create()
})
afterAll(() => site?.close())
beforeEach(() => site.flush())
afterEach(() => site.usePath(undefined))

const MODES: readonly FirewallMode[] = ['iptables', 'nftables']
const FAMILIES = ['IPv4', 'IPv6'] as const
const IPTABLES = ['iptables-save', 'iptables-restore', 'ip6tables-save', 'ip6tables-restore']
/** A period so long that only events cause a check. */
const NEVER = 3_600_000
const signal = new AbortController().signal

/** The rules with their handles. A write of a rule changes its handle. */
const handles = (): Promise<string> => runOk(['nft', '-a', 'list', 'ruleset'])
const tables = (): Promise<string> => runOk(['nft', 'list', 'tables'])

/** Whether the namespace has our rules in that mode, and no rule of ours in the other. */
async function inForce(mode: FirewallMode): Promise<boolean> {
  const lines = (await iptables()).filter((line) => line.includes('FLANNEL'))
  const wanted = FAMILIES.flatMap((family) =>
    desiredIptables(request({ mode }), family).chains.flatMap(({ name, jump, rules }) =>
      rules === undefined ? [] : [`:${name} - [0:0]`, jump, ...rules],
    ),
  )
  const texts = FAMILIES.map((family) => desiredTable(request({ mode }), family).text ?? '')
  const all = await ruleset()
  return (
    JSON.stringify(lines.toSorted()) === JSON.stringify(wanted.toSorted()) &&
    texts.every((text) => all.includes(text)) &&
    all.includes('flannel-ipv') === (mode === 'nftables')
  )
}

/** Waits until a running keeper has subscribed to notifications. */
const listens = (): Promise<true> =>
  until('the keeper listens', async () =>
    // Columns sk, Eth, Pid, Groups; protocol 12 is NETLINK_NETFILTER (linux/netlink.h).
    /^\S+ +12 +\d+ +(?!00000000)\S/m.test(readFileSync('/proc/net/netlink', 'latin1')),
  )

describe.each(MODES)('in %s mode', (mode) => {
  test('the programs list the rules in the very words', async () => {
    await apply({ mode })
    expect(await inForce(mode)).toBe(true)
  })

  test('what is in force is not written', async () => {
    await apply({ mode, docker: true })
    const before = await handles()
    await apply({ mode, docker: true })
    expect(await handles()).toBe(before)
  })

  test('a check starts no program while no rule of the host has changed, and sees a change all the same', async () => {
    // With tables of iptables-legacy a change may have no generation. See queue-runner.ts.
    for (const family of FAMILIES) expect(await legacyTables(family)).toEqual({ kind: 'named', names: [] })
    const started = await site.countPrograms('nft', ...IPTABLES)
    const made = await apply({ mode, docker: true })
    await made.look(signal)
    const before = started()
    await made.look(signal)
    expect(started()).toBe(before)
    await site.flush()
    await made.look(signal)
    expect(started()).toBeGreaterThan(before)
    expect(await inForce(mode)).toBe(true)
    expect(made.summary.repairs).toBe(1)
  })

  test('rules that were flushed are back by the event, and counted', async () => {
    const made = keeper({ mode }, { period: NEVER })
    await whileRunning(made, async () => {
      await listens()
      await site.flush()
      await until('the rules are back', () => inForce(mode))
      await until('that is counted', async () => made.summary.repairs === 1)
    })
    expect(made.summary).toEqual({ mode, problem: undefined, repairs: 1 })
  })

  test('rules that are wanted anew during a check are set, and not counted as a repair', async () => {
    const made = await apply({ mode })
    const checking = made.look(signal)
    const networks = request().networks.map((network) => ({ ...network, subnet: prefix('10.5.9.0/24') }))
    made.retarget(request({ mode, networks: networks.slice(0, 1) }))
    await checking
    await made.look(signal)
    expect(await ruleset()).toContain('10.5.9.0/24')
    expect(made.summary).toEqual({ mode, problem: undefined, repairs: 0 })
  })

  test('someone who writes our rules too is named a problem, and not fought at full speed', async () => {
    const networks = request().networks.map((network) => ({ ...network, subnet: prefix('10.5.9.0/24') }))
    const [ours, theirs] = [
      keeper({ mode }, { period: NEVER }),
      keeper({ mode, networks: networks.slice(0, 1) }),
    ]
    await whileRunning(ours, async () => {
      await listens()
      await whileRunning(theirs, () =>
        until('that is seen', async () => /another program changes our rules/.test(ours.problem ?? '')),
      )
    })
  })

  test('rules of others stay as they are, byte by byte', async () => {
    await nft(OPERATOR)
    for (const program of ['iptables', 'ip6tables']) {
      for (const rule of [
        '-N OTHERS',
        '-A OTHERS -j RETURN',
        '-A FORWARD -m comment --comment "not ours" -j OTHERS',
      ]) {
        await runOk([program, ...rule.replaceAll('"', '').replace('not ours', 'not_ours').split(' ')] as [
          string,
        ])
      }
    }
    const before = [await ruleset(), await iptables()]
    await apply({ mode, docker: true, ipMasq: false, forwardRules: false })
    await apply({ mode, docker: true })
    const foreign = (lines: string[]): string[] => lines.filter((line) => /OTHERS/.test(line))
    expect(foreign(await iptables())).toEqual(before[1])
    expect(await ruleset()).toContain(OPERATOR)
    await apply({ mode, ipMasq: false, forwardRules: false })
    // The chain exists for Docker, which finds the chain. No rule calls the chain.
    for (const program of ['iptables', 'ip6tables']) await runOk([program, '-X', 'DOCKER-USER'])
    expect(await iptables()).toEqual(before[1])
    expect(await ruleset()).toContain(OPERATOR)
  })

  test('Docker’s hooks are iptables rules, and go with Docker', async () => {
    await apply({ mode, docker: true })
    const hooks = (await iptables()).filter((line) => line.includes('overlayd'))
    expect(hooks.map((line) => line.split(' ')[1])).toEqual(
      // In the order in which iptables-save prints the tables of a family.
      expect.arrayContaining(['DOCKER-USER', 'DOCKER-USER', 'PREROUTING']),
    )
    expect(hooks).toHaveLength(6)
    await apply({ mode })
    expect((await iptables()).filter((line) => line.includes('overlayd'))).toEqual([])
  })

  test('a family that is switched off leaves nothing', async () => {
    await apply({ mode, docker: true })
    await apply({ mode, docker: true, networks: request().networks.slice(0, 1) })
    expect((await iptables()).filter((line) => /fd00|FLANNEL.*ff00/.test(line))).toEqual([])
    expect(await tables()).not.toContain('flannel-ipv6')
    expect((await runOk(['ip6tables-save'])).includes('FLANNEL')).toBe(false)
  })

  test('further networks of the host keep out of each other’s way', async () => {
    await apply({ mode })
    const before = await handles()
    const blue = { mode, scope: 'blue', links: ['flannel.2'] } as const
    await apply(blue)
    await apply({ mode })
    expect(await inForceBeside(before)).toBe(true)
    await apply({ ...blue, ipMasq: false, forwardRules: false })
    expect(await inForce(mode)).toBe(true)
  })
})

/** Whether each line is still there. */
async function inForceBeside(before: string): Promise<boolean> {
  const now = new Set((await handles()).split('\n'))
  return before.split('\n').every((line) => now.has(line))
}

test('a change of mode leaves nothing of the other, in either direction', async () => {
  await apply({ mode: 'iptables' })
  await apply({ mode: 'nftables' })
  expect(await inForce('nftables')).toBe(true)
  await apply({ mode: 'iptables' })
  expect(await inForce('iptables')).toBe(true)
})

test('the other mode’s rules stay until those of this one are in force', async () => {
  await apply({ mode: 'iptables' })
  await site.onlyPrograms('iptables-save', 'iptables-restore', 'ip6tables-save', 'ip6tables-restore')
  await keeper({ mode: 'nftables' }).look(signal)
  site.usePath(undefined)
  expect(await inForce('iptables')).toBe(true)
})

test('flannel’s chains are taken over: the call stays where it is, an old subnet goes', async () => {
  for (const rule of [
    '-N FLANNEL-POSTRTG',
    '-A POSTROUTING -m comment --comment flanneld_masq -j FLANNEL-POSTRTG',
    '-A FLANNEL-POSTRTG -s 10.5.77.0/24 -d 10.5.0.0/16 -j RETURN',
    '-A POSTROUTING -s 192.0.2.9/32 -j RETURN',
  ]) {
    const words = rule.split(' ').map((word) => word.replace('flanneld_masq', 'flanneld masq'))
    await runOk(['iptables', '-t', 'nat', ...words])
  }
  await apply({ mode: 'iptables' })
  const chain = (await runOk(['iptables', '-t', 'nat', '-S', 'POSTROUTING'])).trim().split('\n')
  expect(chain).toEqual([
    '-P POSTROUTING ACCEPT',
    '-A POSTROUTING -m comment --comment "flanneld masq" -j FLANNEL-POSTRTG',
    '-A POSTROUTING -s 192.0.2.9/32 -j RETURN',
  ])
  expect(await inForce('iptables')).toBe(true)
})

test('so are its tables', async () => {
  await nft(
    'table ip flannel-ipv4 { comment "rules for flannel-ipv4"; chain postrtg { type nat hook postrouting priority srcnat; meta mark 0x4000 return; }; }',
    'table ip6 flannel-ipv6 { comment "rules for flannel-ipv6"; chain extra { }; set left { type ipv6_addr; }; }',
  )
  await apply({ mode: 'nftables' })
  expect(await inForce('nftables')).toBe(true)
})

describe('programs', () => {
  test.each<[FirewallMode, readonly string[]]>([
    ['iptables', IPTABLES],
    ['nftables', ['nft']],
  ])('of the other mode than %s may be absent', async (mode, names) => {
    await site.onlyPrograms(...names)
    await apply({ mode })
    site.usePath(undefined)
    expect(await inForce(mode)).toBe(true)
  })

  test.each<[FirewallMode, string, readonly string[]]>([
    ['iptables', 'iptables-save is not in PATH; install the package iptables', ['nft']],
    ['nftables', 'nft is not in PATH; install the package nftables', IPTABLES],
  ])('of %s that are absent are a problem until they are there', async (mode, problem, names) => {
    await site.onlyPrograms(...names)
    const made = keeper({ mode }, { period: 20 })
    await made.look(signal)
    expect(made.problem).toContain(problem)
    await whileRunning(made, async () => {
      site.usePath(undefined)
      await until('the rules are there', () => inForce(mode))
      await until('all is well', async () => made.problem === undefined)
    })
  })

  test('for Docker’s hooks are not asked for in nftables mode', async () => {
    await site.onlyPrograms('nft')
    await apply({ mode: 'nftables', docker: true })
  })

  test('that fail are quoted', async () => {
    site.replaceProgram('iptables-restore', 'cat >/dev/null; echo "the lock is stuck" >&2; exit 4')
    const made = keeper({ networks: request().networks.slice(0, 1), fullyRandom: false })
    await made.look(signal)
    expect(made.problem).toMatch(/^iptables-restore --.*: the lock is stuck; run the same command by hand/)
  })

  test('one family’s failure costs the other nothing', async () => {
    site.replaceProgram('iptables-restore', 'cat >/dev/null; exit 4')
    const made = keeper({})
    await made.look(signal)
    expect(made.problem).toContain('iptables-restore')
    expect(await runOk(['ip6tables-save'])).toContain('FLANNEL-FWD')
  })

  test('an nft that prints rules in other words is not taken for a change', async () => {
    const real = realpathSync('/usr/sbin/nft')
    site.replaceProgram('nft', `${real} "$@" | sed s/0x00004000/0x4000/g`)
    const made = await apply({ mode: 'nftables' })
    await made.look(signal)
    const before = await runOk([real, '-a', 'list', 'ruleset'])
    await made.look(signal)
    await made.look(signal)
    expect(await runOk([real, '-a', 'list', 'ruleset'])).toBe(before)
    expect(made.summary).toEqual({ mode: 'nftables', problem: undefined, repairs: 0 })
  })

  test('the legacy variant of iptables serves as well', async () => {
    await site.onlyPrograms('nft')
    for (const name of ['iptables', ...IPTABLES]) {
      const legacy = name.replace('tables', 'tables-legacy')
      symlinkSync(realpathSync(`/usr/sbin/${legacy}`), join(process.env['PATH'] ?? '', name))
    }
    const made = await apply({ docker: true })
    await made.look(signal)
    expect(made.summary.repairs).toBe(0)
    const saved = (await runOk(['iptables-save'])) + (await runOk(['ip6tables-save']))
    const ours = (text: string): string[] => text.split('\n').filter((line) => line.startsWith('-A FLANNEL'))
    expect(ours(saved)).toHaveLength(16)
    // The kernel notifies no change of these rules, and counts none.
    await whileRunning(keeper({ docker: true }, { period: 20 }), async () => {
      await runOk(['iptables', '-F', 'FLANNEL-FWD'])
      const both = async () => (await runOk(['iptables-save'])) + (await runOk(['ip6tables-save']))
      await until('they are back by the period', async () => ours(await both()).length === 16)
    })
    await apply({ ipMasq: false, forwardRules: false })
    expect(await runOk(['iptables-save'])).not.toMatch(/FLANNEL|overlayd/)
  })
})

test('a table that iptables cannot read is a problem where it is needed, and none elsewhere', async () => {
  await nft(
    'table ip filter { chain FORWARD { type filter hook forward priority 0; numgen random mod 100 vmap { 1 : drop }; }; }',
  )
  const made = keeper({})
  await made.look(signal)
  expect(made.problem).toMatch(/^table filter contains rules that iptables cannot read/)
  await apply({ mode: 'nftables' })
})

test.each(MODES)('in %s mode the capability CAP_NET_ADMIN is enough', async (mode) => {
  const root = join(__dirname, '../../..')
  const script = `
    const { FirewallKeeper } = require('${root}/dist/daemon/keepers/firewall-keeper.js')
    const log = { log() {}, info() {}, error() {}, warn() {} }
    const revive = (key, value) => key === 'address' && typeof value === 'string' ? BigInt(value) : value
    const keeper = new FirewallKeeper(JSON.parse(process.argv[1], revive), { log, period: 60000 })
    const ending = new AbortController()
    keeper.look(ending.signal).then(async () => {
      const running = keeper.run(ending.signal)
      ending.abort()
      await running
      console.log(process.getuid(), keeper.problem)
    })`
  const wanted = JSON.stringify(request({ mode, docker: true }), (_, value) =>
    typeof value === 'bigint' ? String(value) : value,
  )
  const NOBODY = '65534'
  const capabilities = [
    '--inh-caps=+net_admin',
    '--ambient-caps=+net_admin',
    '--bounding-set=-all,+net_admin',
  ]
  const user = [`--reuid=${NOBODY}`, `--regid=${NOBODY}`, '--clear-groups', '--no-new-privs']
  const said = await runOk(['setpriv', ...user, ...capabilities, process.execPath, '-e', script, wanted])
  expect(said.trim()).toBe(`${NOBODY} undefined`)
  expect(await inForce(mode)).toBe(true)
})

test('without a free file descriptor the daemon has a problem, and no end', async () => {
  const root = join(__dirname, '../../..')
  const script = `
    const { openSync } = require('node:fs')
    const { Nftables } = require('${root}/dist/firewall/nftables.js')
    const { followRules } = require('${root}/dist/kernel/nftables/rule-changes.js')
    Nftables.require().then(async (nftables) => {
      const never = new AbortController().signal
      // Loads its libraries.
      const close = await followRules(() => {}, () => {})
      close()
      try { for (;;) openSync('/dev/null') } catch (error) { console.log(error.code) }
      for (const run of [() => followRules(() => {}, () => {}), () => nftables.list('inet x', never)])
        await run().catch((error) => console.log(error.code, error.message))
    })`
  const told = await runOk(['sh', '-c', 'ulimit -n 64; exec "$@"', 'sh', process.execPath, '-e', script])
  expect(told.split('\n')).toEqual([
    'EMFILE',
    expect.stringMatching(/^netlink-open cannot open a netlink socket/),
    expect.stringMatching(/^nftables nft list table inet x: .* EMFILE/),
    '',
  ])
})
