import { rendezvousScore } from '../../../../src/plan/probing/rendezvous'

const HOSTS = 300
const SUBNETS = Array.from({ length: HOSTS + 1 }, (_, i) => `10.${i >> 8}.${i & 255}.0/24`)

/** The score of each host with each. */
const SCORES = SUBNETS.map((own) => SUBNETS.map((subnet) => rendezvousScore(own, subnet)))

/** The four hosts, of the first so many, that a host watches. */
const watchedBy = (own: number, hosts: number): number[] =>
  [...Array(hosts).keys()]
    .filter((i) => i !== own)
    .sort((a, b) => (SCORES[own]?.[b] ?? 0) - (SCORES[own]?.[a] ?? 0))
    .slice(0, 4)

test('of many hosts that watch four each, few are watched by none, and none by very many', () => {
  const watchers = new Array<number>(HOSTS).fill(0)
  for (let own = 0; own < HOSTS; own += 1)
    for (const peer of watchedBy(own, HOSTS)) watchers[peer] = (watchers[peer] ?? 0) + 1
  // By pure chance 2 % have no watcher (e^-4), and one in a thousand has more than 11.
  expect(watchers.filter((count) => count === 0).length).toBeLessThan(HOSTS / 20)
  expect(Math.max(...watchers)).toBeLessThan(17)
})

test('a host that comes changes few watches', () => {
  const changed = [...Array(HOSTS).keys()].filter(
    (own) => watchedBy(own, HOSTS + 1).join() !== watchedBy(own, HOSTS).join(),
  )
  // 4 are expected.
  expect(changed.length).toBeLessThan(15)
})
