/**
 * Installed programs that find others by multicast. The programs run in Docker containers on booted hosts,
 * and find each other across hosts.
 */
import type { BootedContainer, BootedHost } from '../lab/booted-host'
import { assertBootable, BootedLab } from '../lab/booted-lab'
import { patient } from '../lab/patience'
import { Pending } from '../lab/wait'

assertBootable()
jest.setTimeout(patient(120_000))

const CONFIG = '{"Network":"10.5.0.0/16","Backend":{"Type":"vxlan","Multicast":true}}'
/** Milliseconds that a program may take until others have heard an announcement. */
const PATIENCE_MS = 30_000

let lab: BootedLab

beforeAll(async () => {
  lab = await BootedLab.create()
  try {
    await lab.boot(2)
    await lab.host(1).exec('overlayctl', 'config', 'set', CONFIG)
    for (const host of lab.hosts) {
      await host.waitFor('to exchange multicast with the other', async () => {
        const { stdout, stderr } = await host.run('overlayctl', 'status')
        return stdout.includes('to 1 host') || new Pending(stdout + stderr)
      })
    }
  } catch (error) {
    // No afterAll after this.
    await lab.close()
    throw error
  }
})
afterAll(async () => {
  await lab?.close()
})

/** A service file of avahi. */
const PRINTER = `<service-group><name>printer</name><service><type>_ipp._tcp</type><port>631</port><txt-record>room=5</txt-record></service></service-group>`

const AVAHI = `
mkdir /run/avahi
printf '%s' '${PRINTER}' >/etc/avahi/services/printer.service
printf '[server]\\nhost-name=printer\\nenable-dbus=no\\n' >/run/avahi/avahi.conf
exec avahi-daemon --no-drop-root --no-chroot --file=/run/avahi/avahi.conf`

/** Announces a service, and prints address and text of each service of a type that it finds. */
const ZEROCONF = (name: string, browsed: string) => `exec python3 -u -c '
import socket, sys, time
from zeroconf import ServiceBrowser, ServiceInfo, Zeroconf
class Listener:
    def add_service(self, zeroconf, kind, name):
        info = zeroconf.get_service_info(kind, name, ${patient(10_000)})
        if info: print("found", name, *info.parsed_addresses(), info.port, info.properties)
    update_service = remove_service = lambda *_: None
probe = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
probe.connect(("192.0.2.1", 9))
own = probe.getsockname()[0]
zeroconf = Zeroconf()
zeroconf.register_service(ServiceInfo("_http._tcp.local.", "${name}._http._tcp.local.", 80, addresses=[socket.inet_aton(own)], server="${name}.local."))
print("registered", own)
browser = ServiceBrowser(zeroconf, "${browsed}", Listener())
time.sleep(1000000)
'`

test('mDNS: services are found and resolved on the other host, of avahi and of zeroconf', async () => {
  const [one, two] = [lab.host(1), lab.host(2)]
  const printer = await one.startProgram('printer', AVAHI, ['/etc/avahi/services'])
  const web = await two.startProgram('web', ZEROCONF('web', '_ipp._tcp.local.'))
  await one.startProgram('other', ZEROCONF('other', '_http._tcp.local.'))
  const said = ({ address }: BootedContainer, rest: string) =>
    new RegExp(`${address.replaceAll('.', '\\.')} ${rest}`)
  await two.waitForOutput('web', said(printer, '631 .*room'), PATIENCE_MS)
  await one.waitForOutput('other', said(web, '80 '), PATIENCE_MS)
})

/** The name of a UFTP client, which is its address. */
const uftpId = ({ address }: BootedContainer): string =>
  `0x${address
    .split('.')
    .map((octet) => Number(octet).toString(16).padStart(2, '0').toUpperCase())
    .join('')}`

test('UFTP: a sender finds unknown listeners on both hosts, and all get the whole file', async () => {
  const receivers: BootedContainer[] = []
  for (const host of lab.hosts) {
    receivers.push(await host.startProgram('receiver', 'mkdir /run/in && exec uftpd -d -I eth0 -D /run/in'))
  }
  // Both ends give one another up after some round trips, which a busy machine makes longer than they look.
  const trip = patient(250) / 1000
  const send = `uftp -q -I eth0 -R 50000 -r ${trip}:${trip}:${2 * trip} -s 10 -S /run/status /bin/busybox && cat /run/status`
  const report = (await lab.host(1).runProgram(send)).split('\n')
  const found = report.filter((line) => line.startsWith('CONNECT;success;'))
  expect(found.sort()).toEqual(receivers.map((each) => `CONNECT;success;${uftpId(each)}`).sort())
  const sum = async (host: BootedHost, path: string) => {
    return (await host.exec('docker', 'exec', 'receiver', '/bin/busybox', 'sha256sum', path)).split(' ')[0]
  }
  for (const host of lab.hosts)
    expect(await sum(host, '/host/run/in/busybox')).toBe(await sum(host, '/bin/busybox'))
})
