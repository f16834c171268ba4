/**
 * The page as one document of HTML, with its style, its code and its data. It is the same for the server and
 * for a snapshot, and takes nothing from elsewhere.
 */
import { createHash } from 'node:crypto'
import { toJson } from '../../model/printable'
import type { PageDocument, PageEvent } from './document'
import { MODULES, readPageFiles, STYLES } from './page-files'

/** What the page finds in itself. */
export type PageData =
  /** It asks the server for everything. */
  | { readonly kind: 'live' }
  /** It shows what was, and asks nobody. */
  | { readonly kind: 'snapshot'; readonly document: PageDocument; readonly events: readonly PageEvent[] }

export interface Html {
  readonly text: string
  /** Value of the header Content-Security-Policy. */
  readonly policy: string
}

export function makeHtml(data: PageData, files = readPageFiles()): Html {
  const style = STYLES.map((name) => files[name] ?? '').join('\n')
  const script = joinModules(MODULES.map((name) => files[name] ?? ''))
  const policy = policyFor(style, script, data.kind === 'live')
  const parts: Readonly<Record<string, string>> = {
    policy: policy.inDocument,
    icon: `data:image/svg+xml,${encodeURIComponent(files['page.svg'] ?? '')}`,
    style,
    script,
    data: dataText(data),
  }
  // Where HTML itself has a text, the place is in quotes or in a comment, so that the file is valid as it is.
  const places = /\/\* \{\{(\w+)\}\} \*\/|(?<==)"\{\{(\w+)\}\}"|"\{\{(\w+)\}\}"/g
  const text = (files['page.html'] ?? '').replace(places, (_, inCode, inAttribute, inData) => {
    const part = parts[inCode ?? inAttribute ?? inData]
    if (part === undefined) throw new Error('page.html has a place for what is not there')
    return inAttribute === undefined ? part : `"${part}"`
  })
  return { text, policy: policy.inHeader }
}

/**
 * The modules as one script. They have no names in common, and each is after those that it imports from, so
 * that the words `import` and `export` can go.
 */
export function joinModules(modules: readonly string[]): string {
  const bodies = modules.map((text) =>
    text
      .replace(/^import [^;]*? from '\.\/[\w-]+\.mjs'\n/gm, '')
      .replace(/^export (?=const|let|function|class)/gm, ''),
  )
  return `(() => {\n'use strict'\n${bodies.join('\n')}\n})()\n`
}

/** JSON in an element `script`: no text in it can end the element, or begin a comment (HTML 13.2.5.4). */
export const dataText = (data: unknown): string => toJson(data).replaceAll('<', '\\u003c')

function policyFor(style: string, script: string, isLive: boolean) {
  const hash = (text: string): string => `'sha256-${createHash('sha256').update(text).digest('base64')}'`
  const inDocument = [
    "default-src 'none'",
    `script-src ${hash(script)}`,
    `style-src ${hash(style)}`,
    // The icon, which is in the document.
    'img-src data:',
    ...(isLive ? ["connect-src 'self'"] : []),
    "base-uri 'none'",
    "form-action 'none'",
    "require-trusted-types-for 'script'",
    "trusted-types 'none'",
  ].join('; ')
  // A document itself cannot say who may frame it.
  return { inDocument, inHeader: `${inDocument}; frame-ancestors 'none'` }
}
