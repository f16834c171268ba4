/** The daemon's unit, from systemd and the journal. */
import { findProgram, runProgram } from '../../firewall/program'
import { readUptime } from '../../host/moment'
import { NEEDLESS, type ServiceFact } from '../../judge/facts'
import { OverlayError } from '../../model/errors'

/** Milliseconds for each program. */
const DEADLINE = 3000
/** Characters of a line of the log. */
const LONGEST_LINE = 400

const PROPERTIES = [
  ...['Id', 'LoadState', 'ActiveState', 'SubState', 'Result', 'NRestarts', 'MainPID'],
  ...['ExecMainCode', 'ExecMainStatus', 'ExecMainStartTimestampMonotonic'],
]

/**
 * @param unit without its suffix: `overlayd`, `overlayd@blue`
 * @throws {OverlayError} {@link NEEDLESS} where systemd does not run, or does not know the unit
 */
export async function readService(unit: string): Promise<ServiceFact | undefined> {
  const systemctl = await findProgram('systemctl')
  if (systemctl === undefined) throw new OverlayError(NEEDLESS, 'there is no systemd here')
  const shown = await run(systemctl, 'show', '--no-pager', `--property=${PROPERTIES.join(',')}`, unit).catch(
    () => {
      throw new OverlayError(NEEDLESS, 'systemd does not run here')
    },
  )
  const lastLine = await readLastLine(unit)
  return parseService(shown, readUptime(), lastLine)
}

/**
 * @param shown `systemctl show`: lines of NAME=VALUE
 * @param uptime seconds since boot
 * @returns undefined for a unit that does not exist
 */
export function parseService(
  shown: string,
  uptime: number,
  lastLine: string | undefined,
): ServiceFact | undefined {
  const value = (name: string): string => new RegExp(`^${name}=(.*)$`, 'm').exec(shown)?.[1] ?? ''
  const state = value('ActiveState')
  if (value('LoadState') !== 'loaded' || state === '') return undefined
  const started = Number(value('ExecMainStartTimestampMonotonic')) / 1e6
  const isRunning = Number(value('MainPID')) > 0
  return {
    unit: value('Id'),
    state: `${state} (${value('SubState')})`,
    result: value('Result'),
    ended: endOf(value('ExecMainCode'), value('ExecMainStatus')),
    restarts: Number(value('NRestarts')) || 0,
    runsSeconds: isRunning && started > 0 ? Math.max(0, Math.round(uptime - started)) : undefined,
    lastLine,
  }
}

/** CLD_EXITED is 1, CLD_KILLED 2 and CLD_DUMPED 3 (sigaction(2)). */
function endOf(code: string, status: string): string | undefined {
  if (code === '1') return `exit status ${status}`
  return code === '2' || code === '3' ? `signal ${status}` : undefined
}

/** The last error in the log of the unit; else its last line. */
async function readLastLine(unit: string): Promise<string | undefined> {
  const journalctl = await findProgram('journalctl')
  if (journalctl === undefined) return undefined
  const read = async (...flags: readonly string[]): Promise<string> => {
    const command = ['--no-pager', '-q', '-o', 'cat', '-n', '1', '-u', unit, ...flags]
    return (await run(journalctl, ...command).catch(() => '')).trim()
  }
  // journald(8): SD_ERR is 3.
  const line = (await read('-p', '3')) || (await read())
  return line === '' ? undefined : line.slice(0, LONGEST_LINE)
}

const run = (program: string, ...args: readonly string[]): Promise<string> =>
  runProgram('program', { command: [program, ...args], signal: AbortSignal.timeout(DEADLINE) })
