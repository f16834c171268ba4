import {
  bashCompletion,
  defaultsFile,
  fishCompletion,
  manPage,
  zshCompletion,
} from '../../../scripts/package/documents'
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

test('a man page has the examples of each command', () => {
  const set = parseHelp(
    'tool set\n\nsets\n\nOptions:\n  -o  how  [string] [choices: "a", "b"]\n\nExamples:\n  tool set -o a  it\'s the first',
    'tool set',
  )
  const all = new Map([
    ['tool', parseHelp("tool: x\n\nCommands:\n  tool set  it's to set", 'tool')],
    ['tool set', set],
  ])
  const fields = { name: 'tool', summary: 'does', version: '1', date: '2026-01-31', sections: '' }
  expect(manPage(all, fields)).toContain(".PP\nExample:\n.TP\n\\fBtool set \\-o a\\fR\nit's the first")
  const fish = fishCompletion('tool', all)
  expect(fish).toContain("complete -c tool -n \"__tool_at 'tool'\" -f -a 'set' -d 'it\\'s to set'")
  expect(fish).toContain("complete -c tool -n \"__tool_at 'tool set'\" -s o -x -a 'a b' -d 'how'")
  expect(fish).toContain("case 'tool' 'tool set'")
})

test('completions offer the flags', () => {
  expect(bashCompletion('tool', helps)).toContain("'tool') words='--help --run-dir --iface --if-wanted'")
  expect(zshCompletion('tool', helps)).toContain(
    "'--run-dir=[where it runs (default  /run/tool)]:value:_files'",
  )
  expect(fishCompletion('tool', helps)).toContain(
    "complete -c tool -n \"__tool_at 'tool'\" -l run-dir -r -F -d 'where it runs (default: /run/tool)'",
  )
})
