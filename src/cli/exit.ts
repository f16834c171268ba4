/** Exit codes of overlayctl. 1 is an answer that is bad, 2 no answer. */
export const EXIT = { healthy: 0, degraded: 1, unreachable: 2, usage: 2 } as const
