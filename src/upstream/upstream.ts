/**
 * The upstream: a keep-alive pool for each of its addresses, and one bounded queue before them.
 *
 * A request is tried again, once, only when nothing can have run twice and the upstream is not to blame: it is
 * replayable, no byte of an answer came, and the connection had carried an answer before (RFC 9112 section 9.3.1: the
 * upstream had already given it up). It goes over a new connection then. A connection that never came to stand carried
 * nothing: the request goes to the next address then, whatever its method.
 */
import type { UpstreamAddress } from '../config/formats.js';
import type { UpstreamCall, UpstreamRequest, UpstreamSink } from './call.js';
import { Clock } from './clock.js';
import type { ConnectionTimes } from './connection.js';
import { connectionLost, overloaded, unreachable, upstreamTimedOut } from './failure.js';
import { AddressHealth, type EjectionListener, type HealthSettings } from './health.js';
import { HealthCheck } from './health-check.js';
import { type CallOwner, PendingCall } from './pending-call.js';
import { Pool, type PoolOwner } from './pool.js';
import { openerOf, type TlsSettings } from './target.js';

export interface UpstreamOptions extends ConnectionTimes {
  readonly addresses: readonly UpstreamAddress[];
  readonly tls: TlsSettings;
  /** To each address. */
  readonly connectionsMax: number;
  /** Of each address, where there are several. */
  readonly health: HealthSettings;
  readonly whenEjected: EjectionListener;
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
  readonly #checks: HealthCheck[] = [];
  readonly #waitingMax: number;
  /** Calls without a connection, oldest first. */
  readonly #waiting = new Set<PendingCall>();
  /** Where the search for the least busy address begins: ties go round. */
  #turn = 0;

  constructor(options: UpstreamOptions) {
    const { addresses, connectionsMax, tls, health } = options;
    this.#times = options;
    const timeouts = [options.connectTimeoutMs, options.headTimeoutMs, options.idleTimeoutMs];
    const shortest = Math.min(...timeouts, ...(addresses.length > 1 ? [health.timeoutMs, health.intervalMs] : []));
    const tickMs = Math.max(1, Math.min(tickMaxMs, Math.floor(shortest / ticksPerTimeout)));
    const clock = new Clock(tickMs, () => this.#sweep());
    this.#clock = clock;
    this.#pools = addresses.map((address) => {
      const open = openerOf(address, tls);
      if (addresses.length === 1) return new Pool(this, undefined, open, connectionsMax, this.#times, clock);
      const own = new AddressHealth(address.text, health, options.whenEjected);
      if (health.path !== undefined) {
        const whenChecked = (isGood: boolean): void => own.checked(isGood, clock.nowMs);
        const host = hostOf(address, tls);
        this.#checks.push(new HealthCheck({ ...health, path: health.path, open, clock, host, whenChecked }));
      }
      return new Pool(this, own, open, connectionsMax, this.#times, clock);
    });
    this.#waitingMax = connectionsMax * addresses.length * waitingPerConnection;
  }

  /** Addresses that are set aside. */
  get ejected(): number {
    return this.#pools.filter(({ health }) => health?.isEjected === true).length;
  }

  /** Starts a request; the sink hears of it in a later macrotask, never before this returns. */
  send(request: UpstreamRequest, sink: UpstreamSink): UpstreamCall {
    const call = new PendingCall(this, request, sink, this.#clock.after(this.#times.headTimeoutMs));
    const pool = this.#waiting.size === 0 ? this.#choose(undefined) : undefined;
    if (pool !== undefined) pool.send(call);
    else if (this.#waiting.size < this.#waitingMax) this.#waiting.add(call);
    else call.fail(overloaded);
    return call;
  }

  /** Closes every connection; calls under way fail. */
  close(): void {
    this.#clock.stop();
    for (const check of this.#checks) check.stop();
    for (const call of this.#waiting) call.fail(connectionLost);
    this.#waiting.clear();
    for (const pool of this.#pools) pool.close((connection) => connection.breakOff(connectionLost));
  }

  forget(call: PendingCall): void {
    this.#waiting.delete(call);
  }

  nextWaiting(pool: Pool): PendingCall | undefined {
    if (!pool.isPreferred && this.#pools.some((other) => other.isPreferred)) return undefined;
    for (const call of this.#waiting) {
      this.#waiting.delete(call);
      return call;
    }
    return undefined;
  }

  refused(pool: Pool, call: PendingCall): void {
    if (++call.refusals < this.#pools.length && call.deadlineMs > this.#clock.nowMs) this.#startAgain(call, pool);
    else call.fail(unreachable);
  }

  lostReused(pool: Pool, call: PendingCall): void {
    if (!call.request.replayable || call.retried) {
      call.fail(connectionLost);
      return;
    }
    call.retried = true;
    this.#startAgain(call, pool);
  }

  /** Sends a call, to another address than `avoided` if there is one, or lets it wait. */
  #startAgain(call: PendingCall, avoided: Pool): void {
    const pool = this.#choose(avoided);
    if (pool === undefined) this.#waiting.add(call);
    else pool.send(call);
  }

  /**
   * The least busy address that has room: of those that are preferred, then `avoided`, and of the others only when
   * none is preferred, room or not.
   */
  #choose(avoided: Pool | undefined): Pool | undefined {
    const pools = this.#pools;
    const { length } = pools;
    if (length === 1) {
      const pool = pools[0] as Pool;
      return pool.hasRoom ? pool : undefined;
    }
    let preferred: Pool | undefined;
    let other: Pool | undefined;
    let isAnyPreferred = false;
    this.#turn = (this.#turn + 1) % length;
    for (let offset = 0; offset < length; offset++) {
      const pool = pools[(this.#turn + offset) % length] as Pool;
      const { isPreferred } = pool;
      isAnyPreferred ||= isPreferred;
      if (!pool.hasRoom || pool === avoided) continue;
      if (isPreferred) preferred = lessBusy(preferred, pool);
      else other = lessBusy(other, pool);
    }
    if (preferred !== undefined) return preferred;
    if (avoided?.hasRoom === true && avoided.isPreferred) return avoided;
    if (isAnyPreferred) return undefined;
    return other ?? (avoided?.hasRoom === true ? avoided : undefined);
  }

  #sweep(): void {
    const { nowMs } = this.#clock;
    for (const call of this.#waiting) {
      if (call.deadlineMs > nowMs) continue;
      this.#waiting.delete(call);
      call.fail(upstreamTimedOut);
    }
    for (const pool of this.#pools) {
      pool.sweep();
      pool.health?.tick(nowMs);
    }
    for (const check of this.#checks) check.tick();
    this.#sendWaiting();
  }

  /** What waits goes to an address that was set aside when the wait began. */
  #sendWaiting(): void {
    for (const call of this.#waiting) {
      const pool = this.#choose(undefined);
      if (pool === undefined) return;
      this.#waiting.delete(call);
      pool.send(call);
    }
  }
}

function lessBusy(one: Pool | undefined, other: Pool): Pool {
  return one === undefined || other.busy < one.busy ? other : one;
}

/** What the Host field of a check says. */
function hostOf(address: UpstreamAddress, { serverName }: TlsSettings): string {
  if (address.kind === 'unix') return 'localhost';
  return serverName ?? new URL(address.text).host;
}
