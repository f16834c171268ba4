/**
 * Hosts that really boot, on one underlay: each is Debian with systemd, set up by cloud-init from the shipped user-data, with
 * overlayd from its package.
 *
 *   node1 host0 192.0.2.11 ──┐
 *   node2 host0 192.0.2.12 ──┼── bridge `underlay` 192.0.2.1: the test itself
 *   ...                      ┘
 *
 * Only inside `scripts/hosts/sandbox`. `close()` removes all that the lab made, also after failures.
 */
import { copyFileSync, mkdirSync, mkdtempSync, readFileSync, rmSync } from 'node:fs'
import { join } from 'node:path'
import { BootedHost, PATH } from './booted-host'
import { assertSandbox, ipBatch } from './namespace'
import { run, runOk } from './process'

const ROOT = join(__dirname, '../..')
const BRIDGE = 'underlay'
const GATEWAY = '192.0.2.1'
/** The last octet of a host's address is its number and this. */
const HOST_OFFSET = 10

/** What `scripts/hosts/sandbox` prepared. */
interface Prepared {
  /** overlayd's Debian package, from this tree. */
  readonly deb: string
  readonly rootfs: string
  readonly cgroups: readonly string[]
}

/** @throws {Error} with the one thing to do, where hosts cannot boot */
export function assertBootable(): Prepared {
  const { OVERLAYD_DEB: deb, OVERLAYD_ROOTFS: rootfs, OVERLAYD_CGROUPS: cgroups } = process.env
  if (deb === undefined || rootfs === undefined || cgroups === undefined) {
    throw new Error('this boots hosts: run it as root by `scripts/hosts/sandbox COMMAND ...`')
  }
  assertSandbox()
  return { deb, rootfs, cgroups: cgroups.split(' ').filter((cgroup) => cgroup !== '') }
}

/** The files of the shipped cloud-config, with what is to be changed in them changed. */
function seedOf(name: string, address: string): Record<string, string> {
  const read = (file: string) => readFileSync(join(ROOT, 'scripts/cloud-config', file), 'utf8')
  return {
    'user-data': read('user-data'),
    'meta-data': read('meta-data').replaceAll('node1', name),
    'network-config': read('network-config').replaceAll('192.0.2.11', address),
  }
}

export class BootedLab {
  readonly hosts: BootedHost[] = []
  readonly #directory = mkdtempSync('/run/booted-')
  /** What the package adds to the root file system, as a layer. */
  readonly #image = join(this.#directory, 'image')

  /** Makes the underlay and the hosts' image; hosts are added to it. */
  static async create(): Promise<BootedLab> {
    const lab = new BootedLab(assertBootable())
    try {
      await ipBatch(undefined, [
        `link add ${BRIDGE} type bridge`,
        `address add ${GATEWAY}/24 dev ${BRIDGE}`,
        `link set ${BRIDGE} up`,
      ])
      await lab.#install()
      return lab
    } catch (error) {
      await lab.close()
      throw error
    }
  }

  private constructor(readonly prepared: Prepared) {}

  host(number: number): BootedHost {
    const host = this.hosts[number - 1]
    if (host === undefined) throw new Error(`the lab has no node${number}`)
    return host
  }

  /** Boots hosts and waits until they are up. */
  async boot(count: number): Promise<readonly BootedHost[]> {
    const added = Array.from({ length: count }, (_, index) => {
      const number = this.hosts.length + index + 1
      const name = `node${number}`
      return new BootedHost({
        name,
        bridge: BRIDGE,
        directory: join(this.#directory, name),
        layers: [this.#image, this.prepared.rootfs],
        cgroups: this.prepared.cgroups,
        seed: seedOf(name, `192.0.2.${HOST_OFFSET + number}`),
      })
    })
    this.hosts.push(...added)
    await Promise.all(added.map((host) => host.start()))
    await Promise.all(added.map((host) => host.waitBooted()))
    return added
  }

  /** Installs the package as its user would, into a layer that all hosts share. */
  async #install(): Promise<void> {
    const [root, work] = [join(this.#directory, 'install'), join(this.#directory, 'install-work')]
    for (const directory of [root, work, this.#image]) mkdirSync(directory)
    const { deb, rootfs } = this.prepared
    const overlay = `lowerdir=${rootfs},upperdir=${this.#image},workdir=${work}`
    await runOk(['mount', '-t', 'overlay', '-o', overlay, 'overlay', root])
    try {
      copyFileSync(deb, join(root, 'overlayd.deb'))
      await runOk(['chroot', root, 'dpkg', '--install', '/overlayd.deb'], { env: { PATH } })
      rmSync(join(root, 'overlayd.deb'))
    } finally {
      await runOk(['umount', root])
    }
  }

  /** Removes everything. All of it is tried; the first failure is thrown in the end. */
  async close(): Promise<void> {
    const results = await Promise.allSettled(this.hosts.map((host) => host.destroy()))
    await run(['ip', 'link', 'delete', BRIDGE])
    rmSync(this.#directory, { recursive: true, force: true })
    const failed = results.find((result) => result.status === 'rejected')
    if (failed !== undefined) throw failed.reason
  }
}
