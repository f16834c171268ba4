import { parseService } from '../../../src/doctor/gather/read-service'

/** As systemd 252 prints it. */
const SHOWN = [
  ...['Id=overlayd.service', 'LoadState=loaded', 'ActiveState=activating', 'SubState=auto-restart'],
  ...['Result=exit-code', 'NRestarts=7', 'MainPID=0', 'ExecMainCode=1', 'ExecMainStatus=2'],
  'ExecMainStartTimestampMonotonic=90000000',
].join('\n')
const parse = (from: string, to: string) => parseService(SHOWN.replace(from, to), 100, undefined)

test('the properties of a unit', () => {
  expect(parseService(SHOWN, 100, 'a line')).toEqual({
    unit: 'overlayd.service',
    state: 'activating (auto-restart)',
    result: 'exit-code',
    ended: 'exit status 2',
    restarts: 7,
    runsSeconds: undefined,
    lastLine: 'a line',
  })
  expect(parse('MainPID=0', 'MainPID=12')).toMatchObject({ runsSeconds: 10 })
  expect(parse('ExecMainCode=1', 'ExecMainCode=2')).toMatchObject({ ended: 'signal 2' })
  expect(parse('ExecMainCode=1', 'ExecMainCode=0')).toMatchObject({ ended: undefined })
})

test('a unit that does not exist, and an answer that is none', () => {
  expect(parse('LoadState=loaded', 'LoadState=not-found')).toBeUndefined()
  expect(parseService('', 100, undefined)).toBeUndefined()
  expect(parse('NRestarts=7', 'NRestarts=[not set]')).toMatchObject({ restarts: 0 })
})
