/** What an etcd endpoint gives anyone over HTTP/1.1: its clock and its certificate. */
export interface Greeting {
  readonly endpoint: string
  /** Seconds by which its clock is ahead of ours, accurate to the second; `undefined` if it sends no time. */
  readonly aheadSeconds: number | undefined
  /** End of its certificate in milliseconds since 1970; `undefined` for plain text. */
  readonly certificateEnds: number | undefined
}
