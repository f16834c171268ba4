import { findNetlinkRow } from '../../../src/kernel/netlink/proc-netlink'

const TABLE = `sk               Eth Pid        Groups   Rmem     Wmem     Dump  Locks    Drops    Inode
000000002b2d2e3c 0   0          00000000 0        0        0     2        0        4
00000000ceefc384 4   3221229567 00000000 0        0        0     2        9        1504
00000000ceefc385 0   3221229567 80000000 0        0        0     2        47000    1505
`

test('the row of a socket is found by protocol and port id', () => {
  expect(findNetlinkRow(TABLE, 3221229567)).toEqual({ inode: '1505', drops: 47000 })
  expect(findNetlinkRow(TABLE, 3221229567, 4)).toEqual({ inode: '1504', drops: 9 })
  expect(findNetlinkRow(TABLE, 12)).toBeUndefined()
  expect(findNetlinkRow('', 0)).toBeUndefined()
})
