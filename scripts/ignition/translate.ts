/**
 * Translates the part of Butane (variant flatcar 1.0.0) that config.bu uses to Ignition 3.3.0. Butane itself
 * is in no package of Debian. Anything that this part does not have is refused.
 *
 * Specifications: coreos.github.io/butane/config-flatcar-v1_0, coreos.github.io/ignition/configuration-v3_3.
 */
import { parse } from 'yaml'
import { z } from 'zod'

const path = z.string().regex(/^\/[^\0]*[^/\0]$/, 'is not an absolute path')
const mode = z.int().min(0).max(0o7777)
const link = z.strictObject({ path, target: z.string().min(1), hard: z.boolean().optional() })
const unit = z.strictObject({
  name: z.string().regex(/^[\w.@:\\-]+\.(service|socket|path|timer|mount|target)$/, 'is no name of a unit'),
  enabled: z.boolean().optional(),
  contents: z.string().optional(),
  dropins: z
    .array(z.strictObject({ name: z.string().regex(/^[\w.-]+\.conf$/), contents: z.string() }))
    .optional(),
})

const butaneSchema = z.strictObject({
  variant: z.literal('flatcar'),
  version: z.literal('1.0.0'),
  storage: z.strictObject({
    files: z.array(
      z.strictObject({
        path,
        mode: mode.optional(),
        contents: z.union([z.strictObject({ inline: z.string() }), z.strictObject({ source: z.url() })]),
      }),
    ),
    links: z.array(link),
  }),
  systemd: z.strictObject({ units: z.array(unit) }),
})

/** An Ignition config, with what Ignition itself demands of it. */
export const ignitionSchema = z
  .strictObject({
    ignition: z.strictObject({ version: z.literal('3.3.0') }),
    storage: z.strictObject({
      files: z.array(
        z.strictObject({
          path,
          mode: mode.optional(),
          contents: z.strictObject({ source: z.string().regex(/^(https?|tftp|s3|arn|gs|data):/) }),
        }),
      ),
      links: z.array(link),
    }),
    systemd: z.strictObject({ units: z.array(unit) }),
  })
  .refine(({ storage: { files, links } }) => areDistinct([...files, ...links].map((each) => each.path)), {
    message: 'two files or links have the same path',
  })
  .refine(({ systemd: { units } }) => areDistinct(units.map(({ name }) => name)), {
    message: 'two units have the same name',
  })
export type Ignition = z.infer<typeof ignitionSchema>

const areDistinct = (values: readonly string[]): boolean => new Set(values).size === values.length

/**
 * @param text of a Butane file
 * @throws where it has something else than this part of Butane
 */
export function translate(text: string): Ignition {
  // As Butane does: 0640 is octal in YAML 1.1, and decimal in 1.2.
  const { storage, systemd } = butaneSchema.parse(parse(text, { version: '1.1' }))
  const files = storage.files.map(({ contents, ...rest }) => ({
    ...rest,
    contents: {
      source: 'inline' in contents ? `data:,${encodeURIComponent(contents.inline)}` : contents.source,
    },
  }))
  return ignitionSchema.parse({
    ignition: { version: '3.3.0' },
    storage: { files, links: storage.links },
    systemd,
  })
}

/** The text of an Ignition file. */
export const formatIgnition = (config: Ignition): string => `${JSON.stringify(config, undefined, 2)}\n`
