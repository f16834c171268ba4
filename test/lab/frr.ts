/** FRR in a namespace: its zebra and bgpd, with files of their own, as Debian's package installs them. */
import { existsSync, mkdirSync, rmSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { inNamespace } from './namespace'
import { LongProcess, run } from './process'
import { Pending, waitFor } from './wait'

/** Where Debian's package frr has its daemons. */
const DAEMONS = '/usr/lib/frr'

/** FRR runs as a user of the group frrvty only. Here root is that user: a sandbox may have no other one. */
const GROUPS = 'root:x:0:\nfrrvty:x:0:root\n'

export class Frr {
  private constructor(
    private readonly sockets: string,
    private readonly zebra: LongProcess,
    private readonly bgpd: LongProcess,
  ) {}

  /**
   * Starts both daemons, and waits until bgpd takes commands.
   * @param directory an existing directory, in which FRR gets one of its own
   * @param config the text of bgpd's configuration
   */
  static async start(namespace: string, directory: string, config: string): Promise<Frr> {
    if (!existsSync(join(DAEMONS, 'bgpd')))
      throw new Error(`${DAEMONS}/bgpd is missing: install the package frr`)
    const sockets = join(directory, `frr-${namespace}`)
    // Of an earlier start.
    rmSync(sockets, { recursive: true, force: true })
    mkdirSync(sockets)
    const api = join(sockets, 'zserv.api')
    const groups = join(sockets, 'group')
    writeFileSync(groups, GROUPS)
    const mount = `mount --bind ${groups} /etc/group && exec "$@"`
    const start = (daemon: 'zebra' | 'bgpd', text: string): LongProcess => {
      const file = join(sockets, `${daemon}.conf`)
      writeFileSync(file, text)
      const common = ['-u', 'root', '-g', 'root', '-P', '0', '--log', 'stdout', '--vty_socket', sockets]
      const files = ['-f', file, '-i', join(sockets, `${daemon}.pid`), '-z', api]
      const command = [
        'unshare',
        '--mount',
        'sh',
        '-c',
        mount,
        'sh',
        join(DAEMONS, daemon),
        ...common,
        ...files,
      ]
      return new LongProcess(`${daemon} in ${namespace}`, inNamespace(namespace, command))
    }
    const zebra = start('zebra', '')
    // bgpd that does not find zebra tries again after 10 s.
    await waitFor(`zebra in ${namespace}`, () => existsSync(api) || new Pending(`there is no ${api}`), {
      context: () => zebra.tail(),
    })
    const frr = new Frr(sockets, zebra, start('bgpd', config))
    try {
      await waitFor(`bgpd in ${namespace}`, async () => frr.#ask('show bgp summary'), {
        context: () => `${frr.zebra.tail()}\n${frr.bgpd.tail()}`,
      })
      return frr
    } catch (error) {
      await frr.stop()
      throw error
    }
  }

  /** The output of a command of vtysh. */
  async ask(command: string): Promise<string> {
    const answer = await this.#ask(command)
    if (answer instanceof Pending) throw new Error(`vtysh -c '${command}': ${answer.seen}`)
    return answer
  }

  async #ask(command: string): Promise<string | Pending> {
    const { code, stdout, stderr } = await run(['vtysh', '--vty_socket', this.sockets, '-c', command])
    return code === 0 ? stdout : new Pending(`exit code ${code}: ${stderr}${stdout}`)
  }

  async stop(): Promise<void> {
    for (const daemon of [this.bgpd, this.zebra]) await daemon.stop()
  }
}
