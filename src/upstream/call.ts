/**
 * The seam between the proxy path and whatever speaks HTTP/1.1 to the upstream. Push style on purpose: no streams,
 * no promises, one sink object a request.
 */
import type { Readable } from 'node:stream';
import type { Denial } from '../core/problems.js';

export interface UpstreamRequest {
  readonly method: string;
  /** Path and query exactly as matched by the policy; starts with '/'. */
  readonly target: string;
  /** Flat name, value, name, value …; framing headers are the client's business, not the caller's. */
  readonly headers: string[];
  /** null: no body. A Buffer is sent with its length, a stream with `bodyLength` or chunked when that is -1. */
  readonly body: Buffer | Readable | null;
  readonly bodyLength: number;
  /** Whether a second attempt on another connection cannot do harm (idempotent method, body can be sent again). */
  readonly replayable: boolean;
}

/** Receives one answer: head, then chunks, then exactly one of end or failure. */
export interface UpstreamSink {
  /** `rawHeaders` is flat and as received; informational (1xx) answers are not reported. */
  upstreamHead(status: number, rawHeaders: readonly Buffer[]): void;
  /** Answers false to pause until {@link UpstreamCall.resume}. The chunk is the sink's to keep. */
  upstreamChunk(chunk: Buffer): boolean;
  upstreamEnd(): void;
  /** Before the head the denial is the answer; after it the answer was cut short and only closing tells the client. */
  upstreamFailed(denial: Denial): void;
}

export interface UpstreamCall {
  /** Stops everything; the sink hears nothing more. */
  abort(): void;
  resume(): void;
}
