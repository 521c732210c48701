/**
 * Writes the access log to Redis, each entry exactly once.
 *
 * Algorithm: entries wait in a bounded buffer and leave in numbered batches, one script call each, one in flight. A
 * batch is sent again, under its number, until Redis acknowledges it; the script skips a number it has seen. So a lost
 * reply, a restart or a frozen server neither loses nor doubles an entry, as long as this process lives.
 * Failure: while Redis is away or refuses (out of memory, disk full, replica) the buffer fills. Beyond its bound new
 * entries are dropped, counted, and a gap record goes into the stream of their tenant with the next batch.
 *
 * Hot path: `append` is an array push. Encoding happens once a batch, outside the request (see bench/micro).
 */
import { randomBytes } from 'node:crypto';
import { keys } from '../redis/keys.js';
import { bindScript, loadScript, type RunScript } from '../redis/scripts.js';
import type { RedisConnection } from '../redis/target.js';
import type { Logger } from '../telemetry/logger.js';
import { type Metrics, storeErrorKind } from '../telemetry/metrics.js';
import { type Batch, encodeBatch, logAppend, RecordNumbers } from './batch.js';
import { batchMax, EntryBuffer } from './buffer.js';
import type { LogEntry } from './entry.js';

export interface AccessLogOptions {
  /** A connection of its own (`connect(target, 'log')`); the caller closes it after `close`. */
  readonly redis: RedisConnection;
  readonly retentionDays: number;
  readonly streamMaxEntries: number;
  readonly bufferMaxEntries: number;
  readonly flushIntervalMs: number;
  readonly metrics: Pick<Metrics, 'logEntries' | 'storeError'>;
  readonly logger: Pick<Logger, 'info' | 'warn'>;
}

export interface FlushResult {
  /** Entries that Redis had not acknowledged at the deadline; 0 when all is written. */
  readonly remaining: number;
}

interface Waiter {
  /** Number of settled entries to wait for. */
  readonly target: number;
  readonly done: () => void;
}

const backoffFirstMs = 20;
const backoffMaxMs = 1000;
/** Attempts for a batch that the script itself cannot take; everything else is tried for as long as the process lives. */
const rejectedAttemptsMax = 10;
const lossesReportedEveryMs = 10_000;

/** Tenants of one group share a sequence and so a script call. A single server is one group. */
function groupOf(_tenant: string): string {
  return 'all';
}

export class AccessLog {
  readonly #options: AccessLogOptions;
  readonly #run: RunScript;
  readonly #buffer: EntryBuffer;
  readonly #waiters = new Set<Waiter>();
  readonly #interval: NodeJS.Timeout;
  /** Identifies the numbering of this process. */
  readonly #writer = randomBytes(9).toString('base64url');
  readonly #records = new RecordNumbers(this.#writer.slice(0, 8));
  #number = 0;
  #inFlight: Batch | undefined;
  #attempts = 0;
  #retry: NodeJS.Timeout | undefined;
  #pumpScheduled = false;
  #state: 'open' | 'closing' | 'closed' = 'open';
  /** Entries taken in, and entries whose end (written or failed) is known. */
  #accepted = 0;
  #settled = 0;
  /** Lost since the log last spoke of it. */
  readonly #losses = { dropped: 0, failed: 0 };
  #lossesReportedAtMs = Number.NEGATIVE_INFINITY;

