/** Faults of the daemon's files. */
import { anyHost, fault, of } from '../fault'
import type { Site } from '../site'

const disk = (site: Site, host: number): string => site.host(host).stateDirectory
const state = (site: Site, host: number): string => site.stateDirectory(site.host(host))

export const FILE_FAULTS = [
  fault({
    name: 'state disk full',
    draw: (random, world) => ({ ...anyHost(random, world), restart: random.chance(0.5) }),
    claims: of('state', 'daemon'),
    do: async (site, { host, restart }) => {
      await site.shell(host, `dd if=/dev/zero of=${disk(site, host)}/filler bs=4k 2>/dev/null`)
      if (restart) await site.daemon(host).end('SIGKILL')
    },
    undo: (site, { host }) => site.shell(host, `rm -f ${disk(site, host)}/filler`),
  }),
  fault({
    name: 'state disk read-only',
    draw: (random, world) => ({
      ...anyHost(random, world),
      restart: random.chance(0.5),
      leftover: random.chance(0.5),
    }),
    claims: of('state', 'daemon'),
    do: async (site, { host, restart, leftover }) => {
      if (leftover) await site.shell(host, `touch ${state(site, host)}/.state.json.4711`)
      await site.shell(host, `mount -o remount,ro ${disk(site, host)}`)
      if (restart) await site.daemon(host).end('SIGKILL')
    },
    undo: async (site, { host, leftover }) => {
      await site.shell(host, `mount -o remount,rw ${disk(site, host)}`)
      // Without a restart the file is still there: the daemon removes temporary files only when it starts.
      if (leftover) await site.shell(host, `rm -f ${state(site, host)}/.state.json.4711`)
    },
  }),
  fault({
    name: 'byte of the state file overwritten',
    draw: (random, world) => ({
      ...anyHost(random, world),
      offset: random.integer(0, 1200),
      byte: random.integer(0, 255),
      restart: random.chance(0.8),
    }),
    claims: of('state', 'daemon'),
    do: async (site, { host, offset, byte, restart }) => {
      const octal = byte.toString(8).padStart(3, '0')
      await site.daemon(host).hold('SIGKILL')
      const file = `${state(site, host)}/state.json`
      await site.shell(
        host,
        `printf '\\${octal}' | dd of=${file} bs=1 seek=${offset} conv=notrunc 2>/dev/null`,
      )
      site.daemon(host).release()
      if (restart) await site.daemon(host).end('SIGTERM')
    },
  }),
  fault({
    name: 'subnet.env damaged',
    draw: (random, world) => ({
      ...anyHost(random, world),
      how: random.pick(['emptied', 'deleted', 'garbled', 'unreadable', 'its directory deleted']),
      restart: random.chance(0.3),
    }),
    claims: (parameters) => of('subnet.env', ...(parameters.restart ? ['daemon'] : []))(parameters),
    do: async (site, { host, how, restart }) => {
      const file = site.host(host).subnetFile
      const lines: Readonly<Record<string, string>> = {
        emptied: `: >${file}`,
        deleted: `rm -f ${file}`,
        garbled: `printf 'FLANNEL_SUBNET=\\377' >${file}`,
        unreadable: `chmod 0 ${file}`,
        'its directory deleted': `rm -rf $(dirname ${file})`,
      }
      await site.shell(host, lines[how] ?? '')
      if (restart) await site.daemon(host).end('SIGTERM')
    },
  }),
  fault({
    name: 'temporary files left over',
    draw: (random, world) => ({ ...anyHost(random, world), restart: random.chance(0.5) }),
    claims: of('state', 'daemon', 'subnet.env'),
    do: async (site, { host, restart }) => {
      const file = `${state(site, host)}/.state.json`
      await site.shell(host, `echo x >${file}.4711; ln -s /nowhere ${file}.4712; mkdir -p ${file}.4713`)
      if (restart) await site.daemon(host).end('SIGKILL')
    },
    undo: (site, { host }) => site.shell(host, `rm -rf ${state(site, host)}/.state.json.471?`),
  }),
]
