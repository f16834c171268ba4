/**
 * Loaded into the daemon before its program (node --require). Measures how long the event loop was blocked.
 * At SIGUSR2 the result is written to the file that OVERLAYD_STALLS names, in milliseconds. A timer of 1 ms
 * that is late by less than 2 ms is no stall.
 */
const { writeFileSync, renameSync } = require('node:fs')
const { monitorEventLoopDelay } = require('node:perf_hooks')

const file = process.env.OVERLAYD_STALLS
if (file !== undefined) {
  const histogram = monitorEventLoopDelay({ resolution: 1 })
  // Starts when the program is loaded: before that no event loop runs.
  setImmediate(() => histogram.enable())
  process.on('SIGUSR2', () => {
    const [p99, max] = [histogram.percentile(99), histogram.max].map((nanoseconds) => nanoseconds / 1e6)
    writeFileSync(`${file}.new`, JSON.stringify({ p99, max }))
    renameSync(`${file}.new`, file)
    histogram.reset()
  })
}
