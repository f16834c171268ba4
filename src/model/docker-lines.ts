/**
 * Docker's options in subnet.env itself. Units of many tutorials have mk-docker-opts.sh write them over its
 * own input (`-d /run/flannel/subnet.env`), and dockerd reads them from there. So these lines are kept, with
 * current values, when the file is rewritten.
 */

/**
 * A line as {@link import('../plan/host/docker-options').dockerOptions} writes it. Text that would need
 * quoting is not written by it.
 */
const LINE = /^(?!FLANNEL_)([A-Za-z_]\w{0,63})="([^"\\$`\p{C}]{0,1000})"$/u

/** Most lines that are kept; docker-opts writes five. */
const MOST_LINES = 16

const DERIVED = /^--(?:bip|mtu|ip-masq)=/

interface DockerLine {
  readonly name: string
  readonly words: readonly string[]
}

function dockerLines(content: string): DockerLine[] {
  const lines: DockerLine[] = []
  for (const line of content.split('\n')) {
    const [, name, value = ''] = LINE.exec(line) ?? []
    const words = value.split(' ')
    if (name === undefined || !(name.startsWith('DOCKER_') || words.some((word) => DERIVED.test(word))))
      continue
    if (lines.length < MOST_LINES) lines.push({ name, words })
  }
  return lines
}

/**
 * Adds the file's present Docker lines to its new text, with the new subnet, MTU and masquerading.
 * @param text the new text, without Docker's lines
 * @param content the present content of the file
 */
export function withDockerLines(text: string, content: string): string {
  const value = (name: string): string | undefined => new RegExp(`^${name}=(.*)$`, 'm').exec(text)?.[1]
  const [subnet, mtu, masq] = [value('FLANNEL_SUBNET'), value('FLANNEL_MTU'), value('FLANNEL_IPMASQ')]
  const renew = (word: string): string => {
    if (word.startsWith('--bip=') && subnet !== undefined) return `--bip=${subnet}`
    if (word.startsWith('--mtu=') && mtu !== undefined) return `--mtu=${mtu}`
    if (word.startsWith('--ip-masq=') && masq !== undefined) return `--ip-masq=${masq === 'false'}`
    return word
  }
  return (
    text +
    dockerLines(content)
      .map(({ name, words }) => `${name}="${words.map(renew).join(' ')}"\n`)
      .join('')
  )
}