  /** @throws Error when lua/log-append.lua disagrees with this wrapper: a bug, found at the start. */
  constructor(options: AccessLogOptions) {
    this.#options = options;
    this.#run = bindScript(options.redis, loadScript(logAppend));
    this.#buffer = new EntryBuffer(options.bufferMaxEntries);
    this.#interval = setInterval(this.#pump, options.flushIntervalMs);
    this.#interval.unref();
    options.redis.on('ready', this.#sendAgain);
  }

  /** Entries not acknowledged yet, those in flight included. */
  get queued(): number {
    return this.#buffer.size;
  }

  /** Takes an entry; never waits, never throws. What does not fit is dropped and counted. */
  append(entry: LogEntry): void {
    if (this.#state !== 'open' || !this.#buffer.push(entry)) {
      this.#losses.dropped += 1;
      this.#options.metrics.logEntries('dropped', 1);
      return;
    }
    this.#accepted += 1;
    if (!this.#pumpScheduled && this.#inFlight === undefined && this.#buffer.hasFullBatch) {
      this.#pumpScheduled = true;
      // Not now: this is inside somebody's request.
      setImmediate(this.#pump);
    }
  }

  /** Writes what has been appended so far, at once; answers when it is acknowledged or `deadlineMs` have passed. */
  async flush(deadlineMs: number): Promise<FlushResult> {
    const target = this.#accepted;
    if (this.#hasWork) {
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

  /** Takes no more entries, flushes, and gives up what is not acknowledged after `deadlineMs` (counted as dropped). */
  async close(deadlineMs: number): Promise<FlushResult> {
    this.#state = 'closing';
    const result = await this.flush(deadlineMs);
    this.#state = 'closed';
    clearInterval(this.#interval);
    clearTimeout(this.#retry);
    this.#options.redis.off('ready', this.#sendAgain);
    if (result.remaining > 0) this.#options.metrics.logEntries('dropped', result.remaining);
    this.#reportLosses(0);
    return result;
  }

  /** Something waits or is in flight: entries, or a gap record. */
  get #hasWork(): boolean {
    return this.#buffer.size > 0 || this.#buffer.hasGaps || this.#inFlight !== undefined;
  }

  readonly #pump = (): void => {
    this.#pumpScheduled = false;
    if (this.#inFlight !== undefined || this.#state === 'closed') return;
    const gaps = this.#buffer.takeGaps(batchMax);
    const entries = this.#buffer.take();
    if (entries.length === 0 && gaps.length === 0) return;
    this.#number += 1;
    this.#inFlight = encodeBatch(entries, gaps, {
      sequenceKey: keys.logSequence(groupOf(entries[0]?.tenant ?? ''), this.#writer),
      number: this.#number,
      records: this.#records,
      retentionDays: this.#options.retentionDays,
      streamMaxEntries: this.#options.streamMaxEntries,
    });
    this.#send(this.#inFlight);
  };

  #send(batch: Batch): void {
    this.#run(batch.keys, batch.args).then(
      (reply) => this.#acknowledged(batch, reply),
      (error: unknown) => this.#refused(batch, error),
    );
  }

  #acknowledged(batch: Batch, reply: unknown): void {
    const [, written, failed] = reply as [fresh: number, written: number, failed: number];
    if (this.#attempts > 0) {
      this.#options.logger.info({ attempts: this.#attempts, queued: this.queued }, 'access log is written again');
    }
    this.#settle(batch, written, failed);
  }

  #refused(batch: Batch, error: unknown): void {
    if (this.#state === 'closed') return;
    this.#attempts += 1;
    const kind = storeErrorKind(error);
    this.#options.metrics.storeError(kind);
    if (this.#attempts === 1) this.#options.logger.warn({ err: error }, 'access log cannot be written, trying again');
    if (kind === 'script' && this.#attempts >= rejectedAttemptsMax) {
      this.#settle(batch, 0, batch.count);
      return;
    }
    const backoffMs = Math.min(backoffFirstMs * 2 ** Math.min(this.#attempts - 1, 10), backoffMaxMs);
    this.#retry = setTimeout(this.#sendAgain, backoffMs * (0.5 + Math.random() / 2));
    this.#retry.unref();
  }

  /** Ends the wait between two attempts, if there is one. */
  readonly #sendAgain = (): void => {
    if (this.#retry === undefined || this.#inFlight === undefined) return;
    clearTimeout(this.#retry);
    this.#retry = undefined;
    this.#send(this.#inFlight);
  };

  #settle(batch: Batch, written: number, failed: number): void {
    // What was given up at the end has been counted as dropped, even if its acknowledgement comes now.
    if (this.#state === 'closed') return;
    this.#inFlight = undefined;
    this.#attempts = 0;
    this.#buffer.settle(batch.count);
    this.#settled += batch.count;
    if (written > 0) this.#options.metrics.logEntries('written', written);
    if (failed > 0) this.#options.metrics.logEntries('failed', failed);
    this.#losses.failed += failed;
    this.#reportLosses(lossesReportedEveryMs);
    for (const waiter of this.#waiters) {
      if (this.#settled >= waiter.target && !this.#buffer.hasGaps) waiter.done();
    }
    // A backlog or somebody who waits: no pause until the next tick of the interval.
    if (this.#buffer.hasFullBatch || this.#waiters.size > 0) this.#pump();
  }

  /** Says what was lost, at most every `everyMs`: under an overload this would be a line for each batch. */
  #reportLosses(everyMs: number): void {
    const { dropped, failed } = this.#losses;
    const nowMs = performance.now();
    if (dropped + failed === 0 || nowMs - this.#lossesReportedAtMs < everyMs) return;
    this.#lossesReportedAtMs = nowMs;
    this.#losses.dropped = 0;
    this.#losses.failed = 0;
    this.#options.logger.warn(
      { dropped, failed },
      'access log entries were lost: dropped (buffer full) or failed (no stream at the key)',
    );
  }
}
