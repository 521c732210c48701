/**
 * Writes the access log to Redis, each entry exactly once.
 *
 * Algorithm: entries wait in a bounded buffer and leave in numbered batches, one script call each, one in flight (on a
 * Cluster one for each tenant: lane.ts). A batch is sent again, under its number, until Redis acknowledges it; the
 * script skips a number it has seen. So a lost reply, a restart or a frozen server neither loses nor doubles an entry,
 * as long as this process lives.
 * Failure: while Redis is away or refuses (out of memory, disk full, replica) the buffer fills. Beyond its bound new
 * entries are dropped, counted, and a gap record goes into the stream of their tenant with the next batch.
 *
 * Hot path: `append` is an array push. Encoding happens once a batch, outside the request (see bench/micro).
 */
import { randomBytes } from 'node:crypto';
import { Cluster } from 'ioredis';
import { bindScript, loadScript, type RunScript } from '../redis/scripts.js';
import type { RedisConnection } from '../redis/target.js';
import type { Logger } from '../telemetry/logger.js';
import type { Metrics } from '../telemetry/metrics.js';
import { logAppend, noTenant, RecordNumbers } from './batch.js';
import type { Room } from './buffer.js';
import type { LogEntry } from './entry.js';
import { Lane, type LaneOwner } from './lane.js';

export interface AccessLogOptions {
  /** A connection of its own (`connect(target, 'log')`); the caller closes it after `close`. */
  readonly redis: RedisConnection;
  readonly retentionDays: number;
  readonly streamMaxEntries: number;
  readonly bufferMaxEntries: number;
  readonly flushIntervalMs: number;
  /** Whether memory is so short that entries are dropped (counted, with a gap record) rather than held for long. */
  readonly memoryIsShort?: () => boolean;
  readonly metrics: Pick<Metrics, 'logEntries' | 'storeError'>;
  readonly logger: Pick<Logger, 'info' | 'warn'>;
}

export interface FlushResult {
  /** Entries that Redis had not acknowledged at the deadline; 0 when all is written. */
  readonly remaining: number;
}

export interface CloseDeadlines {
  /** Time without an acknowledgement after which the rest is given up, ms. */
  readonly stalledMs: number;
  /** Time after which it is given up in any case, ms. */
  readonly deadlineMs: number;
}

interface Waiter {
  /** Number of settled entries to wait for. */
  readonly target: number;
  readonly done: () => void;
}

const lossesReportedEveryMs = 10_000;

/** On one server all tenants are one group. */
const everybody = 'all';

export class AccessLog implements LaneOwner {
  readonly options: AccessLogOptions;
  readonly run: RunScript;
  readonly writer = randomBytes(9).toString('base64url');
  readonly records = new RecordNumbers(this.writer.slice(0, 8));
  readonly room: Room;
  /** On one server. */
  readonly #everybody: Lane | undefined;
  /** On a Cluster: a script's keys lie in one slot, so each tenant (by its name in the keys) has a lane while it calls. */
  readonly #byTenant = new Map<string, Lane>();
  /** No lane that is gone has passed it. */
  #numberMax = 0;
  readonly #waiters = new Set<Waiter>();
  readonly #interval: NodeJS.Timeout;
  #state: 'open' | 'closing' | 'closed' = 'open';
  /** Entries taken in, and entries whose end (written or failed) is known. */
  #accepted = 0;
  #settled = 0;
  /** Lost since the log last spoke of it. */
  readonly #losses = { dropped: 0, failed: 0 };
  #lossesReportedAtMs = Number.NEGATIVE_INFINITY;

