/**
 * Sends a request to the kept demo of this sandbox and prints the answer. Ends with exit code 1 if the answer
 * is a failure.
 *
 *   demo-client.ts add | status
 *   demo-client.ts command | shell NAME DIRECTORY TERMINAL
 *                       prints the words of a command, each followed by NUL
 */
import { get } from 'node:http'
import { stripVTControlCharacters } from 'node:util'
import { OUTCOME, SOCKET } from './demo-server'

const [verb = '', name = '', directory = '', terminal = ''] = process.argv.slice(2)
const colour = process.env['OVERLAYD_DEMO_COLOUR'] === '1'

const place = { name, directory, terminal, shell: verb === 'shell' ? 'yes' : 'no' }
const enters = verb === 'shell' || verb === 'command'
const path = enters ? `/enter?${new URLSearchParams(place)}` : `/${verb}`

function fail(text: string): void {
  process.stderr.write(`demo: ${text.trimEnd()}\n`)
  process.exitCode = 1
}

get({ socketPath: SOCKET, path, agent: false }, (response) => {
  let refusal = ''
  response.setEncoding('utf8')
  response.on('data', (text: string) => {
    if (response.statusCode !== 200) refusal += text
    else process.stdout.write(colour || enters ? text : stripVTControlCharacters(text))
  })
  response.on('error', (error) => fail(`the connection to the demo broke: ${error.message}`))
  response.on('end', () => {
    if (response.statusCode !== 200) fail(refusal)
    else if (response.trailers[OUTCOME] === 'failed') process.exitCode = 1
  })
}).on('error', (error) =>
  fail(`the kept demo does not answer (${error.message}): ./scripts/demo stop ends it`),
)
