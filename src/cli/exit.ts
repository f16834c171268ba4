/** Exit codes of overlayctl. 1: the answer is bad. 2: there is no answer, or wrong usage. */
export const EXIT = { healthy: 0, degraded: 1, unreachable: 2, usage: 2 } as const