  /** @throws Error when lua/log-append.lua disagrees with this wrapper: a bug, found at the start. */
  constructor(options: AccessLogOptions) {
    this.options = options;
    this.room = { used: 0, isShort: options.memoryIsShort ?? (() => false) };
    this.run = bindScript(options.redis, loadScript(logAppend));
    if (!(options.redis instanceof Cluster)) this.#everybody = new Lane(this, everybody, 0);
    this.#interval = setInterval(this.#pump, options.flushIntervalMs);
    this.#interval.unref();
    options.redis.on('ready', this.#sendAgain);
  }

  /** Entries not acknowledged yet, those in flight included. */
  get queued(): number {
    return this.room.used;
  }

  get isAwaited(): boolean {
    return this.#waiters.size > 0;
  }

  /** Takes an entry; never waits, never throws. What does not fit is dropped and counted. */
  append(entry: LogEntry): void {
    if (this.#state !== 'open' || !(this.#everybody ?? this.#laneOf(entry.tenant)).push(entry)) {
      this.#losses.dropped += 1;
      this.options.metrics.logEntries('dropped', 1);
      return;
    }
    this.#accepted += 1;
  }

  /** Writes what has been appended so far, at once; answers when it is acknowledged or `deadlineMs` have passed. */
  async flush(deadlineMs: number): Promise<FlushResult> {
    const target = this.#accepted;
    if (this.#lanes().some((lane) => lane.hasWork)) {
      await new Promise<void>((resolve) => {
        const waiter: Waiter = {
          target,
          done: () => {
            clearTimeout(timer);
            this.#waiters.delete(waiter);
            resolve();
          },
        };
        const timer = setTimeout(waiter.done, deadlineMs);
        this.#waiters.add(waiter);
        this.#sendAgain();
        this.#pump();
      });
    }
    return { remaining: Math.max(0, target - this.#settled) };
  }

  /**
   * Takes no more entries and writes those it has. Gives up (counted as dropped) when Redis has acknowledged none for
   * `stalledMs`, or at `deadlineMs`: a backlog that is on its way is no reason to lose it.
   */
  async close({ stalledMs, deadlineMs }: CloseDeadlines): Promise<FlushResult> {
    this.#state = 'closing';
    const endMs = performance.now() + deadlineMs;
    let before = Number.POSITIVE_INFINITY;
    let result = await this.flush(Math.min(stalledMs, deadlineMs));
    while (result.remaining > 0 && result.remaining < before && performance.now() < endMs) {
      before = result.remaining;
      result = await this.flush(Math.min(stalledMs, endMs - performance.now()));
    }
    this.#state = 'closed';
    clearInterval(this.#interval);
    for (const lane of this.#lanes()) lane.close();
    this.options.redis.off('ready', this.#sendAgain);
    if (result.remaining > 0) this.options.metrics.logEntries('dropped', result.remaining);
    this.#reportLosses(0);
    return result;
  }

  settled(count: number, written: number, failed: number): void {
    this.#settled += count;
    if (written > 0) this.options.metrics.logEntries('written', written);
    if (failed > 0) this.options.metrics.logEntries('failed', failed);
    this.#losses.failed += failed;
    this.#reportLosses(lossesReportedEveryMs);
    if (this.#waiters.size === 0) return;
    const hasGaps = this.#lanes().some((lane) => lane.hasGaps);
    for (const waiter of this.#waiters) {
      if (this.#settled >= waiter.target && !hasGaps) waiter.done();
    }
  }

  #lanes(): Lane[] {
    return this.#everybody === undefined ? [...this.#byTenant.values()] : [this.#everybody];
  }

  #laneOf(tenant: string): Lane {
    const group = tenant === '' ? noTenant : tenant;
    let lane = this.#byTenant.get(group);
    if (lane === undefined) {
      lane = new Lane(this, group, this.#numberMax);
      this.#byTenant.set(group, lane);
    }
    return lane;
  }

  readonly #pump = (): void => {
    this.#everybody?.pump();
    for (const [group, lane] of this.#byTenant) {
      if (lane.hasWork) {
        lane.pump();
        continue;
      }
      this.#numberMax = Math.max(this.#numberMax, lane.number);
      this.#byTenant.delete(group);
    }
  };

  readonly #sendAgain = (): void => {
    for (const lane of this.#lanes()) lane.sendAgain();
  };

  /** Says what was lost, at most every `everyMs`: under an overload this would be a line for each batch. */
  #reportLosses(everyMs: number): void {
    const { dropped, failed } = this.#losses;
    const nowMs = performance.now();
    if (dropped + failed === 0 || nowMs - this.#lossesReportedAtMs < everyMs) return;
    this.#lossesReportedAtMs = nowMs;
    this.#losses.dropped = 0;
    this.#losses.failed = 0;
    this.options.logger.warn(
      { dropped, failed },
      'access log entries were lost: dropped (buffer full) or failed (no stream at the key)',
    );
  }
}
