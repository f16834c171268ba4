import { parseHelp } from '../../../scripts/package/help'

const TEXT = `tool: does things.

Usage: tool <command>

Commands:
  tool set <json>  check it, then write it over
                   what is there
  tool get         print it

Options:
      --help    Show help                              [boolean]
  -o, --output  text for people, json for programs
                     [choices: "text", "json"] [default: "text"]
  -v            verbosity (default: 0)                  [string]

Examples:
  tool set -        from standard input
  tool get | jq .a  for a program, or
                    someone else

The last words.
Really.
`

test('commands, options and paragraphs are found, and rows that go on are joined', () => {
  expect(parseHelp(TEXT, 'tool')).toEqual({
    intro: ['tool: does things.', 'Usage: tool <command>'],
    commands: [
      { name: 'set', args: '<json>', describe: 'check it, then write it over what is there' },
      { name: 'get', args: '', describe: 'print it' },
    ],
    options: [
      { flags: ['--help'], describe: 'Show help', choices: [], takesValue: false },
      {
        flags: ['-o', '--output'],
        describe: 'text for people, json for programs (default: text)',
        choices: ['text', 'json'],
        takesValue: true,
      },
      { flags: ['-v'], describe: 'verbosity (default: 0)', choices: [], takesValue: true },
    ],
    examples: [
      { command: 'tool set -', describe: 'from standard input' },
      { command: 'tool get | jq .a', describe: 'for a program, or someone else' },
    ],
    outro: ['The last words. Really.'],
  })
})

test('a row that is no option is an error, not a man page with a hole', () => {
  expect(() => parseHelp('Options:\n  something else', 'tool')).toThrow('something else')
})

test('options under headings of their own are options too', () => {
  const help = parseHelp(
    'tool: x\n\netcd:\n  --a  one  [string]\n\nThe end:\nreally.\n\nHealth:\n  -v  two',
    'tool',
  )
  expect(help.options.map(({ flags }) => flags)).toEqual([['--a'], ['-v']])
  expect(help.outro).toEqual(['The end: really.'])
})
