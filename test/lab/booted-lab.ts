/**
 * Hosts that boot, on one underlay. Each runs Debian with systemd, is configured by cloud-init from the
 * shipped user-data, and has overlayd installed from its package.
 *
 *   node1 host0 192.0.2.11 ──┐
 *   node2 host0 192.0.2.12 ──┼── bridge `underlay` 192.0.2.1: the test itself
 *   ...                      ┘
 *
 * Works only inside `scripts/hosts/sandbox`. `close()` removes all that the lab has created, also after
 * failures.
 */
import { copyFileSync, mkdirSync, mkdtempSync, readFileSync, rmSync } from 'node:fs'
import { join } from 'node:path'
import { BootedHost, type BootedHostSettings, PATH } from './booted-host'
import { assertSandbox, ipBatch } from './namespace'
import { run, runOk } from './process'

const ROOT = join(__dirname, '../..')
const BRIDGE = 'underlay'
const GATEWAY = '192.0.2.1'
/** The last octet of a host's address is the host's number plus this. */
const HOST_OFFSET = 10

/** Environment prepared by `scripts/hosts/sandbox`. */
interface Prepared {
  /** Path of overlayd's Debian package, built from this tree. */
  readonly deb: string
  /** Directory with the container image and the system extension, as `npm run package` names them. */
  readonly forms: string
  /** Directory with the hosts' root file system. */
  readonly rootfs: string
  /** A control group in each hierarchy, in which the hosts get theirs. */
  readonly cgroups: readonly string[]
}

/** @throws {Error} outside of `scripts/hosts/sandbox`, with the command to use */
export function assertBootable(): Prepared {
  const { OVERLAYD_DEB: deb, OVERLAYD_FORMS: forms } = process.env
  const { OVERLAYD_ROOTFS: rootfs, OVERLAYD_CGROUPS: cgroups } = process.env
  if (deb === undefined || forms === undefined || rootfs === undefined || cgroups === undefined) {
    throw new Error('this boots hosts: run it as root, as `scripts/hosts/sandbox COMMAND ...`')
  }
  assertSandbox()
  return { deb, forms, rootfs, cgroups: cgroups.split(' ').filter((cgroup) => cgroup !== '') }
}

/** The files of the shipped cloud-config, with name and address of this host: file name -> content. */
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
  /** Layer with the files that installing the package adds to the root file system. */
  readonly #image = join(this.#directory, 'image')

  /**
   * Creates the underlay and installs the package. {@link boot} adds hosts.
   * @param install whether the hosts have the package
   */
  static async create({ install = true } = {}): Promise<BootedLab> {
    const lab = new BootedLab(assertBootable())
    try {
      await ipBatch(undefined, [
        `link add ${BRIDGE} type bridge`,
        `address add ${GATEWAY}/24 dev ${BRIDGE}`,
        `link set ${BRIDGE} up`,
      ])
      mkdirSync(lab.#image)
      if (install) await lab.#install()
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

  /**
   * Boots `count` hosts and waits until they have booted.
   * @param special settings other than those of a usual host
   */
  async boot(
    count: number,
    special: Partial<Pick<BootedHostSettings, 'prepare' | 'readOnlyUsr'>> & {
      /** Instead of the shipped user-data of cloud-init. */
      readonly userData?: string
    } = {},
  ): Promise<readonly BootedHost[]> {
    const { userData, ...settings } = special
    const added = Array.from({ length: count }, (_, index) => {
      const number = this.hosts.length + index + 1
      const name = `node${number}`
      const address = `192.0.2.${HOST_OFFSET + number}`
      return new BootedHost({
        name,
        address,
        bridge: BRIDGE,
        directory: join(this.#directory, name),
        layers: [this.#image, this.prepared.rootfs],
        cgroups: this.prepared.cgroups,
        seed: { ...seedOf(name, address), ...(userData === undefined ? {} : { 'user-data': userData }) },
        ...settings,
      })
    })
    this.hosts.push(...added)
    await Promise.all(added.map((host) => host.start()))
    await Promise.all(added.map((host) => host.waitBooted()))
    return added
  }

  /** Installs the package by dpkg into a layer that all hosts share. */
  async #install(): Promise<void> {
    const [root, work] = [join(this.#directory, 'install'), join(this.#directory, 'install-work')]
    for (const directory of [root, work]) mkdirSync(directory)
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

  /** Removes everything. A failed step does not stop the others. @throws the first failure, at the end */
  async close(): Promise<void> {
    const results = await Promise.allSettled(this.hosts.map((host) => host.destroy()))
    await run(['ip', 'link', 'delete', BRIDGE])
    rmSync(this.#directory, { recursive: true, force: true })
    const failed = results.find((result) => result.status === 'rejected')
    if (failed !== undefined) throw failed.reason
  }
}
