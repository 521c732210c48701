/** Asks one address for its health path, over a connection of its own each time, and tells what came of it. */
import type { ResponseHead } from '../http/response-head.js';
import type { UpstreamSink } from './call.js';
import type { Clock } from './clock.js';
import { Connection, type ConnectionOwner, type ConnectionTimes, type OpenSocket } from './connection.js';
import { type CallOwner, PendingCall } from './pending-call.js';

export interface HealthCheckOptions {
  readonly open: OpenSocket;
  readonly clock: Clock;
  /** For the Host field. */
  readonly host: string;
  readonly path: string;
  readonly intervalMs: number;
  /** For connecting, and again for the answer. */
  readonly timeoutMs: number;
  /** Good: an answer of 2xx or 3xx in time. */
  readonly whenChecked: (isGood: boolean) => void;
}

export class HealthCheck implements ConnectionOwner, CallOwner, UpstreamSink {
  readonly clock: Clock;
  readonly times: ConnectionTimes;
  readonly #options: HealthCheckOptions;
  #nextAtMs: number;
  #connection: Connection | undefined;
  #call: PendingCall | undefined;

  constructor(options: HealthCheckOptions) {
    const { clock, timeoutMs } = options;
    this.#options = options;
    this.clock = clock;
    this.times = {
      connectTimeoutMs: timeoutMs,
      headTimeoutMs: timeoutMs,
      idleTimeoutMs: timeoutMs,
      keepAliveMs: 0,
      maxAgeMs: 0,
    };
    this.#nextAtMs = clock.nowMs;
  }

  /** To be called at every tick. */
  tick(): void {
    const { nowMs } = this.clock;
    const connection = this.#connection;
    if (connection !== undefined && connection.deadlineMs <= nowMs) connection.expired();
    if (this.#call !== undefined || nowMs < this.#nextAtMs) return;
    const { open, host, path, intervalMs, timeoutMs } = this.#options;
    this.#nextAtMs = nowMs + intervalMs;
    const head = `GET ${path} HTTP/1.1\r\nhost: ${host}\r\nuser-agent: tollkeeper-health\r\nconnection: close\r\n\r\n`;
    const request = { head, toHead: false, body: null, bodyLength: 0, replayable: false };
    this.#call = new PendingCall(this, request, this, this.clock.after(2 * timeoutMs));
    this.#connection = new Connection(this, open, this.#call);
  }

  stop(): void {
    this.#nextAtMs = Number.POSITIVE_INFINITY;
    this.#call?.abort();
    this.#call = undefined;
  }

  upstreamAnswer(head: ResponseHead): void {
    this.#settle(head.status < 400);
  }

  /** The rest is of no interest. */
  upstreamHead(head: ResponseHead): void {
    this.#call?.abort();
    this.#settle(head.status < 400);
  }

  upstreamChunk(): boolean {
    return true;
  }

  upstreamEnd(): void {}

  upstreamFailed(): void {
    this.#settle(false);
  }

  refused(): void {
    this.#settle(false);
  }

  lostReused(): void {
    this.#settle(false);
  }

  released(connection: Connection): void {
    connection.destroy();
  }

  closed(): void {
    this.#connection = undefined;
  }

  judged(): void {}

  forget(): void {}

  #settle(isGood: boolean): void {
    if (this.#call === undefined) return;
    this.#call = undefined;
    this.#options.whenChecked(isGood);
  }
}
