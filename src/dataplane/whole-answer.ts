/**
 * Answers that leave whole, in one cork: a head that is one text, and a body.
 *
 * Facts of the binding (measured on 20.48) that shape this file:
 * - every call into it costs 0.1 to 0.2 us, and what `writeStatus` is given is written as it is: the status line and all
 *   fields of ours are one text with line breaks in it;
 * - `end(body, true)` writes `Connection: close` at the point it has reached, so it may end only an answer of which
 *   nothing was written yet; where the request said close in five letters, it closes without saying so;
 * - `endWithoutBody(n)` leaves the answer pending, `endWithoutBody(undefined, true)` writes a length of 2^63 - 1: HEAD
 *   writes Content-Length itself and calls it without arguments.
 */
import { statusLine } from '../http/problem.js';
import type { HttpResponse } from './binding.js';

export interface WholeAnswer {
  readonly res: HttpResponse;
  readonly status: number;
  /** Value of `X-Request-Id` with all further fields, each begun by CR LF. */
  readonly fields: string;
  readonly text: string;
  /** Of the text, in bytes. */
  readonly bytes: number;
  /** To a HEAD request: the text is announced, not sent. */
  readonly toHead: boolean;
  /** The connection ends with it. */
  readonly closing: boolean;
  /** The value of the request's Connection header. */
  readonly connection: string;
}

/** Sends an answer; nothing of it may have been written. Answers the bytes of its body. */
export function sendWhole(answer: WholeAnswer): number {
  corked = answer;
  bytesSent = 0;
  answer.res.cork(writeCorked);
  corked = undefined;
  return bytesSent;
}

/** Sends a whole body behind a head that was written in this cork. */
export function endWhole(res: HttpResponse, body: string | Buffer, closing: boolean, connection: string): void {
  if (closing && connection.length === 5) res.writeHeader('Connection', 'close');
  res.end(body, closing);
}

// One function for the corks of all answers, instead of a closure each: a cork calls it at once.
let corked: WholeAnswer | undefined;
let bytesSent = 0;

const writeCorked = (): void => {
  if (corked === undefined) return;
  const { res, status, fields, text, bytes, toHead, closing, connection } = corked;
  res.writeStatus(`${statusLine(status)}\r\nX-Request-Id: ${fields}`);
  // An empty text is the same answer to HEAD as to any other method.
  if (!toHead || bytes === 0) {
    bytesSent = bytes;
    endWhole(res, text, closing, connection);
  } else if (closing) {
    res.writeHeader('Connection', 'close');
    res.tryEnd('', bytes);
  } else {
    res.writeHeader('Content-Length', String(bytes));
    res.endWithoutBody();
  }
};
