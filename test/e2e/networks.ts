/**
 * Networks of Docker beside docker0, made by compose: two projects on two hosts, on hosts that other tests
 * have booted. Docker's version decides what each network has to be told.
 */
import { type Prefix, parseIpv4, parseIpv4Prefix, prefixContains } from '../../src/model/address'
import type { BootedContainer, BootedHost } from '../lab/booted-host'
import type { BootedLab } from '../lab/booted-lab'
import { exec } from '../lab/namespace'
import { patient, patientSeconds } from '../lab/patience'
import { ping } from '../lab/ping'
import { LongProcess } from '../lab/process'
import { Pending } from '../lab/wait'

const PROJECTS = ['web', 'shop'] as const
/** The test's own end of the underlay, which has no route to the overlay. */
const OUTSIDE = '192.0.2.1'

/** The address from which a container sees a connection of another one. */
async function sourceSeen(from: BootedContainer, to: BootedContainer): Promise<string> {
  const program = `
    const server = require('node:net').createServer((socket) => socket.end(socket.remoteAddress + '\\n'))
    server.listen(8081, '0.0.0.0', () => console.log('listening'))`
  const command = ['nsenter', `--net=/run/netns/${to.namespace}`, process.execPath, '-e', program] as const
  const server = new LongProcess('TCP server', [...command])
  try {
    await server.waitForOutput(/listening/)
    const connect = `require('node:net').connect(8081, '${to.address}').pipe(process.stdout)`
    return (await exec(from.namespace, [process.execPath, '-e', connect])).stdout.trim()
  } finally {
    await server.stop()
  }
}

/** The codes of what the doctor finds. */
async function findings(host: BootedHost): Promise<string[]> {
  const { stdout } = await host.run('overlayctl', 'doctor', '--only=bridge,docker,firewall', '-o', 'json')
  return Array.from(stdout.matchAll(/"code": ?"([\w-]+)"/g), ([, code = '']) => code)
}

