/** Where an address of the upstream is and how a socket to it is opened: TCP, TLS or a unix socket. */
import { connect as connectTcp, isIP } from 'node:net';
import { connect as connectTls, createSecureContext, type SecureContext } from 'node:tls';
import type { UpstreamAddress } from '../config/formats.js';
import type { OpenSocket } from './connection.js';

export interface TlsSettings {
  /** Certificates (PEM) to trust instead of the system's. */
  readonly ca?: string | undefined;
  /** Client certificate and key (PEM). */
  readonly cert?: string | undefined;
  readonly key?: string | undefined;
  /** Name to ask for (SNI) and to find in the certificate, instead of the address' host. */
  readonly serverName?: string | undefined;
}

/**
 * How to open sockets to `address`. Certificates are verified, always.
 * @throws Error of node:tls for certificates that cannot be used.
 */
export function openerOf(address: UpstreamAddress, tls: TlsSettings): OpenSocket {
  if (address.kind === 'unix') {
    const { path } = address;
    return (buffer, onRead, whenReady) => connectTcp({ path, onread: { buffer, callback: onRead } }, whenReady);
  }
  const { host, port } = address;
  if (!address.isTls) {
    return (buffer, onRead, whenReady) =>
      connectTcp({ host, port, noDelay: true, onread: { buffer, callback: onRead } }, whenReady);
  }
  return tlsOpener(
    host,
    port,
    tls.serverName ?? host,
    createSecureContext({ ca: tls.ca, cert: tls.cert, key: tls.key }),
  );
}

function tlsOpener(host: string, port: number, serverName: string, secureContext: SecureContext): OpenSocket {
  /** Of the last handshake, so that the next one is short. */
  let session: Buffer | undefined;
  return (buffer, onRead, whenReady) => {
    const options = {
      host,
      port,
      secureContext,
      // RFC 6066 section 3: no addresses in the server name; the certificate is held against `host` then.
      ...(isIP(serverName) === 0 ? { servername: serverName } : {}),
      ALPNProtocols: ['http/1.1'],
      rejectUnauthorized: true,
      noDelay: true,
      ...(session === undefined ? {} : { session }),
      // Known to tls.connect, not to its types.
      onread: { buffer, callback: onRead },
    };
    const socket = connectTls(options, whenReady);
    socket.on('session', (fresh) => {
      session = fresh;
    });
    return socket;
  };
}
