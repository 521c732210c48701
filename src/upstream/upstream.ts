/**
 * The upstream: a keep-alive pool with bounded connections and a bounded queue before it.
 *
 * Uses undici's `dispatch` with raw headers (no streams, no promises). A request is tried a second time only when
 * nothing can have run twice and the upstream is not to blame: it is replayable, no byte of an answer came, and the
 * connection had carried an answer before (RFC 9112 section 9.3.1: the upstream had already given it up).
 *
 * Measured on undici 7.30, and mended here:
 * - a 204 or 304 that announces a length (RFC 9110 section 8.6 allows it for 304) is reported as a length mismatch
 *   after its head: such an answer is complete with its head;
 * - an answer that ends with its connection is reported complete when the connection was reset: failed;
 * - a transfer coding other than chunked is passed on undecoded: refused;
 * - its head timeout does not run while a request waits for a connection: {@link Upstream} watches those itself;
 * - `100 Continue`, which nobody asked for (Expect is not forwarded), is taken for a broken answer: 502.
 */
import { type buildConnector, Client, type Dispatcher, Pool } from 'undici';
import { deny, type Denial } from '../core/problems.js';
import type { UpstreamCall, UpstreamRequest, UpstreamSink } from './call.js';
import { invalidResponse, isLostConnection, upstreamDenial, upstreamTimedOut } from './failure.js';

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
const sweepIntervalMs = 250;

const overloaded = deny('overloaded', 'Too many requests wait for the upstream.', { retryAfterS: 1 });
const clientLeft = new Error('the client left');

export class Upstream {
  readonly #pool: Pool;
  readonly #inFlightMax: number;
  readonly #headTimeoutMs: number;
  /** Calls without a connection, oldest first. */
  readonly #unconnected = new Set<Call>();
  readonly #sweep: NodeJS.Timeout;
  readonly origin: string;
  /** Calls that hold a connection or wait for one. */
  inFlight = 0;

  constructor(options: UpstreamOptions) {
    this.origin = options.origin;
    this.#headTimeoutMs = options.headTimeoutMs;
    this.#inFlightMax = options.connectionsMax * (1 + waitingPerConnection);
    this.#pool = new Pool(options.origin, {
      factory: (origin, clientOptions) => new Connection(origin, clientOptions),
      connections: options.connectionsMax,
      pipelining: 1,
      connect: { timeout: options.connectTimeoutMs },
      headersTimeout: options.headTimeoutMs,
      bodyTimeout: options.idleTimeoutMs,
      // Below what common servers keep an idle connection (Node 5 s): fewer requests meet a dying one.
      keepAliveTimeout: 4000,
      maxHeaderSize: 64 * 1024,
    });
    this.#sweep = setInterval(() => this.#giveUpUnconnected(), sweepIntervalMs);
    this.#sweep.unref();
  }

  /** Starts a request; the sink hears of it in a later macrotask, never before this returns. */
  send(request: UpstreamRequest, sink: UpstreamSink): UpstreamCall {
    const call = new Call(this, this.#pool, request, sink, performance.now());
    if (this.inFlight >= this.#inFlightMax) {
      setImmediate(() => call.refuse(overloaded));
      return call;
    }
    this.inFlight++;
    this.#unconnected.add(call);
    call.start();
    return call;
  }

  /** Closes every connection; calls under way fail. */
  async close(): Promise<void> {
    clearInterval(this.#sweep);
    await this.#pool.destroy();
  }

  /** For {@link Call}: it waits for a connection no longer. */
  connected(call: Call): void {
    this.#unconnected.delete(call);
  }

  /** For {@link Call}: undici has let go of it. */
  released(call: Call): void {
    this.#unconnected.delete(call);
    this.inFlight--;
  }

  #giveUpUnconnected(): void {
    const sentBeforeMs = performance.now() - this.#headTimeoutMs;
    for (const call of this.#unconnected) {
      if (call.sentAtMs > sentBeforeMs) return;
      this.#unconnected.delete(call);
      call.refuse(upstreamTimedOut);
    }
  }
}

/** One connection at a time, and what undici does not tell of it. */
class Connection extends Client {
  /** It has carried an answer, so the upstream may have given it up since. */
  reused = false;
  /** It broke: an answer that ends with its connection did not end by the upstream's will. */
  broken = false;

  constructor(origin: string | URL, options: Client.Options) {
    const connect = options.connect as buildConnector.connector;
    super(origin, {
      ...options,
      connect: (target, callback) => {
        connect(target, (...result) => {
          this.reused = false;
          this.broken = false;
          result[1]?.prependListener('error', () => {
            this.broken = true;
          });
          callback(...result);
        });
      },
    });
  }

