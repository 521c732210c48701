/** The connections to one address of the upstream: bounded in number, the one used last is used next. */
import type { Clock } from './clock.js';
import { Connection, type ConnectionOwner, type ConnectionTimes, type OpenSocket } from './connection.js';
import type { AddressHealth } from './health.js';
import type { PendingCall } from './pending-call.js';

/** What a pool tells the whole upstream. */
export interface PoolOwner {
  /** A call that may take the place that became free in `pool`; undefined when none waits. */
  nextWaiting(pool: Pool): PendingCall | undefined;
  /** See {@link ConnectionOwner}. */
  refused(pool: Pool, call: PendingCall): void;
  lostReused(pool: Pool, call: PendingCall): void;
}

export class Pool implements ConnectionOwner {
  /** Absent where there is only one address: nobody could be preferred to it. */
  readonly health: AddressHealth | undefined;
  readonly times: ConnectionTimes;
  readonly clock: Clock;
  readonly #owner: PoolOwner;
  readonly #open: OpenSocket;
  readonly #connectionsMax: number;
  readonly #connections = new Set<Connection>();
  /** A stack: what is at its bottom goes unused, and is closed for it. */
  readonly #idle: Connection[] = [];
  #isClosed = false;

  constructor(
    owner: PoolOwner,
    health: AddressHealth | undefined,
    open: OpenSocket,
    connectionsMax: number,
    times: ConnectionTimes,
    clock: Clock,
  ) {
    this.#owner = owner;
    this.health = health;
    this.#open = open;
    this.#connectionsMax = connectionsMax;
    this.times = times;
    this.clock = clock;
  }

  /** Calls under way. */
  get busy(): number {
    return this.#connections.size - this.#idle.length;
  }

  /** Whether it may be asked. */
  get isPreferred(): boolean {
    return this.health === undefined || this.health.accepts(this.busy);
  }

  get hasRoom(): boolean {
    return this.#idle.length > 0 || this.#connections.size < this.#connectionsMax;
  }

  /** Sends a request, over an idle connection or one that is opened for it; there must be room. */
  send(call: PendingCall): void {
    if (call.retried) this.#sendAnew(call);
    else {
      const idle = this.#idle.pop();
      if (idle === undefined) this.#connections.add(new Connection(this, this.#open, call));
      else idle.send(call);
    }
  }

  /** What was lost over a kept connection goes over a new one: the other kept ones may have been given up with it. */
  #sendAnew(call: PendingCall): void {
    if (this.#connections.size >= this.#connectionsMax) {
      const oldest = this.#idle.shift();
      if (oldest !== undefined) {
        this.#connections.delete(oldest);
        oldest.destroy();
      }
    }
    this.#connections.add(new Connection(this, this.#open, call));
  }

  released(connection: Connection): void {
    const next = this.#owner.nextWaiting(this);
    if (next !== undefined && !next.retried) {
      connection.send(next);
      return;
    }
    this.#idle.push(connection);
    if (next !== undefined) this.send(next);
  }

  closed(connection: Connection): void {
    if (!this.#connections.delete(connection)) return;
    const at = this.#idle.indexOf(connection);
    if (at >= 0) this.#idle.splice(at, 1);
    if (this.#isClosed) return;
    const next = this.#owner.nextWaiting(this);
    if (next !== undefined) this.send(next);
  }

  refused(call: PendingCall): void {
    this.judged(false);
    this.#owner.refused(this, call);
  }

  lostReused(call: PendingCall): void {
    this.#owner.lostReused(this, call);
  }

  judged(isGood: boolean): void {
    this.health?.judged(isGood, this.clock.nowMs);
  }

  /** Moves on every connection whose deadline has passed. */
  sweep(): void {
    const { nowMs } = this.clock;
    for (const connection of this.#connections) if (connection.deadlineMs <= nowMs) connection.expired();
  }

  /** Ends every connection; calls under way fail. */
  close(fail: (connection: Connection) => void): void {
    this.#isClosed = true;
    for (const connection of this.#connections) fail(connection);
  }
}
