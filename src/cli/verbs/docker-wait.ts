/**
 * `overlayctl docker wait`: Docker's unit runs it before dockerd, and it ends when there is a subnet for
 * Docker. Meanwhile `systemctl status docker` says what Docker waits for.
 */
import { stat } from 'node:fs/promises'
import { setTimeout } from 'node:timers/promises'
import { findProgram, runProgram } from '../../firewall/program'
import { notifySystemd } from '../../host/sd-notify'
import { complain } from '../../host/streams'
import { describeError } from '../../model/errors'
import {
  type DockerWait,
  dockerWait,
  type OverlaydUnit,
  parseOverlaydUnit,
  UNIT_PROPERTIES,
} from '../../plan/host/docker-wait'

const UNIT = 'overlayd.service'
/** Where `overlayctl docker enable` puts the drop-in. */
const DROP_IN = '/etc/systemd/system/docker.service.d/40-overlayd.conf'
/** Milliseconds between looks. */
const INTERVAL = 500
/** Milliseconds for systemctl. */
const DEADLINE = 3000
/** Milliseconds until the first line in the log, and between further ones. */
const FIRST_LINE = 2000
const NEXT_LINE = 60_000

/**
 * Waits for a subnet, for any time: Docker keeps the subnet of its first start for its containers. The wait
 * ends early when the drop-in is taken away, and systemd ends it when Docker's start is cancelled.
 * @param file subnet.env
 */
export async function runDockerWait(file: string): Promise<void> {
  const began = performance.now()
  const hadDropIn = await exists(DROP_IN)
  let told = ''
  let nextLine = FIRST_LINE
  for (;;) {
    const waited = performance.now() - began
    const [hasSubnet, unit] = await Promise.all([isWritten(file), readUnit()])
    const now = dockerWait({ hasSubnet, unit, waited })
    if (now.kind === 'start') break
    // Disabled; or a link into a package that is removed.
    if (hadDropIn && !(await exists(DROP_IN))) {
      complain(`${DROP_IN} is gone: Docker starts without overlayd`)
      break
    }
    const words = describeWait(now, file, unit)
    if (words !== told) notify(words)
    told = words
    if (waited >= nextLine) {
      complain(`Docker ${words}. Look at: systemctl status overlayd`)
      nextLine += NEXT_LINE
    }
    await setTimeout(INTERVAL)
  }
  // An empty status takes the former one away. dockerd sends none of its own.
  if (told !== '') notify('')
}

const exists = (path: string): Promise<boolean> =>
  stat(path).then(
    () => true,
    () => false,
  )

const isWritten = (file: string): Promise<boolean> =>
  stat(file).then(
    (found) => found.isFile() && found.size > 0,
    () => false,
  )

async function readUnit(): Promise<OverlaydUnit | undefined> {
  const systemctl = await findProgram('systemctl')
  if (systemctl === undefined) return undefined
  const properties = `--property=${UNIT_PROPERTIES.join(',')}`
  try {
    const shown = await runProgram('systemctl', {
      command: [systemctl, 'show', '--no-pager', properties, UNIT],
      signal: AbortSignal.timeout(DEADLINE),
    })
    return parseOverlaydUnit(shown)
  } catch {
    return undefined
  }
}

function describeWait(
  wait: Extract<DockerWait, { kind: 'wait' }>,
  file: string,
  unit: OverlaydUnit | undefined,
): string {
  const what =
    wait.for === 'subnet'
      ? `waits for overlayd to write ${file}`
      : 'waits for overlayd, which is about to start and may get another subnet'
  return `${what}; ${describeUnit(unit)}`
}

function describeUnit(unit: OverlaydUnit | undefined): string {
  if (unit === undefined) return 'systemd does not tell how overlayd is'
  if (unit.load === 'masked')
    return 'overlayd is masked: systemctl unmask overlayd, or overlayctl docker disable'
  if (unit.load === 'not-found') return 'there is no overlayd.service: overlayctl docker disable'
  return `overlayd is ${unit.active}${unit.text === '' ? '' : `: ${unit.text}`}`
}

/** The status line is for people; Docker's start does not depend on it. */
function notify(status: string): void {
  try {
    notifySystemd([`STATUS=${status}`])
  } catch (error) {
    complain(`overlayctl: ${describeError(error)}`)
  }
}
