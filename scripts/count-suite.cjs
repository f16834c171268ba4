/**
 * Counts the tests of a suite, for scripts/test: prints `PASSED FAILED`, and appends the failures to a file,
 * so that scripts/test can repeat them at its end.
 *
 *   node scripts/count-suite.cjs NAME REPORT STATUS FAILURES
 *
 *   NAME      name of the suite, for a failure that belongs to no test
 *   REPORT    results as jest writes them with --json; a file that is missing or broken counts as a failure
 *   STATUS    exit code of the suite: another one than 0 is a failure, also if no test has failed
 *   FAILURES  file that the failures are appended to
 */
const { appendFileSync, readFileSync } = require('node:fs')
const { relative } = require('node:path')
const { stripVTControlCharacters } = require('node:util')

/** Lines of a message that are repeated. The whole message is in the suite's output. */
const MOST_LINES = 6

const [name, report, status, failures] = process.argv.slice(2)

/** A failure: its title, and the first lines of its message without those of the stack. */
function told(title, message = '') {
  const lines = stripVTControlCharacters(message)
    .split('\n')
    .filter((line) => line.trim() !== '' && !/^\s+at /.test(line))
  const shown = lines.slice(0, MOST_LINES).map((line) => `      ${line.trim()}\n`)
  return `  ${title}\n${shown.join('')}`
}

function read() {
  const { numPassedTests, numFailedTests, numRuntimeErrorTestSuites, testResults } = JSON.parse(
    readFileSync(report, 'utf8'),
  )
  const found = testResults.flatMap(({ name: path, message, assertionResults }) => {
    const file = relative(process.cwd(), path)
    const failed = assertionResults.filter((test) => test.status === 'failed')
    if (failed.length === 0) return message === '' ? [] : [told(file, message)]
    return failed.map(({ ancestorTitles, title, failureMessages }) =>
      told([file, ...ancestorTitles, title].join(' › '), failureMessages[0]),
    )
  })
  return { passed: numPassedTests, failed: numFailedTests + numRuntimeErrorTestSuites, found }
}

function count() {
  const failure = (problem, passed) => ({
    passed,
    failed: 1,
    found: [told(`${name}: exit code ${status}, and ${problem}`)],
  })
  try {
    const counted = read()
    const isSilent = counted.failed === 0 && status !== '0'
    return isSilent ? failure('no test has failed', counted.passed) : counted
  } catch (error) {
    return failure(`no results: ${error.message}`, 0)
  }
}

const { passed, failed, found } = count()
appendFileSync(failures, found.join(''))
process.stdout.write(`${passed} ${failed}\n`)
