import { environmentOf } from '../../../../src/cli/verbs/enroll'
import { environmentLine, parseEnvironmentFile } from '../../../../src/host/environment-file'

const OPTIONS = {
  'etcd-endpoints': 'https://192.0.2.1:2379,https://192.0.2.2:2379',
  'etcd-discovery-srv': '',
  'etcd-prefix': '/coreos.com/network',
  'etcd-cafile': '/etc/ssl/my ca.pem',
}
const read = (text: string) => parseEnvironmentFile(Buffer.from(text))

test('the environment file of a host is read as it was meant', () => {
  const text = environmentOf(OPTIONS, '10.5.42.0/24 for 192.0.2.12', 'host2', false, 'pa-ss_word')
  expect(read(text)).toEqual({
    variables: {
      FLANNELD_ETCD_ENDPOINTS: OPTIONS['etcd-endpoints'],
      FLANNELD_ETCD_PREFIX: '/coreos.com/network',
      FLANNELD_ETCD_CAFILE: '/etc/ssl/my ca.pem',
      FLANNELD_ETCD_USERNAME: 'host2',
      FLANNELD_ETCD_PASSWORD: 'pa-ss_word',
    },
    passedOver: [],
  })
})

test('a host with a certificate has no password, and one that keeps its own has none in the file', () => {
  const certificate = read(environmentOf(OPTIONS, '', 'host2', true, undefined)).variables
  expect(certificate).toMatchObject({ FLANNELD_ETCD_CERTFILE: '/etc/overlayd/host2.crt' })
  for (const has of [true, false])
    expect(read(environmentOf(OPTIONS, '', 'host2', has, undefined)).variables).not.toHaveProperty(
      'FLANNELD_ETCD_PASSWORD',
    )
})

test.each(['', 'plain', 'a b', 'a"b', 'a\\b', '$HOME', '`x`', "it's", '#no', 'a;b'])(
  'the value %j is read again',
  (value) => {
    expect(read(environmentLine('NAME', value)).variables).toEqual({ NAME: value })
  },
)
