/** Reads the programs' own help, so that man pages, completions and /etc/default say what the programs say. */

export interface HelpOption {
  /** As written on the command line, short first: `-o`, `--output`. */
  readonly flags: readonly string[]
  readonly describe: string
  readonly choices: readonly string[]
  readonly takesValue: boolean
}

export interface HelpCommand {
  /** Without the program and the commands above it: `set`. */
  readonly name: string
  /** `<json>`, or nothing. */
  readonly args: string
  readonly describe: string
}

export interface HelpExample {
  /** The whole command line. */
  readonly command: string
  readonly describe: string
}

export interface Help {
  /** The words before the first section, each a paragraph. */
  readonly intro: readonly string[]
  readonly commands: readonly HelpCommand[]
  readonly options: readonly HelpOption[]
  readonly examples: readonly HelpExample[]
  /** Paragraphs after the last section. */
  readonly outro: readonly string[]
}

/** @param path the program and the commands above, `overlayctl config` */
export function parseHelp(text: string, path: string): Help {
  const intro: string[] = []
  const commands: HelpCommand[] = []
  const options: HelpOption[] = []
  const examples: HelpExample[] = []
  const outro: string[] = []
  for (const block of text.trim().split(/\n{2,}/)) {
    const [title = '', ...lines] = block.split('\n')
    if (title === 'Commands:') commands.push(...joinRows(lines).map((row) => parseCommand(row, path)))
    else if (isOptions(title, lines)) options.push(...joinRows(lines).map(parseOption))
    else if (title === 'Examples:') examples.push(...joinRows(lines).map(parseExample))
    else if (title !== 'Positionals:') {
      const paragraphs = options.length === 0 && commands.length === 0 ? intro : outro
      paragraphs.push(block.replace(/\s*\n\s*/g, ' '))
    }
  }
  return { intro, commands, options, examples, outro }
}

/** `Options:`, or the heading of a group of them. */
const isOptions = (title: string, [first = '']: readonly string[]): boolean =>
  title === 'Options:' || (title.endsWith(':') && /^ {2,6}-/.test(first))

/** A row begins with a flag or a command, at most six columns in; what is further in goes on with it. */
function joinRows(lines: readonly string[]): string[] {
  const rows: string[] = []
  for (const line of lines) {
    if (/^ {2,6}\S/.test(line)) rows.push(line.trim())
    else rows.push(`${rows.pop() ?? ''} ${line.trim()}`)
  }
  return rows
}

function parseCommand(row: string, path: string): HelpCommand {
  const [words = '', ...describe] = row.slice(path.length + 1).split(/ {2,}/)
  const [name = '', ...args] = words.split(' ')
  return { name, args: args.join(' '), describe: describe.join(' ') }
}

function parseExample(row: string): HelpExample {
  const [command = '', ...describe] = row.split(/ {2,}/)
  return { command, describe: describe.join(' ') }
}

function parseOption(row: string): HelpOption {
  const match = /^((?:--?[\w-]+(?:, )?)+) +(.*)$/.exec(row)
  if (match === null) throw new Error(`not the help of an option: ${row}`)
  const [, flags = '', rest = ''] = match
  const notes = [...rest.matchAll(/\[([^\]]*)\]/g)].map(([, note = '']) => note)
  const choices = notes.find((note) => note.startsWith('choices: ')) ?? ''
  const fallback = notes.find((note) => note.startsWith('default: '))
  const takesValue = notes.some((note) => /^(string|array|number|choices: .*)$/.test(note))
  const text = rest
    .replace(/ *\[[^\]]*\]/g, '')
    .replace(/ {2,}/g, ' ')
    .trim()
  const said = takesValue && fallback !== undefined ? ` (${fallback.replaceAll('"', '')})` : ''
  return {
    flags: flags.split(', '),
    describe: `${text}${said}`,
    choices: [...choices.matchAll(/"([^"]*)"/g)].map(([, choice = '']) => choice),
    takesValue,
  }
}
