import { printable } from '../../model/printable'

export interface CertificateTrouble {
  readonly what: string
  readonly fix: string
}

export const NO_CLIENT_CERTIFICATE: CertificateTrouble = {
  what: 'it requires a client certificate, and does not accept the one of this host, if there is one',
  fix:
    'give --etcd-certfile and --etcd-keyfile, in addition to --etcd-cafile, of a certificate ' +
    'that the CA of etcd (its --trusted-ca-file) has signed',
}

/** The server's alert: it refuses the client's certificate, or requires one. */
const CLIENT_REFUSED = [
  /alert.*(certificate.?required|bad.?certificate|unknown.?ca|handshake.?failure|certificate.?unknown)/i,
  /CERTIFICATE_REQUIRED|ALERT_BAD_CERTIFICATE|ALERT_UNKNOWN_CA|ALERT_HANDSHAKE_FAILURE/i,
]

/** The server's certificate has no issuer that this host trusts. */
const UNKNOWN_CA = [
  /SELF_SIGNED|self.signed|UNABLE_TO_(?:GET|VERIFY)|unable to (?:get|verify)/i,
  /signature failure|CERT_UNTRUSTED/i,
]

/**
 * Explains OpenSSL's or Node's message about a failed handshake; undefined if the cause is something else.
 */
export function certificateTrouble(text: string): CertificateTrouble | undefined {
  if (/UNSUPPORTED_PROTOCOL|unsupported protocol|ALERT_PROTOCOL_VERSION|alert protocol version/i.test(text)) {
    return {
      what: 'it does not support TLS 1.2 or later',
      fix: 'make etcd, or the proxy in front of it, support TLS 1.2 or later',
    }
  }
  if (/NO_SHARED_CIPHER|no shared cipher|NO_CIPHERS_AVAILABLE/i.test(text)) {
    return {
      what: 'it has no cipher in common with this host',
      fix: 'check --cipher-suites of etcd, or of the proxy in front of it',
    }
  }
  if (/CERT_HAS_EXPIRED|certificate has expired/i.test(text)) {
    return {
      what: 'its certificate has expired',
      fix: "replace the certificate of etcd, or correct this host's clock",
    }
  }
  if (/CERT_NOT_YET_VALID|not yet valid/i.test(text)) {
    return {
      what: 'its certificate is not valid yet',
      fix: "correct this host's clock, or replace the certificate of etcd",
    }
  }
  if (/ALTNAME|altnames|does not match certificate/i.test(text)) {
    const names =
      /Cert(?:ificate)?'?s altnames?:? ?(.*)$/i.exec(text)?.[1] ?? /altnames: (.*)$/i.exec(text)?.[1] ?? ''
    const listed = names === '' ? '' : ` (${printable(names).slice(0, 200)})`
    return {
      what: `its certificate is for other names than the endpoint's${listed}`,
      fix: 'use a name in --etcd-endpoints that the certificate contains, or issue one for this name',
    }
  }
  if (CLIENT_REFUSED.some((pattern) => pattern.test(text))) return NO_CLIENT_CERTIFICATE
  if (UNKNOWN_CA.some((pattern) => pattern.test(text))) {
    return {
      what: 'its certificate is signed by a CA that this host does not know',
      fix: 'give the CA of etcd with --etcd-cafile',
    }
  }
  return undefined
}
