/** Maps what undici and the socket report to the problem a client sees. The error's own text never leaves the log. */
import { deny, type Denial } from '../core/problems.js';

const unreachable = deny('upstream-unreachable', 'The upstream could not be reached.');
const connectionLost = deny('upstream-unreachable', 'The upstream closed the connection before it answered.');
/** No head, or no further byte of a body, within the time set for it. */
export const upstreamTimedOut = deny('upstream-timeout', 'The upstream did not answer in time.');
/** Not one sound HTTP/1.1 answer: neither its head nor its end can be trusted. */
export const invalidResponse = deny('upstream-invalid-response', "The upstream's answer is not valid HTTP.");

const denialByCode = new Map<string, Denial>([
  ['UND_ERR_HEADERS_TIMEOUT', upstreamTimedOut],
  ['UND_ERR_BODY_TIMEOUT', upstreamTimedOut],
  ['ETIMEDOUT', upstreamTimedOut],
  ['UND_ERR_SOCKET', connectionLost],
  ['ECONNRESET', connectionLost],
  ['EPIPE', connectionLost],
  ['UND_ERR_HEADERS_OVERFLOW', invalidResponse],
  ['UND_ERR_RES_CONTENT_LENGTH_MISMATCH', invalidResponse],
]);

/**
 * The denial for a failed call; anything unknown (a refused connection, a name that does not resolve, a certificate
 * that does not fit) is an unreachable upstream. `answerBegun`: bytes of an answer had come, so what failed is the
 * answer, in its form or before its end.
 */
export function upstreamDenial(error: unknown, answerBegun: boolean): Denial {
  // undici's parser errors have a name of their own and no code that could be relied on.
  if ((error as { name?: unknown } | null)?.name === 'HTTPParserError') return invalidResponse;
  const denial = denialByCode.get(codeOf(error)) ?? unreachable;
  return answerBegun && denial !== upstreamTimedOut ? invalidResponse : denial;
}

/** Whether the connection went away under the request, rather than timing out or bringing something unreadable. */
export function isLostConnection(error: unknown): boolean {
  return denialByCode.get(codeOf(error)) === connectionLost;
}

function codeOf(error: unknown): string {
  if (error instanceof AggregateError && error.errors.length > 0) return codeOf(error.errors[0]);
  const code = (error as { code?: unknown } | null)?.code;
  return typeof code === 'string' ? code : '';
}
