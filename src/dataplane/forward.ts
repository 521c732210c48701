/**
 * What the upstream receives: the request as sent, without credentials, with our own identity and forwarding headers.
 *
 * Everything in the head was judged before it came here: method, path, query, host and names by their own grammar, values
 * as visible ASCII, space and tab. So no line can end where it should not.
 */
import type { Readable } from 'node:stream';
import { chunkedLength } from '../http/request-head.js';
import { unknownLength, type UpstreamRequest } from '../upstream/call.js';
import type { Exchange } from './exchange.js';

/** Methods that may be sent a second time (RFC 9110 section 9.2.2). */
const idempotent = new Set(['GET', 'HEAD', 'PUT', 'DELETE', 'OPTIONS']);

/** Methods whose missing body is announced as such (RFC 9110 section 8.6). */
const expectBody = new Set(['POST', 'PUT', 'PATCH']);

/**
 * The upstream's request. The client's own fields are already rid of everything that imitates ours; hop-by-hop options
 * were applied before, so a client cannot have our fields removed (`Connection: X-Tollkeeper-…`).
 */
export function upstreamRequest(exchange: Exchange): UpstreamRequest {
  const { head, body: received } = exchange;
  const body: Buffer | Readable | null = received === undefined ? null : received.toUpstream();
  let bodyLength = 0;
  if (received !== undefined) {
    bodyLength = received.complete ? received.received : received.declared;
    if (bodyLength === chunkedLength) bodyLength = unknownLength;
  }
  return {
    head: headText(exchange, framingLine(exchange, body, bodyLength)),
    toHead: head.method === 'HEAD',
    body,
    bodyLength,
    replayable: idempotent.has(head.method) && (body === null || Buffer.isBuffer(body)),
  };
}

function headText(exchange: Exchange, framing: string): string {
  const { head, token } = exchange;
  let text = `${head.method} ${exchange.target} HTTP/1.1\r\nhost: ${head.host}\r\n`;
  const fields = head.forwarded;
  for (let at = 0; at < fields.length; at += 2) text += `${fields[at]}: ${fields[at + 1]}\r\n`;
  const hops = head.peerTrusted && head.forwardedFor !== '' ? `${head.forwardedFor}, ${head.peer}` : head.peer;
  text +=
    `x-request-id: ${exchange.requestId}\r\nx-forwarded-for: ${hops}\r\n` +
    `x-forwarded-proto: ${exchange.secure ? 'https' : 'http'}\r\nx-forwarded-host: ${exchange.host}`;
  if (token !== undefined) text += token.identityFields;
  return `${text}\r\n${framing}\r\n`;
}

function framingLine(exchange: Exchange, body: Buffer | Readable | null, bodyLength: number): string {
  const { head } = exchange;
  if (body === null) return head.hasContentLength || expectBody.has(head.method) ? 'content-length: 0\r\n' : '';
  return bodyLength === unknownLength ? 'transfer-encoding: chunked\r\n' : `content-length: ${bodyLength}\r\n`;
}
