import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { dateOf, debianChangelog, readReleases, rpmChangelog } from '../../../scripts/package/changelog'

const ROOT = join(__dirname, '../../..')

const TEXT = `# Changelog

## [Unreleased]

### Added

- Something that no release has.

## [0.2.0] - 2026-03-01

Words that are no item.

### Added

- The command \`overlayctl evict\`: it deletes the lease of a host that is gone,
  and leaves [live hosts](scripts/docs/operate.md) alone.

### Fixed

- **One** thing.

## [0.1.0] - 2026-01-31

- First release.
`

test('releases are read newest first, one line for each item, without unreleased ones', () => {
  expect(readReleases(TEXT)).toEqual([
    {
      version: '0.2.0',
      date: '2026-03-01',
      items: [
        'The command overlayctl evict: it deletes the lease of a host that is gone, and leaves live hosts alone.',
        'One thing.',
      ],
    },
    { version: '0.1.0', date: '2026-01-31', items: ['First release.'] },
  ])
})

test('the Debian changelog has the form of dpkg', () => {
  expect(debianChangelog(readReleases(TEXT), '1')).toBe(`overlayd (0.2.0-1) unstable; urgency=medium

  * The command overlayctl evict: it deletes the lease of a host that is gone,
    and leaves live hosts alone.
  * One thing.

 -- overlayd maintainers <maintainers@overlayd.invalid>  Sun, 01 Mar 2026 12:00:00 +0000

overlayd (0.1.0-1) unstable; urgency=medium

  * First release.

 -- overlayd maintainers <maintainers@overlayd.invalid>  Sat, 31 Jan 2026 12:00:00 +0000
`)
})

test('the changelog of the RPM package has the form of rpm, in which a percent sign is no macro', () => {
  const [newest, first] = readReleases(TEXT.replace('**One** thing', '100 % of %{things}'))
  if (newest === undefined || first === undefined) throw new Error('there are two releases')
  const maintainer = 'overlayd maintainers <maintainers@overlayd.invalid>'
  expect(rpmChangelog([newest, first], '2')).toBe(`* Sun Mar 01 2026 ${maintainer} - 0.2.0-2
- The command overlayctl evict: it deletes the lease of a host that is gone, and
  leaves live hosts alone.
- 100 %% of %%{things}.

* Sat Jan 31 2026 ${maintainer} - 0.1.0-2
- First release.
`)
})

test('an invalid date is an error', () => {
  expect(() => dateOf({ version: '1.0.0', date: '2026-13-01', items: [] })).toThrow('2026-13-01')
})

test('the newest release in the changelog has the version of package.json, and none is empty', () => {
  const releases = readReleases(readFileSync(join(ROOT, 'CHANGELOG.md'), 'utf8'))
  const { version } = JSON.parse(readFileSync(join(ROOT, 'package.json'), 'utf8'))
  expect(releases[0]?.version).toBe(version)
  for (const release of releases) {
    expect(release.items.length).toBeGreaterThan(0)
    expect(dateOf(release)).toBeGreaterThan(0)
  }
  const text = debianChangelog(releases, '1')
  expect(text.split('\n').filter((line) => line.length > 80 && !line.startsWith(' -- '))).toEqual([])
})
