/**
 * Docker's own nftables backend, with the tables that dockerd 29 makes, loaded by hand (moby:
 * daemon/libnetwork/drivers/bridge/internal/nftabler). dockerd refills chains whenever a container starts,
 * and makes its tables anew whenever it starts itself. Our rule for it stands in a table of ours.
 */
import { inNamespace } from '../../lab/namespace'
import { patient, patientSeconds } from '../../lab/patience'
import { run as runAny } from '../../lab/process'
import { ADDRESSES, apply, keeper, nft, run, Site, seenFrom, until, whileRunning } from './site'

jest.setTimeout(patient(60_000))

let site: Site
beforeAll(async () => {
  site = await Site.create()
})
afterAll(() => site?.close())
beforeEach(() => site.flush())

const MARK = 0x1000
const NEVER = 3_600_000
const { container, peer, outside, host } = ADDRESSES.ipv4

/** The rule of each container without --allow-direct-routing. */
const direct = (address: string): string =>
  `ip daddr ${address} iifname != { "docker0" } counter drop comment "DROP DIRECT ACCESS"`
/** The rule of each bridge with --bridge-accept-fwmark. */
const ACCEPT = 'meta mark & 0x1000 == 0x1000 counter accept comment "ALLOW FW MARK"'

interface Options {
  readonly allowDirectRouting?: boolean
  readonly acceptFwmark?: boolean
}

const tables = ({ allowDirectRouting = true, acceptFwmark = true }: Options = {}): string => `
table ip docker-bridges {}
delete table ip docker-bridges
table ip docker-bridges {
  map filter-forward-in-jumps { type ifname : verdict; elements = { "docker0" : jump filter-forward-in__docker0 }; }
  map filter-forward-out-jumps { type ifname : verdict; elements = { "docker0" : jump filter-forward-out__docker0 }; }
  chain filter-FORWARD { type filter hook forward priority filter; policy accept; oifname vmap @filter-forward-in-jumps; iifname vmap @filter-forward-out-jumps; }
  chain raw-PREROUTING { type filter hook prerouting priority raw; policy accept; ${allowDirectRouting ? '' : direct(container)}; }
  chain filter-forward-in__docker0 { ct state established,related counter accept; ${acceptFwmark ? ACCEPT : ''}; iifname "docker0" counter accept; counter drop comment "UNPUBLISHED PORT DROP"; }
  chain filter-forward-out__docker0 { ct state established,related counter accept; counter accept; }
}`

/** What dockerd does when a container starts: it empties the chains that change, and fills them again. */
const REFILL = `
flush chain ip docker-bridges raw-PREROUTING
flush chain ip docker-bridges filter-forward-in__docker0
table ip docker-bridges {
  chain filter-forward-in__docker0 { ct state established,related counter accept; ${ACCEPT}; iifname "docker0" counter accept; counter drop comment "UNPUBLISHED PORT DROP"; }
}`

const answers = async (from: 'container' | 'peer', to: string): Promise<boolean> =>
  (await runAny(inNamespace(from, ['ping', '-n', '-c1', `-W${patientSeconds(1)}`, to]))).code === 0
const passes = async (): Promise<Record<string, boolean>> => ({
  in: await answers('peer', container),
  out: await answers('container', peer),
})
/** Our table with the handles of its rules, which a write changes. */
const ours = (): Promise<string> => run('nft', '-a', 'list', 'table', 'ip', 'overlayd-docker')
const has = async (table: string): Promise<boolean> =>
  (await run('nft', 'list', 'tables')).split('\n').includes(`table ${table}`)

test('without Docker’s tables there is no rule for them', async () => {
  await apply({ docker: true, dockerMark: MARK })
  expect(await has('ip overlayd-docker')).toBe(false)
})

test.each([
  ['both options', {}, MARK, { in: true, out: true }],
  ['both options and no mark of ours', {}, undefined, { in: false, out: true }],
  ['another mark of ours', {}, 0x2000, { in: false, out: true }],
  ['no --allow-direct-routing', { allowDirectRouting: false }, MARK, { in: false, out: false }],
  ['no --bridge-accept-fwmark', { acceptFwmark: false }, MARK, { in: false, out: true }],
] as const)('with %s', async (_, options, dockerMark, expected) => {
  await nft(tables(options))
  await apply({ docker: true, dockerMark })
  expect(await passes()).toEqual(expected)
})

test('connections keep their addresses, and what comes from outside stays dropped', async () => {
  await nft(tables())
  await apply({ docker: true, dockerMark: MARK })
  expect(await seenFrom('peer', container)).toBe(peer)
  expect(await seenFrom('container', peer)).toBe(container)
  expect(await seenFrom('container', outside)).toBe(host)
  expect((await runAny(inNamespace('outside', ['ping', '-n', '-c1', '-W1', container]))).code).not.toBe(0)
})

test.each(['iptables', 'nftables'] as const)(
  'in %s mode the rule comes with Docker’s tables, and outlives each change of theirs',
  async (mode) => {
    const made = keeper({ mode, docker: true, dockerMark: MARK }, { period: NEVER })
    await whileRunning(made, async () => {
      // The event may come before the monitor listens, so Docker starts again until it is heard.
      await until('the rule is there', async () => {
        if (await has('ip overlayd-docker')) return true
        await nft(tables())
        return false
      })
      const before = await ours()
      expect(await passes()).toEqual({ in: true, out: true })
      await nft(REFILL)
      expect(await passes()).toEqual({ in: true, out: true })
      await nft('delete table ip docker-bridges')
      await nft(tables())
      expect(await passes()).toEqual({ in: true, out: true })
      expect(await ours()).toBe(before)
      const docker = await run('nft', '-s', 'list', 'table', 'ip', 'docker-bridges')
      await nft('flush chain ip overlayd-docker prerouting')
      await until('the rule is repaired', async () => (await ours()).includes('meta mark set'))
      expect(await passes()).toEqual({ in: true, out: true })
      expect(made.problem).toBeUndefined()
      expect(await run('nft', '-s', 'list', 'table', 'ip', 'docker-bridges')).toBe(docker)
    })
  },
)

test('what is in force is not written again, and is removed where it is not wanted', async () => {
  await nft(tables())
  await apply({ docker: true, dockerMark: MARK })
  const before = await ours()
  await apply({ docker: true, dockerMark: MARK })
  expect(await ours()).toBe(before)
  await apply({ docker: true, dockerMark: 0x1 })
  expect(await ours()).toContain('0x00000001')
  await apply({ docker: true, dockerMark: undefined })
  expect(await has('ip overlayd-docker')).toBe(false)
  expect(await has('ip docker-bridges')).toBe(true)
})
