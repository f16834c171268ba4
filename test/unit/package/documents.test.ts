import { bashCompletion, defaultsFile, manPage, zshCompletion } from '../../../scripts/package/documents'
import { parseHelp } from '../../../scripts/package/help'

const own = parseHelp(
  `tool: does things.

Options:
  --help      print this help
  --run-dir   where it runs (default: /run/tool)      [string]
  --iface     interface (default: that of the route)  [array]
  --if-wanted only if                                 [boolean]`,
  'tool',
)
const helps = new Map([['tool', own]])

test('/etc/default has each option as a comment with its default, and no default that is words', () => {
  expect(defaultsFile(own)).toMatch(/\n# where it runs\n#FLANNELD_RUN_DIR=\/run\/tool\n/)
  expect(defaultsFile(own)).toMatch(/\n# interface \(default: that of the route\)\n#FLANNELD_IFACE=\n/)
  expect(defaultsFile(own)).not.toContain('HELP')
  expect(
    defaultsFile(own)
      .split('\n')
      .filter((line) => line !== '' && !line.startsWith('#')),
  ).toEqual([])
})

test('a man page names each option, with its dashes as dashes', () => {
  const page = manPage(helps, {
    name: 'tool',
    summary: 'does',
    version: '1',
    date: '2026-01-31',
    sections: '',
  })
  expect(page).toContain('\\fB\\-\\-run\\-dir\\fR \\fIvalue\\fR\nwhere it runs')
  expect(page).toContain('\\fB\\-\\-if\\-wanted\\fR\nonly if')
})

test('completions offer the flags', () => {
  expect(bashCompletion('tool', helps)).toContain("'tool') words='--help --run-dir --iface --if-wanted'")
  expect(zshCompletion('tool', helps)).toContain(
    "'--run-dir=[where it runs (default  /run/tool)]:value:_files'",
  )
})
