/** How the demos print. */

/** Ends what `scripts/demo --keep` prints. */
export const END_MARK = '\x1e'

const colour = process.env['OVERLAYD_DEMO_COLOUR'] === '1'
const paint = (code: string) => (text: string) => (colour ? `\x1b[${code}m${text}\x1b[0m` : text)
export const bold = paint('1')
export const dim = paint('2')
export const green = paint('32')
export const red = paint('31')

export const say = (text = ''): void => {
  process.stdout.write(`${text}\n`)
}
export const indent = (text: string): string => text.trimEnd().replace(/^(?=.)/gm, '    ')
