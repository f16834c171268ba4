/**
 * `overlayctl enroll`, `unenroll` and `audit` with an etcd that asks for users: what an enrolled host can do,
 * what it cannot, and what is left after its enrolment has ended.
 */
import { auditDocumentSchema } from '../../../src/api/documents'
import { parseEnvironmentFile } from '../../../src/host/environment-file'
import { ETCD_PREFIX, Lab, NETWORK_CONFIG } from '../../lab/lab'
import { patient } from '../../lab/patience'
import { Pending, waitFor } from '../../lab/wait'

jest.setTimeout(patient(90_000))

let lab: Lab
const ROOT = 'root:hunter2'
const asRoot = (...args: string[]) => lab.etcd.etcdctl(`--user=${ROOT}`, ...args)

/** overlayctl of an operator, on a host that has no daemon. */
const operate = (...args: string[]) =>
  lab.host(3).overlayctl(...args, '--etcd-username=root', '--etcd-password=hunter2')

const enroll = async (number: number, ...flags: string[]) => {
  const { code, stdout, stderr } = await operate(
    'enroll',
    `--public-ip=${lab.host(number).address}`,
    ...flags,
  )
  expect({ code, stderr: code === 0 ? '' : stderr }).toEqual({ code: 0, stderr: '' })
  return { env: parseEnvironmentFile(Buffer.from(stdout)).variables, stderr }
}

beforeAll(async () => {
  lab = await Lab.create({ hosts: 3 })
  await lab.etcd.etcdctl('user', 'add', ROOT)
  await lab.etcd.etcdctl('user', 'grant-role', 'root', 'root')
  await lab.etcd.etcdctl('auth', 'enable')
})
afterAll(() => lab?.close())

describe('an enrolled host', () => {
  let user = ''
  const asHost = (...args: string[]) => lab.etcd.etcdctl(`--user=${user}`, ...args)
  const key = (place: string) => `${ETCD_PREFIX}/${place}`

  test('takes its subnet with the environment file that the command printed', async () => {
    const first = await enroll(1, '--subnet=10.5.41.0/24')
    const second = await enroll(2, '--subnet=10.5.42.0/24')
    expect(first.env).toMatchObject({
      FLANNELD_ETCD_ENDPOINTS: lab.endpoints,
      FLANNELD_ETCD_PREFIX: ETCD_PREFIX,
      FLANNELD_ETCD_USERNAME: 'overlayd-10.5.41.0-24',
    })
    user = `overlayd-10.5.41.0-24:${first.env['FLANNELD_ETCD_PASSWORD']}`
    lab.host(1).start({ env: first.env })
    lab.host(2).start({ env: second.env })
    const [one, two] = await Promise.all([lab.host(1).waitConverged(1), lab.host(2).waitConverged(1)])
    expect([one.lease?.subnet, two.lease?.subnet]).toEqual(['10.5.41.0/24', '10.5.42.0/24'])
  })

  test('can write its own lease, groups and prefixes, and read the network', async () => {
    const lease = await asHost('get', '--print-value-only', key('subnets/10.5.41.0-24'))
    await asHost('put', key('subnets/10.5.41.0-24'), lease.trim())
    await asHost('put', key('overlay/groups/10.5.41.0-24'), '{}')
    await asHost('del', key('overlay/groups/10.5.41.0-24'))
    await asHost('put', key('overlay/prefixes/10.5.41.0-24/192.0.2.0-24'), '{}')
    await asHost('del', key('overlay/prefixes/10.5.41.0-24/192.0.2.0-24'))
    expect((await lab.host(1).overlayctl('lease', 'add')).stderr).toContain('sets no IPv4 range')
    const allowed = { Prefixes: { Allowed: ['10.5.240.0/20'] } }
    await asRoot('put', key('config'), JSON.stringify({ ...JSON.parse(NETWORK_CONFIG), ...allowed }))
    await waitFor('a further subnet', async () => {
      const { code, stderr } = await lab.host(1).overlayctl('lease', 'add')
      return code === 0 || new Pending(stderr)
    })
    await asHost('del', '--prefix', key('overlay/prefixes/10.5.41.0-24/'))
    expect(await asHost('get', '--prefix', '--keys-only', `${ETCD_PREFIX}/`)).toContain('overlay/hosts')
  })

  test.each([
    'config',
    'subnets/10.5.42.0-24',
    'subnets/10.5.77.0-24',
    'overlay/groups/10.5.42.0-24',
    'overlay/prefixes/10.5.42.0-24/192.0.2.0-24',
    'overlay/prefixes/10.5.41.0-24',
    'overlay/hosts/10.5.41.0-24',
    'overlay/reservations/10.5.41.0-24',
    'overlay/audit/000000000001',
  ])('can neither write nor delete %s', async (place) => {
    await expect(asHost('put', key(place), 'x')).rejects.toThrow(/permission denied/)
    await expect(asHost('del', key(place))).rejects.toThrow(/permission denied/)
  })

  test('that is enrolled again keeps its password, until the operator asks for another one', async () => {
    const { env, stderr } = await enroll(1)
    expect(env['FLANNELD_ETCD_PASSWORD']).toBeUndefined()
    expect(stderr).toContain('there is already the user and role overlayd-10.5.41.0-24')
    await asHost('get', key('config'))
    const anew = await enroll(2, '--new-password')
    expect(anew.env['FLANNELD_ETCD_PASSWORD']).toMatch(/^[\w-]{32}$/)
    await lab.host(2).stop()
    lab.host(2).start({ env: anew.env })
    await lab.host(2).waitConverged(1)
    expect(await operate('enroll', `--public-ip=${lab.host(1).address}`, '--user=other')).toMatchObject({
      stderr: expect.stringContaining('is enrolled already, with the user overlayd-10.5.41.0-24'),
    })
  })

  test('is neither released nor evicted by mistake', async () => {
    const released = await operate('release', '10.5.41.0/24', '--yes')
    expect(released.stderr).toContain('overlayctl unenroll 10.5.41.0/24')
    const evicted = await operate('evict', '10.5.41.0/24', '--yes')
    expect(evicted.stderr).toContain('overlayctl unenroll 10.5.41.0/24')
  })
})