  override dispatch(options: Dispatcher.DispatchOptions, handler: Dispatcher.DispatchHandler): boolean {
    if (handler instanceof Call) handler.connection = this;
    return super.dispatch(options, handler);
  }
}

/** One request and its at most two attempts. The method names are those undici's dispatch handlers have. */
class Call implements UpstreamCall {
  readonly sentAtMs: number;
  /** The connection that carries the attempt, set when undici has chosen one. */
  connection: Connection | undefined;
  readonly #upstream: Upstream;
  readonly #pool: Pool;
  readonly #request: UpstreamRequest;
  readonly #sink: UpstreamSink;
  #abortAttempt: ((reason?: Error) => void) | undefined;
  #resume: (() => void) | undefined;
  #starting = false;
  #answerBegun = false;
  #retried = false;
  /** The sink has heard everything it is to hear; undici may not have finished yet. */
  #settled = false;

  constructor(upstream: Upstream, pool: Pool, request: UpstreamRequest, sink: UpstreamSink, sentAtMs: number) {
    this.#upstream = upstream;
    this.#pool = pool;
    this.#request = request;
    this.#sink = sink;
    this.sentAtMs = sentAtMs;
  }

  /** Fails a call that has no connection; undici drops it when it would get one. */
  refuse(denial: Denial): void {
    if (this.#settled) return;
    this.#settled = true;
    this.#sink.upstreamFailed(denial);
  }

  start(): void {
    const request = this.#request;
    this.#starting = true;
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
    this.#starting = false;
  }

  abort(): void {
    if (this.#settled) return;
    this.#settled = true;
    this.#abortAttempt?.(clientLeft);
  }

  resume(): void {
    this.#resume?.();
  }

  onConnect(abort: (reason?: Error) => void): void {
    if (this.#settled) {
      abort(clientLeft);
      return;
    }
    this.#abortAttempt = abort;
    this.#upstream.connected(this);
  }

  onResponseStarted(): void {
    this.#answerBegun = true;
  }

  onHeaders(status: number, headers: Buffer[], resume: () => void): boolean {
    if (this.#settled || status < 200) return true;
    const isBodiless = status === 204 || status === 304 || this.#request.method === 'HEAD';
    if (!isBodiless && !isDecodable(headers)) {
      this.#settled = true;
      this.#sink.upstreamFailed(invalidResponse);
      this.#abortAttempt?.(clientLeft);
      return true;
    }
    this.#resume = resume;
    this.#sink.upstreamHead(status, headers);
    if (isBodiless) this.#end();
    return true;
  }

  onData(chunk: Buffer): boolean {
    return this.#settled || this.#sink.upstreamChunk(chunk);
  }

  onComplete(): void {
    const { connection } = this;
    if (connection?.broken === true) {
      this.onError(new Error('the connection broke'));
      return;
    }
    if (connection !== undefined) connection.reused = true;
    this.#upstream.released(this);
    this.#end();
  }

  onError(error: Error): void {
    // What undici refuses at once must not be told inside `send`.
    if (this.#starting) {
      setImmediate(() => this.onError(error));
      return;
    }
    if (this.#mayRetry(error)) {
      this.#retried = true;
      this.#abortAttempt = undefined;
      // undici is still busy with the connection that was lost.
      setImmediate(() => this.#retry());
      return;
    }
    this.#upstream.released(this);
    if (this.#settled) return;
    this.#settled = true;
    this.#sink.upstreamFailed(upstreamDenial(error, this.#answerBegun));
  }

  #retry(): void {
    if (this.#settled) this.#upstream.released(this);
    else this.start();
  }

  #mayRetry(error: Error): boolean {
    return (
      !this.#settled &&
      !this.#retried &&
      !this.#answerBegun &&
      this.#request.replayable &&
      this.connection?.reused === true &&
      isLostConnection(error)
    );
  }

  #end(): void {
    if (this.#settled) return;
    this.#settled = true;
    this.#sink.upstreamEnd();
  }
}

/** Whether the body comes in a transfer coding that undici has undone: none, or exactly one `chunked`. */
function isDecodable(headers: readonly Buffer[]): boolean {
  let codings = 0;
  for (let at = 0; at + 1 < headers.length; at += 2) {
    const name = headers[at] as Buffer;
    if (name.length !== transferEncoding.length || name.toString('latin1').toLowerCase() !== transferEncoding) continue;
    codings++;
    if (codings > 1 || (headers[at + 1] as Buffer).toString('latin1').trim().toLowerCase() !== 'chunked') return false;
  }
  return true;
}

const transferEncoding = 'transfer-encoding';
