import { titleOf } from '../../../src/host/process-name'

test.each([
  [[], 'overlayd'],
  [['--iface=eth0', '-v', '1'], 'overlayd --iface=eth0 -v 1'],
  [['--etcd-password=hunter2', '--v=1'], 'overlayd --v=1'],
  [['-etcd-password', 'hunter2', '--v=1'], 'overlayd --v=1'],
  [['--etcd-password'], 'overlayd'],
])('%j is listed as %s', (words, title) => expect(titleOf('overlayd', words)).toBe(title))