test('a role of somebody else is not taken over', async () => {
  await asRoot('role', 'add', 'theirs')
  await asRoot('role', 'grant-permission', 'theirs', 'readwrite', '/theirs')
  await asRoot('user', 'add', 'alice:pass')
  await asRoot('user', 'grant-role', 'alice', 'theirs')
  const refusal = async (user: string) => {
    const { code, stderr } = await operate('enroll', '--public-ip=192.168.77.99', `--user=${user}`)
    return code === 0 ? 'none' : stderr
  }
  expect(await refusal('theirs')).toContain('the role theirs exists, and has the right')
  expect(await refusal('alice')).toContain('the user alice exists, and has the role theirs')
  expect(await refusal('root')).toContain('and not root')
  expect(await asRoot('get', '--prefix', ETCD_PREFIX)).not.toContain('192.168.77.99')
})

test('a host with a certificate gets a user without a password', async () => {
  const { code, stdout } = await operate(
    'enroll',
    '--public-ip=192.168.77.98',
    '--user=cert',
    '--certificate',
  )
  expect(code).toBe(0)
  expect(stdout).toContain('# The common name of the certificate has to be cert.')
  expect(stdout).not.toContain('PASSWORD')
  expect(await asRoot('user', 'get', 'cert')).toContain('cert')
  await expect(lab.etcd.etcdctl('--user=cert:', 'get', ETCD_PREFIX)).rejects.toThrow()
})

describe('the end of an enrolment', () => {
  test('is refused for a host that lives, and shown by --dry-run', async () => {
    const refused = await operate('unenroll', '10.5.41.0/24', '--yes')
    expect(refused.stderr).toContain('nothing was deleted')
    const shown = await operate('unenroll', '10.5.41.0/24', '--force', '--dry-run')
    expect(shown.stdout).toContain('would be deleted (--dry-run)')
    expect(await asRoot('user', 'list')).toContain('overlayd-10.5.41.0-24')
  })

  test('takes the lease, the user and the role of a stolen host that still runs', async () => {
    const done = await operate('unenroll', '10.5.41.0/24', '--force', '--yes')
    expect(done).toMatchObject({ code: 0, stdout: expect.stringContaining('ended the enrolment') })
    await lab
      .host(2)
      .waitForStatus('the peer is gone', ({ peers }) =>
        peers.every(({ subnet }) => subnet !== '10.5.41.0/24'),
      )
    expect(await asRoot('user', 'list')).not.toContain('overlayd-10.5.41.0-24')
    expect(await asRoot('role', 'list')).not.toContain('overlayd-10.5.41.0-24')
    // It asks for its lease again and again.
    await waitFor('the refusal of etcd', async () => {
      const status = await lab.host(1).status()
      if (status instanceof Pending) return status
      return status.lease?.state === 'lost' ? true : new Pending(String(status.lease?.state))
    })
    const keys = await asRoot('get', '--prefix', '--keys-only', `${ETCD_PREFIX}/`)
    expect(keys).not.toContain('10.5.41.0-24')
    expect(await operate('unenroll', '10.5.41.0/24', '--yes')).toMatchObject({
      stderr: expect.stringContaining('no host is enrolled for 10.5.41.0/24'),
    })
  })
})

test('the audit names each write of the operator, the newest first', async () => {
  const { stdout } = await operate('audit', '--last=0', '-o', 'json')
  const { records, unreadable } = auditDocumentSchema.parse(JSON.parse(stdout))
  expect(unreadable).toEqual([])
  const [last] = records
  expect(last).toMatchObject({ verb: 'unenroll', etcdUser: 'root' })
  expect(last?.what).toBe('10.5.41.0/24, user overlayd-10.5.41.0-24')
  expect(records.at(-1)).toMatchObject({
    number: 1,
    verb: 'enroll',
    what: expect.stringContaining('10.5.41.0/24 for 192.168.77.11'),
  })
  const { stdout: table } = await operate('audit')
  expect(table.split('\n')[1]).toMatch(/root, \S+@\S+ +unenroll +10\.5\.41\.0\/24/)
})
