/**
 * The seam between the proxy path and the client that speaks HTTP/1.1 to the upstream. Push style on purpose: no
 * streams, no promises, one sink object a request.
 */
import type { Readable } from 'node:stream';
import type { Denial } from '../core/problems.js';
import type { ResponseHead } from '../http/response-head.js';

/** `bodyLength` of a body whose length is not known in advance. */
export const unknownLength = -1;

export interface UpstreamRequest {
  /** The whole head, request line to empty line, visible ASCII, framing fields included: it is sent as it is. */
  readonly head: string;
  /** HEAD: the answer ends with its head. */
  readonly toHead: boolean;
  /** null: no body. A stream is sent in chunks when `bodyLength` is {@link unknownLength}. */
  readonly body: Buffer | Readable | null;
  readonly bodyLength: number;
  /** Whether a second attempt on another connection cannot do harm (idempotent method, body can be sent again). */
  readonly replayable: boolean;
}

/** Receives one answer: it whole, or head, then pieces, then exactly one of end or failure. */
export interface UpstreamSink {
  /** The answer came in one read. `body` is the caller's memory: it holds until this returns. */
  upstreamAnswer(head: ResponseHead, body: Buffer): void;
  /** The rest is to come. Informational (1xx) answers are not reported. */
  upstreamHead(head: ResponseHead): void;
  /** Answers false to pause until {@link UpstreamCall.resume}. `chunk` is the caller's memory, as above. */
  upstreamChunk(chunk: Buffer): boolean;
  upstreamEnd(): void;
  /** Before the head the denial is the answer; after it the answer was cut short and only closing tells the client. */
  upstreamFailed(denial: Denial): void;
}

export interface UpstreamCall {
  /** Bytes of the request that wait for the connection to take them, those left in its stream aside. */
  readonly unsentBytes: number;
  /** Stops everything; the sink hears nothing more. */
  abort(): void;
  resume(): void;
}
