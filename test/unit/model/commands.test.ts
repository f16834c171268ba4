import {
  commandsFor,
  commandsIn,
  evictKey,
  networkOfRunDirectory,
  shellWord,
} from '../../../src/model/commands'

test('commands for a further network name that network, and other text is unchanged', () => {
  const text =
    'see overlayctl status, or overlayctl drain --undo; systemctl restart overlayd; journalctl -u overlayd -n 50; overlayd runs; overlayctl.8'
  expect(commandsFor(undefined, text)).toBe(text)
  expect(commandsFor('blue', text)).toBe(
    'see overlayctl --network=blue status, or overlayctl --network=blue drain --undo; systemctl restart overlayd@blue; journalctl -u overlayd@blue -n 50; overlayd runs; overlayctl.8',
  )
  expect(commandsFor('blue', commandsFor('blue', text))).toBe(commandsFor('blue', text))
  expect(commandsIn('blue', { a: ['overlayctl peers', 1, { b: undefined }] })).toEqual({
    a: ['overlayctl --network=blue peers', 1, { b: undefined }],
  })
})

test("the name of a network is taken from its daemon's run directory", () => {
  expect(networkOfRunDirectory('/run/overlayd-blue')).toBe('blue')
  for (const none of ['/run/overlayd', '/run/overlayd-1a2b3c4d', '/tmp/run', '/run/overlayd-a/b']) {
    expect(networkOfRunDirectory(none)).toBeUndefined()
  }
})

test('any key becomes one word of a shell command', () => {
  expect(shellWord('10.5.7.0/24')).toBe('10.5.7.0/24')
  expect(evictKey('/p/subnets/10.5.7.0-24&fd00::-64')).toBe("overlayctl evict '10.5.7.0-24&fd00::-64'")
  expect(evictKey("/p/subnets/a'; rm -rf /\u001b")).toBe("overlayctl evict 'a'\\''; rm -rf /\\x1b'")
})
