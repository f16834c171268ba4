/**
 * A program for containers that sends or receives multicast on eth0:
 *
 *     node multicast-member.js join PORT GROUP...
 *         prints `joined`, then `GROUP SOURCE TEXT` for each packet
 *     node multicast-member.js send PORT GROUP COUNT TEXT MS
 *         sends TEXT-0, TEXT-1, ..., TEXT-end with a TTL of 1, MS milliseconds apart
 */
const { createSocket } = require('node:dgram')

const LINK = 'eth0'
const [, , verb, port, ...rest] = process.argv
const isSix = (group) => group.includes(':')
const scoped = (group) => (isSix(group) ? `${group}%${LINK}` : group)
const open = (group) => createSocket({ type: isSix(group) ? 'udp6' : 'udp4', reuseAddr: true })

function join(groups) {
  let waiting = groups.length
  for (const group of groups) {
    const socket = open(group)
    socket.on('message', (text, { address }) => {
      process.stdout.write(`${group} ${address.replace(/%.*/, '')} ${text}\n`)
    })
    // Bound to the group's address, so that the socket receives no other packets.
    socket.bind(Number(port), scoped(group), () => {
      socket.addMembership(scoped(group), ...(isSix(group) ? [`::%${LINK}`] : []))
      waiting -= 1
      if (waiting === 0) process.stdout.write('joined\n')
    })
  }
}

function send([group, count, text, interval]) {
  const socket = open(group)
  socket.bind(0, () => {
    if (isSix(group)) socket.setMulticastInterface(`::%${LINK}`)
    socket.setMulticastTTL(1)
    const words = [...Array(Number(count)).keys(), 'end'].map((number) => `${text}-${number}`)
    const next = () => {
      const word = words.shift()
      if (word === undefined) return socket.close()
      socket.send(word, Number(port), scoped(group), () => setTimeout(next, Number(interval)))
    }
    next()
  })
}

if (verb === 'join') join(rest)
else send(rest)
