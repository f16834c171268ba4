/** scripts/test counts what suites report, and repeats the failures at its end. */
import { execFileSync } from 'node:child_process'
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join, resolve } from 'node:path'

const ROOT = resolve(__dirname, '../../..')

const directories: string[] = []
afterEach(() => {
  for (const directory of directories.splice(0)) rmSync(directory, { recursive: true })
})

/** @param report content of the report's file; there is none without it */
function count(report: unknown, status = '0'): { printed: string; failures: string } {
  const directory = mkdtempSync(join(tmpdir(), 'overlayd-count-'))
  directories.push(directory)
  const [file, failures] = [join(directory, 'suite.json'), join(directory, 'failures')]
  if (report !== undefined) writeFileSync(file, JSON.stringify(report))
  writeFileSync(failures, '  lint\n')
  const command = ['scripts/count-suite.cjs', 'guest-1', file, status, failures]
  const printed = execFileSync(process.execPath, command, { cwd: ROOT, encoding: 'utf8' })
  return { printed, failures: readFileSync(failures, 'utf8') }
}

const passed = { status: 'passed', ancestorTitles: [], title: 'good', failureMessages: [] }

test('a suite without a failure adds nothing', () => {
  const testResults = [{ name: join(ROOT, 'test/a.test.ts'), message: '', assertionResults: [passed] }]
  const report = { numPassedTests: 1, numFailedTests: 0, numRuntimeErrorTestSuites: 0, testResults }
  expect(count(report)).toEqual({ printed: '1 0\n', failures: '  lint\n' })
})

test('failed tests are named by file and titles, with the first lines of the first message', () => {
  const failureMessages = [
    'Error: \u001b[31mexpect\u001b[39m(1).toBe(2)\n\nExpected: 2\n    at Object.toBe (a.ts:1)\n',
    'x',
  ]
  const failed = { status: 'failed', ancestorTitles: ['a peer'], title: 'goes', failureMessages }
  const testResults = [
    { name: join(ROOT, 'test/a.test.ts'), message: '● a peer › goes', assertionResults: [passed, failed] },
    { name: 'test/guest/b.test.ts', message: 'no such module', assertionResults: [] },
  ]
  const report = { numPassedTests: 1, numFailedTests: 1, numRuntimeErrorTestSuites: 1, testResults }
  expect(count(report, '1')).toEqual({
    printed: '1 2\n',
    failures:
      '  lint\n' +
      '  test/a.test.ts › a peer › goes\n      Error: expect(1).toBe(2)\n      Expected: 2\n' +
      '  test/guest/b.test.ts\n      no such module\n',
  })
})

test('a suite that ended otherwise, or left no report, has failed', () => {
  const report = { numPassedTests: 3, numFailedTests: 0, numRuntimeErrorTestSuites: 0, testResults: [] }
  expect(count(report, '124')).toEqual({
    printed: '3 1\n',
    failures: '  lint\n  guest-1: exit code 124, and no test has failed\n',
  })
  const { printed, failures } = count(undefined, '1')
  expect(printed).toBe('0 1\n')
  expect(failures).toMatch(/^ {2}lint\n {2}guest-1: exit code 1, and no results: ENOENT/)
})

test('a report of another form has failed, whatever the exit code', () => {
  expect(count({ numPassedTests: 3 }).printed).toBe('0 1\n')
})
