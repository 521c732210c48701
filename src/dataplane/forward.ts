/** What the upstream receives: the request as sent, without credentials, with our own identity and forwarding headers. */
import type { Readable } from 'node:stream';
import { chunkedLength } from '../http/request-head.js';
import type { UpstreamRequest } from '../upstream/call.js';
import type { Exchange } from './exchange.js';

/** Methods that may be sent a second time (RFC 9110 section 9.2.2). */
const idempotent = new Set(['GET', 'HEAD', 'PUT', 'DELETE', 'OPTIONS']);

/**
 * The upstream's request. The client's own fields come first and are already rid of everything that imitates ours;
 * hop-by-hop options were applied before, so a client cannot have our fields removed (`Connection: X-Tollkeeper-…`).
 */
export function upstreamRequest(exchange: Exchange): UpstreamRequest {
  const { head } = exchange;
  const headers = head.forwarded;
  const trusted = head.peerTrusted;
  headers.push('host', head.host);
  headers.push('x-request-id', exchange.requestId);
  headers.push(
    'x-forwarded-for',
    trusted && head.forwardedFor !== '' ? `${head.forwardedFor}, ${head.peer}` : head.peer,
  );
  headers.push('x-forwarded-proto', exchange.secure ? 'https' : 'http');
  headers.push('x-forwarded-host', exchange.host);
  const { token } = exchange;
  if (token !== undefined) {
    headers.push('x-tollkeeper-token-id', token.id);
    headers.push('x-tollkeeper-tenant', token.record.tenant);
    headers.push('x-tollkeeper-scopes', token.scopesHeader);
    if (token.record.subject !== null) headers.push('x-tollkeeper-subject', token.record.subject);
  }
  const body: Buffer | Readable | null = exchange.body === undefined ? null : exchange.body.toUpstream();
  let bodyLength = 0;
  if (body !== null && exchange.body !== undefined) {
    bodyLength = exchange.body.complete ? exchange.body.received : exchange.body.declared;
    if (bodyLength !== chunkedLength) headers.push('content-length', String(bodyLength));
  } else if (head.hasContentLength) {
    headers.push('content-length', '0');
  }
  return {
    method: head.method,
    target: exchange.target,
    headers,
    body,
    bodyLength,
    replayable: idempotent.has(head.method) && (body === null || Buffer.isBuffer(body)),
  };
}
