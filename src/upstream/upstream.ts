/**
 * The upstream: a keep-alive pool for each of its addresses, and one bounded queue before them.
 *
 * A request is tried again, once, only when nothing can have run twice and the upstream is not to blame: it is
 * replayable, no byte of an answer came, and the connection had carried an answer before (RFC 9112 section 9.3.1: the
 * upstream had already given it up). A connection that never came to stand carried nothing: the request goes to the
 * next address then, whatever its method.
 */
import { type UpstreamAddress } from '../config/formats.js';
import type { UpstreamCall, UpstreamRequest, UpstreamSink } from './call.js';
import { Clock } from './clock.js';
import type { ConnectionTimes } from './connection.js';
import { connectionLost, overloaded, unreachable, upstreamTimedOut } from './failure.js';
import { type CallOwner, PendingCall } from './pending-call.js';
import { Pool, type PoolOwner } from './pool.js';
import { openerOf, type TlsSettings } from './target.js';

export interface UpstreamOptions extends ConnectionTimes {
  readonly addresses: readonly UpstreamAddress[];
  readonly tls: TlsSettings;
  /** To each address. */
  readonly connectionsMax: number;
}

/** Requests that may wait for a connection, per connection: beyond that the answer is 503 `overloaded`. */
const waitingPerConnection = 4;
/** Deadlines are looked at this often at least; more often when the shortest timeout asks for it. */
const tickMaxMs = 100;
const ticksPerTimeout = 8;

export class Upstream implements PoolOwner, CallOwner {
  readonly #times: ConnectionTimes;
  readonly #clock: Clock;
  readonly #pools: readonly Pool[];
  readonly #waitingMax: number;
  /** Calls without a connection, oldest first. */
  readonly #waiting = new Set<PendingCall>();
  /** Where the search for the least busy address begins: ties go round. */
  #turn = 0;

  constructor(options: UpstreamOptions) {
    const { addresses, connectionsMax, tls } = options;
    this.#times = options;
    const shortest = Math.min(options.connectTimeoutMs, options.headTimeoutMs, options.idleTimeoutMs);
    const tickMs = Math.max(1, Math.min(tickMaxMs, Math.floor(shortest / ticksPerTimeout)));
    this.#clock = new Clock(tickMs, () => this.#sweep());
    this.#pools = addresses.map(
      (address) => new Pool(this, address.text, openerOf(address, tls), connectionsMax, this.#times, this.#clock),
    );
    this.#waitingMax = connectionsMax * addresses.length * waitingPerConnection;
  }

  /** Starts a request; the sink hears of it in a later macrotask, never before this returns. */
  send(request: UpstreamRequest, sink: UpstreamSink): UpstreamCall {
    const call = new PendingCall(this, request, sink, this.#clock.after(this.#times.headTimeoutMs));
    if (this.#waiting.size < this.#waitingMax || this.#hasRoom) this.#start(call, undefined);
    else call.fail(overloaded);
    return call;
  }

  /** Closes every connection; calls under way fail. */
  close(): void {
    this.#clock.stop();
    for (const call of this.#waiting) call.fail(connectionLost);
    this.#waiting.clear();
    for (const pool of this.#pools) pool.close((connection) => connection.breakOff(connectionLost));
  }

  forget(call: PendingCall): void {
    this.#waiting.delete(call);
  }

  nextWaiting(): PendingCall | undefined {
    for (const call of this.#waiting) {
      this.#waiting.delete(call);
      return call;
    }
    return undefined;
  }

  refused(pool: Pool, call: PendingCall): void {
    if (++call.refusals < this.#pools.length && call.deadlineMs > this.#clock.nowMs) this.#start(call, pool);
    else call.fail(unreachable);
  }

  lostReused(pool: Pool, call: PendingCall): void {
    if (!call.request.replayable || call.retried) {
      call.fail(connectionLost);
      return;
    }
    call.retried = true;
    this.#start(call, pool);
  }

  judged(_pool: Pool, _isGood: boolean): void {}

  get #hasRoom(): boolean {
    return this.#pools.some((pool) => pool.hasRoom);
  }

  /** Sends a call, to another address than `avoided` if there is one, or lets it wait. */
  #start(call: PendingCall, avoided: Pool | undefined): void {
    const pool = this.#waiting.size > 0 && avoided === undefined ? undefined : this.#choose(avoided);
    if (pool === undefined) this.#waiting.add(call);
    else pool.send(call);
  }

  /** The least busy address that has room. */
  #choose(avoided: Pool | undefined): Pool | undefined {
    const pools = this.#pools;
    const { length } = pools;
    if (length === 1) {
      const pool = pools[0] as Pool;
      return pool.hasRoom ? pool : undefined;
    }
    let best: Pool | undefined;
    let fallback: Pool | undefined;
    this.#turn = (this.#turn + 1) % length;
    for (let offset = 0; offset < length; offset++) {
      const pool = pools[(this.#turn + offset) % length] as Pool;
      if (!pool.hasRoom) continue;
      if (pool === avoided) fallback = pool;
      else if (best === undefined || pool.busy < best.busy) best = pool;
    }
    return best ?? fallback;
  }

  #sweep(): void {
    const { nowMs } = this.#clock;
    for (const call of this.#waiting) {
      if (call.deadlineMs > nowMs) break;
      this.#waiting.delete(call);
      call.fail(upstreamTimedOut);
    }
    for (const pool of this.#pools) pool.sweep();
  }
}
