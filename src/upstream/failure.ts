/** Maps what undici and the socket report to the problem a client sees. The error's own text never leaves the log. */
import { deny, type Denial } from '../core/problems.js';

const unreachable = deny('upstream-unreachable', 'The upstream could not be reached.');
const connectionLost = deny('upstream-unreachable', 'The upstream closed the connection before it answered.');
const timeout = deny('upstream-timeout', 'The upstream did not answer in time.');
const invalid = deny('upstream-invalid-response', "The upstream's answer is not valid HTTP.");

const denialByCode = new Map<string, Denial>([
  ['ECONNREFUSED', unreachable],
  ['ENOTFOUND', unreachable],
  ['EAI_AGAIN', unreachable],
  ['EHOSTUNREACH', unreachable],
  ['ENETUNREACH', unreachable],
  ['ENOENT', unreachable],
  ['UND_ERR_CONNECT_TIMEOUT', unreachable],
  ['UND_ERR_HEADERS_TIMEOUT', timeout],
  ['UND_ERR_BODY_TIMEOUT', timeout],
  ['ETIMEDOUT', timeout],
  ['UND_ERR_SOCKET', connectionLost],
  ['ECONNRESET', connectionLost],
  ['EPIPE', connectionLost],
  ['UND_ERR_HEADERS_OVERFLOW', invalid],
  ['UND_ERR_RES_CONTENT_LENGTH_MISMATCH', invalid],
]);

/** The denial for a failed call. Parser faults carry codes `HPE_…`; anything unknown is an unreachable upstream. */
export function upstreamDenial(error: unknown): Denial {
  const code = codeOf(error);
  if (code.startsWith('HPE_')) return invalid;
  return denialByCode.get(code) ?? unreachable;
}

/**
 * Whether the connection died under a request that was just written to it: the mark of a keep-alive connection
 * the upstream had already given up (RFC 9112 section 9.3.1).
 */
export function isLostConnection(error: unknown): boolean {
  return denialByCode.get(codeOf(error)) === connectionLost;
}

function codeOf(error: unknown): string {
  if (error instanceof AggregateError && error.errors.length > 0) return codeOf(error.errors[0]);
  const code = (error as { code?: unknown } | null)?.code;
  return typeof code === 'string' ? code : '';
}