/** @param containers the containers on docker0, by host: they get other addresses */
export function describeNetworks(labOf: () => BootedLab, containers: BootedContainer[]): void {
  describe('a subnet that is shared out', () => {
    /** `web1` is the container of the project web on node1. */
    const members = new Map<string, BootedContainer>()
    const member = (name: string): BootedContainer => {
      const found = members.get(name)
      if (found === undefined) throw new Error(`there is no container ${name}: an earlier test failed`)
      return found
    }
    const hosts = (): readonly BootedHost[] => labOf().hosts.slice(0, 2)
    const received = async (from: string, to: string, count = 5): Promise<number> =>
      (await ping(member(from).namespace, member(to).address, { count })).received

    test('gives docker0 and two projects on each host a part each', async () => {
      await Promise.all(
        hosts().map(async (host, index) => {
          await host.exec('sh', '-c', 'echo DOCKER_NETWORKS=27 >>/etc/default/docker')
          await host.restartDocker()
          const docker0 = await host.container('c1')
          containers[index] = docker0
          members.set(`docker0${index + 1}`, docker0)
          for (const project of PROJECTS) {
            const name = `${project}${index + 1}`
            members.set(name, await host.startProject(project, name))
          }
          const subnet = parseIpv4Prefix((await host.subnetEnv())['FLANNEL_SUBNET'] ?? '')
          const parts = ['docker0', ...PROJECTS].map((each): Prefix => {
            const address = parseIpv4(member(`${each}${index + 1}`).address)
            if (address === undefined || subnet === undefined || !prefixContains(subnet, address))
              throw new Error(`${each}${index + 1} is not on the subnet of node${index + 1}`)
            return { address, length: 27 }
          })
          const [first, second, third] = parts
          expect([first, second].map((part) => part && third && prefixContains(part, third.address))).toEqual(
            [false, false],
          )
        }),
      )
    })

    test.each([
      ['web1', 'web2'],
      ['shop2', 'shop1'],
      ['web1', 'shop2'],
      ['docker01', 'web2'],
      ['shop2', 'docker01'],
    ])('%s reaches %s on the other host, and is seen with its own address', async (from, to) => {
      expect(await received(from, to, 1)).toBe(1)
      expect(await received(from, to)).toBe(5)
      expect(await sourceSeen(member(from), member(to))).toBe(member(from).address)
    })

    test('packets of full size pass, and the outside is reached with the address of the host', async () => {
      for (const name of ['web1', 'shop2']) {
        const { stdout } = await exec(member(name).namespace, ['ip', '-o', 'link', 'show', 'dev', 'eth0'])
        expect(stdout).toContain(' mtu 1450 ')
        expect(await ping(member(name).namespace, OUTSIDE, { count: 5 })).toMatchObject({ received: 5 })
      }
      const full = ['-n', '-c3', '-i0.01', `-W${patientSeconds(2)}`, '-Mdo', '-s1422', member('web2').address]
      expect((await exec(member('web1').namespace, ['ping', ...full])).stdout).toContain(
        ' 3 received, 0% packet loss',
      )
    })

    test('Docker keeps the projects of one host apart, as it means to', async () => {
      expect(await received('web1', 'shop1', 2)).toBe(0)
      expect(await received('web1', 'shop2', 2)).toBe(2)
    })

    test('the doctor has no finding', async () => {
      for (const host of hosts()) expect(await findings(host)).toEqual([])
    })

    test('overlayctl docker-network makes a network that other hosts reach', async () => {
      const [host] = hosts()
      if (host === undefined) throw new Error('there is a host')
      expect(await host.exec('overlayctl', 'docker-network')).toMatch(
        /^docker network create --driver=bridge --subnet=10\.5\.\d+\.96\/27 --gateway=10\.5\.\d+\.97 -o .* overlay\n$/,
      )
      expect(await host.exec('overlayctl', 'docker-network', '--create=extra', '--size=28')).toMatch(
        /^network extra: 10\.5\.\d+\.96\/28\n$/,
      )
      members.set('extra1', await host.startContainer('extra1', 'extra'))
      await host.waitFor('to be reached in the new network', async () =>
        (await received('web2', 'extra1', 1)) === 1 ? true : new Pending('no answer'),
      )
      expect(await received('web2', 'extra1')).toBe(5)
      expect(await sourceSeen(member('extra1'), member('web2'))).toBe(member('extra1').address)
      const again = await host.run('overlayctl', 'docker-network', '--create=extra')
      expect(again).toMatchObject({ code: 1, stderr: expect.stringContaining('already exists') })
      await host.exec('docker', 'rm', '-f', 'extra1')
      await host.exec('docker', 'network', 'rm', 'extra')
    })

    test('the networks of CNI and Podman get parts beside those of Docker, whenever the subnet is written', async () => {
      const [host] = hosts()
      if (host === undefined) throw new Error('there is a host')
      const files = ['/etc/cni/net.d/30-overlayd.conflist', '/etc/containers/networks/overlay.json']
      const units = ['overlayd-cni.path', 'overlayd-podman.path']
      const dropIns = '/run/systemd/system/overlayd-cni.service.d'
      const slow = `${dropIns}/slow.conf`
      const journal = [...units, 'overlayd-cni', 'overlayd-podman'].map((unit) => `--unit=${unit}`)
      const subnet = (await host.subnetEnv())['FLANNEL_SUBNET']?.replace(/1\/24$/, '') ?? ''
      const written = () =>
        host.waitFor('to write the networks', async () => {
          const texts = await Promise.all(files.map(async (file) => (await host.run('cat', file)).stdout))
          const parts = texts.flatMap((text) => /"subnet": "(\S+)"/.exec(text)?.[1] ?? [])
          if (parts.length === 2) return parts.sort()
          const { stdout } = await host.run('journalctl', '--no-pager', '--lines=30', ...journal)
          return new Pending(`${texts.join()}\n${stdout}`)
        })
      const last = [`${subnet}192/27`, `${subnet}224/27`]
      try {
        await host.exec('systemctl', 'enable', '--now', ...units)
        expect(await written()).toEqual(last)
        // overlayd writes its file again.
        await host.exec('rm', ...files, '/run/flannel/subnet.env')
        expect(await written()).toEqual(last)
        // The subnet is written while a service that has read it still starts.
        await host.exec(
          'sh',
          '-c',
          `mkdir ${dropIns} && printf '[Service]\nExecStartPost=sleep 600\n' >${slow}`,
        )
        await host.exec('systemctl', 'daemon-reload')
        for (const _ of ['starts', 'starts still']) {
          await host.exec('rm', ...files)
          await host.exec('touch', '/run/flannel/subnet.env')
          expect(await written()).toEqual(last)
        }
      } finally {
        await host.run('systemctl', 'disable', '--now', ...units)
        await host.run('rm', '-rf', dropIns)
        await host.run('systemctl', 'daemon-reload')
        await host.run('systemctl', 'stop', 'overlayd-cni')
        await host.run('rm', '-f', ...files)
      }
    })

    test('a network that masquerades keeps addresses all the same, and the doctor names what is wrong', async () => {
      const [host] = hosts()
      if (host === undefined) throw new Error('there is a host')
      const masquerading = ['-o', 'com.docker.network.bridge.enable_ip_masquerade=true']
      const large = ['-o', 'com.docker.network.driver.mtu=1500']
      await host.exec('docker', 'network', 'create', ...masquerading, ...large, 'wrong')
      await host.exec('docker', 'network', 'create', '--subnet=172.30.0.0/24', 'outside')
      try {
        // Until overlayd's rule is before that of Docker, there is a third finding.
        await host.waitFor('to have these findings alone', async () => {
          const found = (await findings(host)).join()
          return found === 'docker-network-masquerade,docker-network-mtu' ? true : new Pending(found)
        })
        members.set('wrong1', await host.startContainer('wrong1', 'wrong'))
        await host.startContainer('outside1', 'outside')
        await host.waitFor('to keep the address of the container', async () => {
          const source = await sourceSeen(member('wrong1'), member('web2'))
          return source === member('wrong1').address ? true : new Pending(source)
        })
        expect((await findings(host)).sort()).toEqual([
          'bridge-mtu',
          'docker-network-masquerade',
          'docker-network-outside',
        ])
      } finally {
        await host.run('docker', 'rm', '-f', 'wrong1', 'outside1')
        await host.run('docker', 'network', 'rm', 'wrong', 'outside')
      }
    })

    test('dockerd takes the shares of an IPv6 subnet too', async () => {
      const [host] = hosts()
      if (host === undefined) throw new Error('there is a host')
      // A dockerd beside that of the host, in a network namespace of its own.
      const script = `
        mkdir -p /run/dual && cd /run/dual
        printf 'FLANNEL_SUBNET=10.5.7.1/24\\nFLANNEL_IPV6_SUBNET=fd00:5:0:7::1/64\\nFLANNEL_MTU=1450\\nFLANNEL_IPMASQ=true\\n' >subnet.env
        overlayctl docker-opts -c -k OPTS -f subnet.env -d options.env --networks=27 2>/dev/null && . ./options.env
        echo '{}' >daemon.json
        unshare --net dockerd --config-file daemon.json -H unix:///run/dual/docker.sock --data-root /run/dual/data \\
          --exec-root /run/dual/exec --pidfile /run/dual/docker.pid --iptables=false $OPTS >log 2>&1 &
        trap 'kill $!; wait $!' EXIT
        tries=0
        until docker -H unix:///run/dual/docker.sock version >/dev/null 2>&1; do
          tries=$((tries + 1)); test $tries -lt ${patient(300)} || { cat log >&2; exit 1; }; kill -0 $! || { cat log >&2; exit 1; }; sleep 0.1
        done
        docker -H unix:///run/dual/docker.sock network create --ipv6 six >/dev/null
        for network in bridge six; do
          docker -H unix:///run/dual/docker.sock network inspect --format '{{range .IPAM.Config}}{{.Subnet}} {{end}}' $network
        done`
      expect(await host.exec('sh', '-e', '-c', script)).toBe(
        '10.5.7.0/27 fd00:5:0:7::/67 \n10.5.7.32/27 fd00:5:0:7:2000::/67 \n',
      )
    })

    test('a restart of Docker brings all networks back', async () => {
      const [first, second] = hosts()
      if (first === undefined || second === undefined) throw new Error('there are hosts')
      await Promise.all([first, second].map((host) => host.restartDocker()))
      for (const [index, host] of [first, second].entries()) {
        containers[index] = await host.container('c1')
        for (const project of PROJECTS) {
          const name = `${project}${index + 1}`
          members.set(name, await host.container(name))
        }
      }
      await first.waitFor('to reach the other host', async () =>
        (await received('web1', 'web2', 1)) === 1 ? true : new Pending('no answer'),
      )
      expect(await received('web1', 'web2')).toBe(5)
      expect(await received('shop2', 'web1')).toBe(5)
      expect(await sourceSeen(member('shop1'), member('shop2'))).toBe(member('shop1').address)
    })

    test('a project that goes down gives its part back, and comes up again on it', async () => {
      const [host] = hosts()
      if (host === undefined) throw new Error('there is a host')
      const networks = async () =>
        (await host.exec('docker', 'network', 'ls', '--format={{.Name}}')).trim().split('\n').sort()
      const before = await networks()
      await host.stopProject('web')
      expect(await networks()).not.toContain('web_default')
      const { address } = member('web1')
      members.set('web1', await host.startProject('web', 'web1'))
      expect(member('web1').address).toBe(address)
      expect(await networks()).toEqual(before)
      expect(await received('web2', 'web1')).toBe(5)
    })
  })
}
