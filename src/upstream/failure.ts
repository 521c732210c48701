/** Maps what happened to a connection to the problem a client sees. The error's own text never leaves the log. */
import { deny, type Denial } from '../core/problems.js';

/** Refused, not found, no route, a certificate that does not fit, or no connection in time. */
export const unreachable = deny('upstream-unreachable', 'The upstream could not be reached.');
/** The connection went away under the request, before a byte of the answer. */
export const connectionLost = deny('upstream-unreachable', 'The upstream closed the connection before it answered.');
/** No head, or no further byte of a body, within the time set for it. */
export const upstreamTimedOut = deny('upstream-timeout', 'The upstream did not answer in time.');
/** Not one sound HTTP/1.1 answer: neither its head nor its end can be trusted. */
export const invalidResponse = deny('upstream-invalid-response', "The upstream's answer is not valid HTTP.");
/** More requests wait for a connection than may. */
export const overloaded = deny('overloaded', 'Too many requests wait for the upstream.', { retryAfterS: 1 });

/** This process may open no further file: nothing was learned about the upstream. */
export const outOfDescriptors = deny('overloaded', 'This process has no file descriptor left.', { retryAfterS: 1 });

/** Whether an error is a lack of this process or machine, and says nothing about the other side. */
export function isOwnLack(code: string): boolean {
  return code === 'EMFILE' || code === 'ENFILE';
}

/**
 * The denial for a connection that ended under a request. `code`: of the socket's error, '' for a plain end.
 * `answerBegun`: bytes of an answer had come, so what failed is the answer, in its form or before its end.
 */
export function lossDenial(code: string, answerBegun: boolean): Denial {
  if (code === 'ETIMEDOUT') return upstreamTimedOut;
  return answerBegun ? invalidResponse : connectionLost;
}
