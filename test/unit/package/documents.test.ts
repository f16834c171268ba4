import {
  commandSections,
  completion,
  defaultsFile,
  flagRows,
  installedPage,
  manPage,
} from '../../../scripts/package/documents'
import { bashCompletion, fishCompletion, optionsOf, zshCompletion } from '../../../src/cli/completion'
import { verb } from '../../../src/cli/verb'
import { VERBS } from '../../../src/cli/verbs'
import { documentedOptions } from '../../../src/options/documented'

const OPTIONS = {
  help: { type: 'boolean', describe: 'print this help' },
  'run-dir': { type: 'string', default: '/run/tool', describe: "where it's run" },
  output: { alias: 'o', choices: ['a', 'b'], describe: 'how' },
  c: { type: 'boolean', default: false, describe: 'only if' },
} as const

const tool = new Map([
  [
    'tool',
    { commands: [{ name: 'set', describe: "it's to set" }], options: optionsOf({ help: OPTIONS.help }) },
  ],
  ['tool set', { commands: [], options: optionsOf(OPTIONS) }],
])

const PAGE = { version: '1', date: '2026-01-31', sections: '.SH SEE ALSO' }

test('/etc/default has each option as a comment, with its default unless that is a description', () => {
  const text = defaultsFile()
  expect(text).toContain(
    '\n# file that tells Docker and CNI the subnet\n#FLANNELD_SUBNET_FILE=/run/flannel/subnet.env\n',
  )
  expect(text).toContain("(default: the default route's)\n#FLANNELD_IFACE=\n")
  expect(text).toContain('\n#FLANNELD_IP_FORWARD=true\n')
  expect(text).not.toMatch(/HELP|VERSION/)
  expect(text.split('\n').filter((line) => line !== '' && !line.startsWith('#'))).toEqual([])
})

test('a man page has each flag with real dashes, value, choices and default', () => {
  expect(flagRows(OPTIONS)).toEqual([
    ...['.TP', '\\fB\\-\\-run\\-dir\\fR \\fIvalue\\fR', "where it's run (default: /run/tool)"],
    ...['.TP', '\\fB\\-o\\fR, \\fB\\-\\-output\\fR \\fIvalue\\fR', 'a or b: how'],
    ...['.TP', '\\fB\\-c\\fR', 'only if'],
  ])
})

test('text that roff would interpret is escaped', () => {
  const odd = verb({ path: 'odd', describe: ".SH 'x' \\", examples: [['odd', "'tis"]], run: async () => 0 })
  const text = commandSections([odd]).join('\n')
  expect(text).toContain(
    ".SS overlayctl odd\n\\&.SH 'x' \\e\n.PP\nExample:\n.TP\n\\fBoverlayctl odd\\fR\n\\&'tis",
  )
})

test('the man page of the daemon has every option, that of overlayctl every command and example', () => {
  const roff = (text: string): string => text.replaceAll('-', '\\-')
  const daemon = manPage('overlayd', PAGE)
  for (const { name, description } of documentedOptions()) {
    if (name === 'help' || name === 'version') continue
    expect(daemon).toContain(`\\fB${roff(name.length === 1 ? `-${name}` : `--${name}`)}\\fR`)
    expect(daemon).toContain(roff(description))
  }
  const operator = manPage('overlayctl', PAGE)
  for (const { path, examples } of VERBS) {
    expect(operator).toContain(`\n.SS overlayctl ${roff(path)}`)
    for (const [line, purpose] of examples)
      expect(operator).toContain(`\\fBoverlayctl ${roff(line)}\\fR\n${roff(purpose)}`)
  }
  expect(operator).toMatch(/^\.TH OVERLAYCTL 8 "2026-01-31" "overlayd 1"/)
  expect(operator).toMatch(/\n\.SH SEE ALSO\n$/)
})

test('completions contain commands and flags', () => {
  expect(bashCompletion('tool', tool)).toContain("'tool set') words='--help --run-dir -o --output -c'")
  expect(zshCompletion('tool', tool)).toContain(`'--run-dir=[where it'\\''s run]:value:_files'`)
  const fish = fishCompletion('tool', tool)
  expect(fish).toContain("complete -c tool -n \"__tool_at 'tool'\" -f -a 'set' -d 'it\\'s to set'")
  expect(fish).toContain(
    "complete -c tool -n \"__tool_at 'tool set'\" -l run-dir -r -F -d 'where it\\'s run'",
  )
  expect(fish).toContain("complete -c tool -n \"__tool_at 'tool set'\" -s o -l output -x -a 'a b' -d 'how'")
  expect(fish).toContain("case 'tool' 'tool set'")
})

test('the completion of the daemon contains every option', () => {
  const offered = /'overlayd'\) words='([^']*)'/.exec(completion('bash', 'overlayd'))?.[1]?.split(' ')
  expect(offered).toEqual(
    documentedOptions().map(({ name }) => (name.length === 1 ? `-${name}` : `--${name}`)),
  )
})

test('an installed page links to the pages beside it, and to no file of the source tree', () => {
  expect(
    installedPage('see [firewall](firewall.md#docker), [the unit](../systemd/a.service) and [b](../../b)'),
  ).toBe('see [firewall](firewall.md#docker), the unit and b')
})
