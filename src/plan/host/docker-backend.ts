/**
 * The flags that dockerd needs beside its nftables backend. That backend drops what is routed to a container
 * twice: by a rule for each container in raw PREROUTING, which --allow-direct-routing leaves out, and at the
 * end of FORWARD, unless the packet has the mark of --bridge-accept-fwmark. Measured: neither alone is
 * enough.
 */
import { formatMark } from '../../model/docker-mark'

/** Where dockerd gets its settings from. */
export interface DockerSettings {
  /** Names and values in daemon.json. */
  readonly file: Readonly<Record<string, unknown>>
  /** Flags of the command line. */
  readonly flags: readonly string[]
}

/** The value of a setting, as text; a flag without a value is `true`. */
function settingOf({ file, flags }: DockerSettings, name: string): string | undefined {
  for (const [index, flag] of flags.entries()) {
    if (flag.startsWith(`--${name}=`)) return flag.slice(name.length + 3)
    const next = flags[index + 1]
    if (flag === `--${name}`) return next === undefined || next.startsWith('-') ? 'true' : next
  }
  const value = file[name]
  return value === undefined ? undefined : String(value)
}

/** @param mark the bit that overlayd's rule sets */
export function nftablesFlags(settings: DockerSettings, mark: number): readonly string[] {
  const of = (name: string): string | undefined => settingOf(settings, name)
  // Without rules of Docker nothing drops.
  if (of('firewall-backend') !== 'nftables' || of('iptables') === 'false') return []
  const bit = formatMark(mark)
  return [
    ...(of('allow-direct-routing') === undefined ? ['--allow-direct-routing'] : []),
    ...(of('bridge-accept-fwmark') === undefined ? [`--bridge-accept-fwmark=${bit}/${bit}`] : []),
  ]
}
