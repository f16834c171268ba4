/** The type of a command of overlayctl: its words, its flags and its code. */
import type { InferredOptionTypes, PositionalOptions, Options as YargsOption } from 'yargs'
import type { Settings } from '../client/settings'
import { yargsOptions } from '../options/documented'
import { ETCD_OPTIONS } from '../options/table'

export type YargsOptions = Readonly<Record<string, YargsOption>>
type Positionals = Readonly<Record<string, PositionalOptions>>

/** What a command gets besides its own flags. */
export interface Context {
  /**
   * Settings from flags, environment and environment file: for commands that ask the daemon themselves, if at
   * all.
   */
  local(): Promise<Settings>
  /** Settings that also come from the daemon: for commands that talk to etcd. */
  settings(): Promise<Settings>
}

export interface Verb {
  /** Words, such as `config set`. */
  readonly path: string
  /** `<subnet>`, `[match]`, or empty. */
  readonly args: string
  readonly describe: string
  readonly positionals: Positionals
  readonly options: YargsOptions
  /** Whether it takes the {@link COMMON} flags. */
  readonly isOfHost: boolean
  /** Command lines without the program's name, each with its purpose. */
  readonly examples: readonly (readonly [string, string])[]
  /** @returns the exit code */
  run(args: Readonly<Record<string, unknown>>, context: Context): Promise<number>
}

interface VerbOf<P extends Positionals, O extends YargsOptions>
  extends Pick<Verb, 'path' | 'describe' | 'examples'> {
  readonly args?: string
  readonly positionals?: P
  readonly options?: O
  readonly isOfHost?: boolean
  run(args: InferredOptionTypes<P> & InferredOptionTypes<O>, context: Context): Promise<number>
}

/** Makes a verb. The types of its flags are inferred for its `run`. */
// biome-ignore lint/complexity/noBannedTypes: no flags at all; an index signature would allow any
export const verb = <const P extends Positionals = {}, const O extends YargsOptions = {}>({
  args = '',
  positionals = {} as P,
  options = {} as O,
  isOfHost = true,
  ...rest
}: VerbOf<P, O>): Verb => ({ args, positionals, options, isOfHost, ...rest }) as unknown as Verb

const NAMES = [...ETCD_OPTIONS, 'run-dir', 'subnet-file', 'state-dir'] as const

/** Flags of all commands that concern a host or its network. Each has a value without the flag too. */
export const COMMON: YargsOptions = yargsOptions(NAMES)

/** Flags of every command. */
export const GLOBAL = {
  network: {
    type: 'string',
    describe: 'a further network of this host: blue for overlayd@blue (default: its first network)',
  },
  debug: { type: 'boolean', default: false, describe: 'show where an error comes from' },
} as const satisfies YargsOptions

/** Groups of commands: first word -> description. */
export const GROUPS: Readonly<Record<string, string>> = {
  config: 'read, check and write the network config in etcd',
  docker: "have Docker's unit follow overlayd",
}
