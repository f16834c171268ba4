import { racing } from '../../../src/etcd/transactions'

/** An attempt that loses the given number of races before it wins. */
const losing = (times: number) => {
  let attempts = 0
  return async (): Promise<number | undefined> => (++attempts > times ? attempts : undefined)
}

test.each([
  [0, 1],
  [2, 3],
  [3, undefined],
])('of three attempts the first %d lose their race: the result is %p', async (lost, expected) => {
  expect(await racing(3, losing(lost))).toBe(expected)
})

test('an attempt that throws is not repeated', async () => {
  let attempts = 0
  const failing = async (): Promise<undefined> => {
    attempts += 1
    throw new Error('no')
  }
  await expect(racing(3, failing)).rejects.toThrow('no')
  expect(attempts).toBe(1)
})
