/** The table of facts, and that only the facts asked for are read. */

import { gatherFacts } from '../../../src/doctor/gather/gather'
import { FACTS } from '../../../src/doctor/gather/sources'
import { type FactName, NOT_ASKED } from '../../../src/judge/facts'
import { parseOptions } from '../../../src/options/schema'

const NAMES = Object.keys(FACTS) as FactName[]

test('no fact depends on itself', () => {
  const behind = (name: FactName, path: readonly FactName[] = []): void => {
    expect(path).not.toContain(name)
    const { needs, uses } = FACTS[name]
    for (const next of [...needs, ...uses]) behind(next, [...path, name])
  }
  for (const name of NAMES) behind(name)
})

describe('facts of a host without etcd and without a daemon', () => {
  const options = parseOptions(
    { 'etcd-endpoints': 'http://127.0.0.1:1', 'run-dir': '/nonexistent', 'subnet-file': '/nonexistent/x' },
    {},
  )
  const gather = (...names: FactName[]) => gatherFacts(options, { facts: names, isProbed: () => true })

  test('are read if they are asked for, with the facts that they depend on', async () => {
    const facts = await gather('rpFilter', 'config')
    const asked = NAMES.filter((name) => facts[name].problem?.code !== NOT_ASKED)
    expect(asked.sort()).toEqual(['config', 'etcd', 'rpFilter'])
    expect(facts.rpFilter.value?.size).toBeGreaterThan(0)
  })

  test('are missing for the reason for which the fact they need is missing', async () => {
    const { config, etcd, leaseLife } = await gather('config', 'leaseLife')
    expect(etcd.problem).toMatchObject({ part: 'etcd', code: 'etcd-unreachable' })
    expect([config, leaseLife]).toEqual([etcd, etcd])
  })

  test('have a code for the reason why they are missing', async () => {
    const { daemon, subnetFile, clock } = await gather('daemon', 'subnetFile', 'clock')
    expect([daemon, subnetFile, clock].map(({ problem }) => problem?.code)).toEqual([
      'daemon-down',
      'ENOENT',
      'needless',
    ])
  })
})
