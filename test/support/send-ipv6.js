/**
 * Sends IPv6 packets with any bytes behind the IPv6 header, such as fragments:
 *
 *     node send-ipv6.js ADDRESS PROTOCOL HEX...
 *         sends a packet for each HEX, with PROTOCOL as the next header
 */
const koffi = require('koffi')

const [, , address = '', protocol, ...payloads] = process.argv
/** linux/socket.h */
const [AF_INET6, SOCK_RAW] = [10, 3]
const libc = koffi.load(null)
const socket = libc.func('int socket(int, int, int)')
const sendto = libc.func('int64_t sendto(int, const void *, size_t, int, const void *, uint32_t)')

/** struct sockaddr_in6 (linux/in6.h) */
const destination = Buffer.alloc(28)
destination.writeUInt16LE(AF_INET6)
const [before = '', after = ''] = address.split('::')
const words = (text) => text.split(':').filter((word) => word !== '')
for (const [i, word] of words(before).entries()) destination.writeUInt16BE(Number(`0x${word}`), 8 + 2 * i)
for (const [i, word] of words(after).reverse().entries())
  destination.writeUInt16BE(Number(`0x${word}`), 22 - 2 * i)

const fd = socket(AF_INET6, SOCK_RAW, Number(protocol))
if (fd < 0) throw new Error(`socket: errno ${koffi.errno()}`)
for (const payload of payloads) {
  const bytes = Buffer.from(payload, 'hex')
  if (Number(sendto(fd, bytes, bytes.length, 0, destination, destination.length)) !== bytes.length)
    throw new Error(`sendto: errno ${koffi.errno()}`)
}
