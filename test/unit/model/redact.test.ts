import fc from 'fast-check'
import { isSecretName, REMOVED, Redactor } from '../../../src/model/redact'
import { runs } from '../support/runs'

const numRuns = runs(150)
const redactor = new Redactor()

/** Text that does not occur in the words around it by chance. */
const secret = fc
  .array(fc.constantFrom(...'ABCDEFGHJKLMNPQRTUVWXYZabcdefghjkmnpqrtuvwxyz0123456789'), {
    minLength: 12,
    maxLength: 40,
  })
  .map((letters) => `Zq7${letters.join('')}`)
/** A password may have any characters; its core is what must not survive. */
const password = fc
  .tuple(fc.string({ maxLength: 6 }), secret, fc.string({ maxLength: 6 }))
  .map(([before, core, after]) => ({ core, text: `${before}${core}${after}`.replace(/[\r\n]/g, ' ') }))
const around = fc.string({ maxLength: 30 }).map((text) => text.replace(/[\r\n\\]/g, ' '))
const name = fc.constantFrom(
  ...['FLANNELD_ETCD_PASSWORD', 'etcd-password', 'Password', 'api_key', 'apiKey', 'ACCESS-KEY', 'privateKey'],
  ...['PrivateKey', 'PresharedKey', 'authToken', 'X-Auth-Token', 'client_secret', 'cookie', 'DB_PASS', 'psk'],
)

const gone = (core: string, text: string): boolean => !text.includes(core)

test('a value after the name of a secret never survives: variables, lines, JSON, YAML, flags', () => {
  fc.assert(
    fc.property(name, password, around, (name, { core, text }, before) => {
      const lines = [
        `${name}=${text}`,
        `${name}="${text.replace(/["\\`$]/g, '\\$&')}"`,
        `Environment="A=1" "${name}=${text}"`,
        `  ${name}: ${text}`,
        `${name} is ${text}: expected another`,
        `the variable ${name} is ${JSON.stringify(text)}`,
        `overlayd --${name} ${text} --iface eth0`,
        `overlayd --${name}=${text} --iface eth0`,
        `${before} ${name} = '${text}'`,
        `{"a":1,"${name}":${JSON.stringify(text)},"b":2}`,
        `{"${name}" : [${JSON.stringify(text.replaceAll(']', ''))}]}`,
        JSON.stringify(JSON.stringify({ [name]: text })),
        `${name}=first \\\n  ${text}`,
      ]
      for (const line of lines)
        expect({ line, left: redactor.text(`x\n${line}\ny`) }).toEqual({
          line,
          left: expect.not.stringContaining(core),
        })
      return true
    }),
    { numRuns },
  )
})

test('other lines and fields stay', () => {
  const text = 'etcd: http://192.0.2.1:2379 does not answer\n{"keyAgeSeconds":12,"state":"ok"}\n'
  expect(redactor.text(text)).toBe(text)
  expect(redactor.text('a\nFLANNELD_ETCD_PASSWORD=x y\nb')).toBe(`a\nFLANNELD_ETCD_PASSWORD= ${REMOVED}\nb`)
  expect(redactor.text('{"etcd-password":"x","b":2}')).toBe(`{"etcd-password":"${REMOVED}","b":2}`)
  expect(redactor.text('bypass passive encryption-key secretion.')).toBe(
    'bypass passive encryption-key secretion.',
  )
})

test('data: whatever is under the name of a secret goes, at any depth; counts stay', () => {
  fc.assert(
    fc.property(name, password, (name, { core, text }) => {
      const data = { a: [{ [name]: text }, { [name]: { deep: [text] } }, `${name}=${text}`], [name]: [text] }
      return gone(core, JSON.stringify(redactor.data(data)))
    }),
    { numRuns },
  )
  expect(redactor.data({ tokens: 3, secret: true, x: [null, 1.5] })).toEqual({
    tokens: 3,
    secret: true,
    x: [null, 1.5],
  })
  expect(redactor.value('FLANNELD_ETCD_PASSWORD', 'x')).toBe(REMOVED)
  expect(redactor.value('FLANNELD_IFACE', 'eth0')).toBe('eth0')
})

test('user information of URLs goes, and the hosts stay', () => {
  fc.assert(
    fc.property(password, ({ core, text }) => {
      const part = encodeURIComponent(Buffer.from(text).toString())
      const url = `http://root:${part}@192.0.2.1:2379,https://u:${part}@h2.example:1/x`
      const left = redactor.text(`endpoints ${url} and "${url}"`)
      return gone(core, left) && left.includes('@192.0.2.1:2379,https://') && left.includes('@h2.example:1/x')
    }),
    { numRuns },
  )
})

