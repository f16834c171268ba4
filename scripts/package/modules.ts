/**
 * Modules of the large bundle that overlayctl's own takes from it, by their paths. The table is written when
 * the bundles are made: see control.ts.
 */
export const modules: Readonly<Record<string, () => unknown>> = {}
