/**
 * The upstream: a keep-alive pool with bounded connections and a bounded queue before it.
 *
 * Uses undici's `dispatch` with raw headers (no streams, no promises). A request is tried a second time only when
 * nothing can have run twice: the connection was lost before a byte of the answer came, and the request is replayable.
 */
import { Pool } from 'undici';
import { deny, type Denial } from '../core/problems.js';
import type { UpstreamCall, UpstreamRequest, UpstreamSink } from './call.js';
import { isLostConnection, upstreamDenial } from './failure.js';

export interface UpstreamOptions {
  /** Origin, `http://host:port` or `https://host:port`. */
  readonly origin: string;
  readonly connectTimeoutMs: number;
  /** Longest wait for the head of an answer, ms. */
  readonly headTimeoutMs: number;
  /** Longest silence between two chunks of an answer, ms. */
  readonly idleTimeoutMs: number;
  readonly connectionsMax: number;
}

/** Requests that may wait for a connection, per connection: beyond that the answer is 503 `overloaded`. */
const waitingPerConnection = 4;

const overloaded = deny('overloaded', 'Too many requests wait for the upstream.', { retryAfterS: 1 });

export class Upstream {
  readonly #pool: Pool;
  readonly #inFlightMax: number;
  readonly origin: string;
  inFlight = 0;

  constructor(options: UpstreamOptions) {
    this.origin = options.origin;
    this.#inFlightMax = options.connectionsMax * (1 + waitingPerConnection);
    this.#pool = new Pool(options.origin, {
      connections: options.connectionsMax,
      pipelining: 1,
      connect: { timeout: options.connectTimeoutMs },
      headersTimeout: options.headTimeoutMs,
      bodyTimeout: options.idleTimeoutMs,
      // Below what common servers keep an idle connection (Node 5 s): fewer requests meet a dying one.
      keepAliveTimeout: 4000,
      maxHeaderSize: 64 * 1024,
    });
  }

  /**
   * Starts a request; the sink hears of it later, never before this returns, save for one case: a full queue
   * fails at once.
   */
  send(request: UpstreamRequest, sink: UpstreamSink): UpstreamCall {
    const call = new Call(this, this.#pool, request, sink);
    if (this.inFlight >= this.#inFlightMax) {
      call.refuse(overloaded);
      return call;
    }
    this.inFlight++;
    call.start();
    return call;
  }

  /** Closes every connection; calls under way fail. */
  async close(): Promise<void> {
    await this.#pool.destroy();
  }
}

/** One request and its at most two attempts. The method names are those undici's dispatch handlers have. */
class Call implements UpstreamCall {
  readonly #upstream: Upstream;
  readonly #pool: Pool;
  readonly #request: UpstreamRequest;
  readonly #sink: UpstreamSink;
  #abortAttempt: ((reason?: Error) => void) | undefined;
  #resume: (() => void) | undefined;
  #headSeen = false;
  #settled = false;
  #retried = false;

  constructor(upstream: Upstream, pool: Pool, request: UpstreamRequest, sink: UpstreamSink) {
    this.#upstream = upstream;
    this.#pool = pool;
    this.#request = request;
    this.#sink = sink;
  }

  refuse(denial: Denial): void {
    this.#settled = true;
    this.#sink.upstreamFailed(denial);
  }

  start(): void {
    const request = this.#request;
    this.#pool.dispatch(
      {
        method: request.method,
        path: request.target,
        headers: request.headers,
        body: request.body,
        // Without this undici would hold back a non-idempotent request; each connection carries one request anyway.
        blocking: false,
        idempotent: request.replayable,
      },
      this,
    );
  }

  abort(): void {
    if (this.#settled) return;
    this.#settle();
    this.#abortAttempt?.(aborted);
  }

  resume(): void {
    this.#resume?.();
  }

  onConnect(abort: (reason?: Error) => void): void {
    if (this.#settled) {
      abort(aborted);
      return;
    }
    this.#abortAttempt = abort;
  }

  onHeaders(status: number, headers: Buffer[], resume: () => void): boolean {
    if (this.#settled || status < 200) return true;
    this.#headSeen = true;
    this.#resume = resume;
    this.#sink.upstreamHead(status, headers);
    return true;
  }

  onData(chunk: Buffer): boolean {
    return this.#settled || this.#sink.upstreamChunk(chunk);
  }

  onComplete(): void {
    if (this.#settled) return;
    this.#settle();
    this.#sink.upstreamEnd();
  }

  onError(error: Error): void {
    if (this.#settled) return;
    if (!this.#headSeen && !this.#retried && this.#request.replayable && isLostConnection(error)) {
      this.#retried = true;
      this.#abortAttempt = undefined;
      this.start();
      return;
    }
    this.#settle();
    this.#sink.upstreamFailed(upstreamDenial(error));
  }

  #settle(): void {
    this.#settled = true;
    this.#upstream.inFlight--;
  }
}

const aborted = new Error('the client left');
