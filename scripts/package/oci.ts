/**
 * The container image, as one file that `docker load`, `podman load` and `ctr image import` take: a layout of
 * the Open Container Initiative, with the manifest of `docker save` beside its index, as Docker itself has
 * written both since version 25. Older versions of Docker read only the latter.
 *
 * The lower layer is what the programs need of Debian: libraries, iptables, nft, ping. It has no shell. The
 * upper layer is the tree of the packages.
 */
import { createHash } from 'node:crypto'
import { mkdir, readdir, readFile, rename, rm, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { gzipSync } from 'node:zlib'
import { addCache } from './image-cache'
import { run } from './run'
import { type DebianPackage, readIngredients, writeSbom } from './sbom'
import { findBase, ingredientsOf, type Target } from './targets'
import { makeTree, type PackageRelease } from './tree'

/** Where scripts/package/base keeps the descriptions of Debian's packages, from the root. */
const DESCRIPTIONS = 'var/lib/dpkg/status.d'

/** Parts of the tree that only systemd, shells and people on the host read. */
const NOT_IN_CONTAINERS = [
  ...['usr/lib/systemd', 'usr/lib/NetworkManager', 'usr/lib/sysusers.d', 'usr/share/bash-completion'],
  ...['usr/share/zsh', 'usr/share/fish', 'usr/share/man', 'usr/lib/overlayd/docker.service.d'],
]

interface Descriptor {
  readonly mediaType: string
  readonly digest: string
  readonly size: number
}

interface Layer {
  readonly blob: Descriptor
  /** Digest of the layer without compression. */
  readonly diffId: string
}

/**
 * @param fast whether layers are left without compression, which takes most of the time
 * @returns the image's file
 */
export async function writeOci(
  directory: string,
  target: Target,
  release: PackageRelease,
  fast: boolean,
): Promise<string> {
  const work = join(directory, `oci-${target.debian}`)
  await rm(work, { recursive: true, force: true })
  const layout = join(work, 'layout')
  const blobs = join(layout, 'blobs/sha256')
  await mkdir(blobs, { recursive: true })
  const addBlob = async (mediaType: string, content: Uint8Array | string): Promise<Descriptor> => {
    const bytes = Buffer.from(content)
    const digest = sha256(bytes)
    await writeFile(join(blobs, digest), bytes)
    return { mediaType, digest: `sha256:${digest}`, size: bytes.length }
  }
  const addLayer = async (root: string): Promise<Layer> => {
    const file = join(work, 'layer.tar')
    await archive(root, file, release.epoch)
    const tar = await readFile(file)
    await rm(file)
    const type = 'application/vnd.oci.image.layer.v1.tar'
    const blob = fast ? await addBlob(type, tar) : await addBlob(`${type}+gzip`, gzipSync(tar, { level: 9 }))
    return { blob, diffId: `sha256:${sha256(tar)}` }
  }

  const base = await findBase(target)
  const tree = await makeTree(join(work, 'tree'), target, release, { zshCompletions: 'usr/share/zsh' })
  await addCache(tree.root, target)
  for (const path of NOT_IN_CONTAINERS) await rm(join(tree.root, path), { recursive: true })
  const layers = [await addLayer(base), await addLayer(tree.root)]
  const created = new Date(release.epoch * 1000).toISOString()
  const platform = { architecture: target.debian, os: 'linux' }
  const config = await addBlob(
    'application/vnd.oci.image.config.v1+json',
    JSON.stringify({
      created,
      ...platform,
      config: {
        // No entry point: overlayctl runs in the same image.
        Cmd: ['/usr/bin/overlayd'],
        Env: ['PATH=/usr/sbin:/usr/bin:/sbin:/bin'],
        WorkingDir: '/',
        Labels: {
          'org.opencontainers.image.title': 'overlayd',
          'org.opencontainers.image.version': release.version,
          'org.opencontainers.image.licenses': 'MIT',
          'org.opencontainers.image.description': 'Overlay network for Docker hosts',
        },
      },
      rootfs: { type: 'layers', diff_ids: layers.map(({ diffId }) => diffId) },
      history: ['libraries, iptables, nft and ping of Debian', 'overlayd'].map((comment) => ({
        created,
        comment,
      })),
    }),
  )
  const manifestType = 'application/vnd.oci.image.manifest.v1+json'
  const manifest = await addBlob(
    manifestType,
    JSON.stringify({
      schemaVersion: 2,
      mediaType: manifestType,
      config,
      layers: layers.map(({ blob }) => blob),
    }),
  )
  const name = `overlayd:${release.version}`
  const files = {
    'oci-layout': { imageLayoutVersion: '1.0.0' },
    'index.json': {
      schemaVersion: 2,
      mediaType: 'application/vnd.oci.image.index.v1+json',
      manifests: [
        {
          ...manifest,
          platform,
          annotations: {
            'io.containerd.image.name': `docker.io/library/${name}`,
            'org.opencontainers.image.ref.name': release.version,
          },
        },
      ],
    },
    'manifest.json': [
      {
        Config: pathOf(config),
        RepoTags: [name],
        Layers: layers.map(({ blob }) => pathOf(blob)),
      },
    ],
  }
  for (const [file, content] of Object.entries(files))
    await writeFile(join(layout, file), JSON.stringify(content))

  const file = join(directory, `overlayd-${release.version}-oci-${target.debian}.tar`)
  await archive(layout, `${file}.new`, release.epoch)
  await rename(`${file}.new`, file)
  const folders = tree.libraries
  const libraries = [...(await readIngredients(folders)), ...(await ingredientsOf(target, true))]
  const sbom = writeSbom(release, libraries, await readDescriptions(base))
  await writeFile(file.replace(/tar$/, 'cdx.json'), sbom)
  await rm(work, { recursive: true })
  return file
}

const sha256 = (bytes: Uint8Array): string => createHash('sha256').update(bytes).digest('hex')

/** The path of a blob in the layout. */
const pathOf = ({ digest }: Descriptor): string => `blobs/${digest.replace(':', '/')}`

/** Writes an archive whose bytes depend only on the files below a folder. All belong to root. */
const archive = (root: string, file: string, epoch: number): Promise<string> =>
  run(
    [
      'tar',
      ...['--create', '--format=gnu', '--sort=name', '--numeric-owner', '--owner=0', '--group=0'],
      ...[`--mtime=@${epoch}`, `--file=${file}`, `--directory=${root}`, '.'],
    ],
    { debianPackage: 'tar' },
  )

/** Debian's packages in the lower layer. */
async function readDescriptions(base: string): Promise<readonly DebianPackage[]> {
  const directory = join(base, DESCRIPTIONS)
  const names = (await readdir(directory)).sort()
  return Promise.all(
    names.map(async (name) => {
      const text = await readFile(join(directory, name), 'utf8')
      const field = (key: string): string => {
        const [, value] = new RegExp(`^${key}: (.*)$`, 'm').exec(text) ?? []
        if (value === undefined) throw new Error(`${join(directory, name)} has no field ${key}`)
        return value
      }
      return { name: field('Package'), version: field('Version'), architecture: field('Architecture') }
    }),
  )
}
