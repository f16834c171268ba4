import type { FirewallListing, FirewallTable } from '../../../src/model/firewall'
import { diffFirewall, dockerRules } from '../../../src/plan/firewall'
import { net } from './support'

const rules = dockerRules('flannel.1', net('10.5.0.0/16'))

const RAW = '-A PREROUTING -s 10.5.0.0/16 -i flannel.1 -m comment --comment overlayd -j ACCEPT'
const IN = '-A DOCKER-USER -s 10.5.0.0/16 -i flannel.1 -m comment --comment overlayd -j ACCEPT'
const OUT = '-A DOCKER-USER -d 10.5.0.0/16 -o flannel.1 -m comment --comment overlayd -j ACCEPT'
const DOCKERS_DROP = '-A PREROUTING -d 10.5.1.2/32 ! -i docker0 -j DROP'
const BUILT_IN = ['-P INPUT ACCEPT', '-P FORWARD DROP', '-P OUTPUT ACCEPT']

const listing = (raw: string[], filter: string[]): FirewallListing =>
  new Map<FirewallTable, string[]>([
    ['raw', ['-P PREROUTING ACCEPT', '-P OUTPUT ACCEPT', ...raw]],
    ['filter', [...BUILT_IN, ...filter]],
  ])
const diff = (observed: FirewallListing) =>
  diffFirewall('flannel.1', rules, observed).map((command) => command.join(' '))

test('on a fresh host, before Docker, its chain is made and filled', () => {
  expect(diff(listing([], []))).toEqual([
    `-t raw ${RAW.replace('-A', '-I')}`,
    '-t filter -N DOCKER-USER',
    `-t filter ${IN.replace('-A', '-I')}`,
    `-t filter ${OUT.replace('-A', '-I')}`,
  ])
})

test('what is in force is left alone, whatever Docker and others have beside it', () => {
  const filter = [
    '-N DOCKER',
    '-N DOCKER-USER',
    '-A FORWARD -j DOCKER-USER',
    '-A DOCKER-USER -s 192.0.2.1/32 -j DROP',
    OUT,
    IN,
  ]
  expect(diff(listing([RAW, DOCKERS_DROP], filter))).toEqual([])
})

test('a rule behind a drop of raw PREROUTING is moved to the head', () => {
  expect(diff(listing([DOCKERS_DROP, RAW], ['-N DOCKER-USER', IN, OUT]))).toEqual([
    `-t raw ${RAW.replace('-A', '-D')}`,
    `-t raw ${RAW.replace('-A', '-I')}`,
  ])
})

test('ours of an earlier network go, and those that are there twice', () => {
  const old = IN.replace('10.5', '10.9')
  expect(diff(listing([RAW], ['-N DOCKER-USER', IN, OUT, old, IN]))).toEqual([
    `-t filter ${old.replace('-A', '-D')}`,
    `-t filter ${IN.replace('-A', '-D')}`,
  ])
})

test('another network’s rules, on its own device, are not touched', () => {
  const others = [IN, OUT].map((line) => line.replace('flannel.1', 'flannel.7'))
  expect(diff(listing([RAW], ['-N DOCKER-USER', ...others, IN, OUT]))).toEqual([])
})
