/**
 * The list of the libraries in a package: a software bill of materials in the form CycloneDX 1.5
 * (ECMA-424). `npm sbom` names all that package-lock.json has, in words that differ from npm to npm. Here are
 * the libraries that are in the bundle, and the same source gives the same bytes.
 */
import { readFile } from 'node:fs/promises'
import { join } from 'node:path'
import { ROOT } from './bundle'

/** A library from npm. */
export interface Ingredient {
  readonly name: string
  readonly version: string
  /** SPDX expression. */
  readonly license: string
  /** `sha512-` and the checksum of the archive in base64, as in package-lock.json. */
  readonly integrity: string
}

/** A package of Debian. */
export interface DebianPackage {
  readonly name: string
  readonly version: string
  readonly architecture: string
}

export interface Product {
  readonly version: string
  /** Seconds since 1970. */
  readonly epoch: number
}

/** The libraries in these folders below the project's root, with their checksums. */
export async function readIngredients(folders: readonly string[]): Promise<Ingredient[]> {
  const lock = JSON.parse(await readFile(join(ROOT, 'package-lock.json'), 'utf8'))
  return folders.map((folder) => {
    const entry = lock.packages[folder]
    if (entry === undefined) throw new Error(`package-lock.json has no ${folder}`)
    // An alias has its real name in the lock file.
    const name = entry.name ?? folder.replace(/^.*node_modules\//, '')
    return { name, version: entry.version, license: entry.license, integrity: entry.integrity }
  })
}

/**
 * @param debian packages of Debian, in an image
 * @returns the document's text
 */
export function writeSbom(
  { version, epoch }: Product,
  ingredients: readonly Ingredient[],
  debian: readonly DebianPackage[] = [],
): string {
  const known = new Map(ingredients.map((each) => [purl(each), each]))
  const document = {
    $schema: 'http://cyclonedx.org/schema/bom-1.5.schema.json',
    bomFormat: 'CycloneDX',
    specVersion: '1.5',
    version: 1,
    metadata: {
      timestamp: new Date(epoch * 1000).toISOString(),
      component: {
        type: 'application',
        'bom-ref': `overlayd@${version}`,
        name: 'overlayd',
        version,
        licenses: [{ license: { id: 'MIT' } }],
      },
    },
    components: [
      ...[...known.keys()].sort().map((ref) => component(ref, known.get(ref) as Ingredient)),
      ...debian.map(debianComponent),
    ],
  }
  return `${JSON.stringify(document, undefined, 2)}\n`
}

/** The package URL of npm's kind (purl-spec): the @ of a scope is escaped. */
const purl = ({ name, version }: Ingredient): string => `pkg:npm/${name.replace(/^@/, '%40')}@${version}`

/** Its licence is in the package's own file `copyright`, in words. */
function debianComponent({ name, version, architecture }: DebianPackage) {
  const ref = `pkg:deb/debian/${name}@${encodeURIComponent(version)}?arch=${architecture}`
  return { type: 'library', 'bom-ref': ref, name, version, purl: ref }
}

function component(ref: string, { name, version, license, integrity }: Ingredient) {
  const [, checksum = ''] = /^sha512-(\S+)$/.exec(integrity) ?? []
  if (checksum === '') throw new Error(`${name}@${version} has no SHA-512 in package-lock.json`)
  return {
    type: 'library',
    'bom-ref': ref,
    name,
    version,
    hashes: [{ alg: 'SHA-512', content: Buffer.from(checksum, 'base64').toString('hex') }],
    licenses: [/ (OR|AND|WITH) /.test(license) ? { expression: license } : { license: { id: license } }],
    purl: ref,
  }
}