test('private keys in PEM never survive, whole or cut off at any place', () => {
  const kind = fc.constantFrom('', 'RSA ', 'EC ', 'ENCRYPTED ', 'OPENSSH ')
  fc.assert(
    fc.property(
      kind,
      fc.array(secret, { minLength: 2, maxLength: 5 }),
      around,
      fc.nat(),
      (kind, rows, log, at) => {
        const pem = `-----BEGIN ${kind}PRIVATE KEY-----\n${rows.join('\n')}\n-----END ${kind}PRIVATE KEY-----\n`
        const journal = pem.replaceAll('\n', '\n2026-01-01T00:00:00 host overlayd[1]: ')
        const body = pem.length - kind.length - 40
        const texts = [
          pem,
          journal,
          JSON.stringify({ a: pem }),
          pem.slice(0, at % body),
          `${log}\n${pem}${pem}`,
        ]
        const tail = pem.slice(Math.min(pem.indexOf('\n'), at % pem.length))
        return [...texts, tail].every((text) => rows.every((row) => gone(row, redactor.text(text))))
      },
    ),
    { numRuns },
  )
})

test('keys of WireGuard become names, the same key the same name', () => {
  fc.assert(
    fc.property(fc.uint8Array({ minLength: 32, maxLength: 32 }), around, (bytes, text) => {
      const key = Buffer.from(bytes).toString('base64')
      const left = redactor.text(`${text}${key}${text} "key":"${key}"`)
      return (
        gone(key, left) &&
        left.split(redactor.text(key)).length === 3 &&
        /^\[key [0-9a-f]{8}\]$/.test(redactor.text(key))
      )
    }),
    { numRuns },
  )
})

test('tokens are told by their form', () => {
  for (const token of [
    'eyJhbGciOiJIUzI1NiJ9.eyJ1c2VyIjoicm9vdCJ9.c2lnbmF0dXJl',
    'hJklMnOpQrStUvWx.12',
    'ghp_0123456789abcdefghij',
    'AKIAIOSFODNN7EXAMPLE',
    'xoxb-123456789012-abcdef',
  ])
    expect(redactor.text(`seen ${token} there`)).toBe(`seen ${REMOVED} there`)
  expect(redactor.text('Authorization: Bearer abc.def')).not.toContain('abc')
  expect(redactor.text('sent "Basic dXNlcjpwYXNz" to it')).toBe(`sent "Basic ${REMOVED}" to it`)
})

test('a known secret goes wherever it stands, and in whatever form', () => {
  fc.assert(
    fc.property(password, around, ({ core, text }, around) => {
      const known = new Redactor([text])
      const forms = [
        text,
        JSON.stringify(text),
        JSON.stringify(JSON.stringify({ at: text })),
        encodeURIComponent(Buffer.from(text).toString()),
        Buffer.from(text).toString('base64'),
      ]
      const left = known.text(forms.map((form) => `${around}|${form}|${around}`).join('\n'))
      const base64 = Buffer.from(text).toString('base64').replace(/=+$/, '')
      return (
        gone(core, left) && gone(base64, left) && gone(core, JSON.stringify(known.data({ [text]: text })))
      )
    }),
    { numRuns },
  )
})

test('any text is taken, soon, and a second time changes nothing that matters', () => {
  fc.assert(
    fc.property(fc.string({ maxLength: 400 }), (text) => typeof redactor.text(text) === 'string'),
    { numRuns },
  )
  // Patterns that begin again and again: a search whose work grew with the square would not end.
  for (const piece of ['://', 'password"', 'token ', '-----BEGIN PRIVATE KEY', 'eyJaaaaaaaa.', '--a', 'aaaa'])
    expect(redactor.text(piece.repeat(20_000))).toBeDefined()
})

test('names of secrets', () => {
  const names = [
    'etcd-password',
    'FLANNELD_ETCD_PASSWORD',
    'apiKey',
    'TOKEN',
    'DB_PASS',
    'psk',
    'PRIVATE_KEY',
  ]
  expect(names.filter((each) => !isSecretName(each))).toEqual([])
  const others = ['etcd-keyfile', 'iface', 'bypass', 'passive', 'keys', 'encryption-key-days', 'PATH']
  expect(others.filter(isSecretName)).toEqual([])
})
