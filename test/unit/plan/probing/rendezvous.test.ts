import { rendezvousScore } from '../../../../src/plan/probing/rendezvous'

const HOSTS = 300
const SUBNETS = Array.from({ length: HOSTS + 1 }, (_, i) => `10.${i >> 8}.${i & 255}.0/24`)

/** The four hosts, of the first so many, that a host watches. */
function watchedBy(own: string, hosts: number): number[] {
  const scored = SUBNETS.slice(0, hosts).map((subnet, i) => ({ i, score: rendezvousScore(own, subnet) }))
  return scored
    .filter(({ i }) => SUBNETS[i] !== own)
    .sort((a, b) => b.score - a.score)
    .slice(0, 4)
    .map(({ i }) => i)
}

test('of many hosts that watch four each, few are watched by none, and none by very many', () => {
  const watchers = new Array<number>(HOSTS).fill(0)
  for (const own of SUBNETS.slice(0, HOSTS))
    for (const peer of watchedBy(own, HOSTS)) watchers[peer] = (watchers[peer] ?? 0) + 1
  // By pure chance 2 % have no watcher (e^-4), and one in a thousand has more than 11.
  expect(watchers.filter((count) => count === 0).length).toBeLessThan(HOSTS / 20)
  expect(Math.max(...watchers)).toBeLessThan(17)
})

test('a host that comes changes few watches', () => {
  const changed = SUBNETS.slice(0, HOSTS).filter(
    (own) => watchedBy(own, HOSTS + 1).join() !== watchedBy(own, HOSTS).join(),
  )
  // 4 are expected.
  expect(changed.length).toBeLessThan(15)
})
