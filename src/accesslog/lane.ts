/**
 * The entries of one group of tenants on their way: numbered batches under a sequence of their own, one in flight, each
 * sent again until it is acknowledged. A group that cannot be written holds up no other.
 */
import { keys } from '../redis/keys.js';
import type { RunScript } from '../redis/scripts.js';
import { storeErrorKind } from '../telemetry/store-error-kind.js';
import { type Batch, encodeBatch, type RecordNumbers } from './batch.js';
import { batchMax, EntryBuffer, type Room } from './buffer.js';
import type { LogEntry } from './entry.js';
import type { AccessLogOptions } from './writer.js';

const backoffFirstMs = 20;
const backoffMaxMs = 1000;
/**
 * Attempts in a row for a batch that the script itself cannot take; everything else is tried for as long as the process
 * lives, and does not count among them.
 */
const rejectedAttemptsMax = 10;

/** What all lanes of a writer share. */
export interface LaneOwner {
  readonly options: AccessLogOptions;
  readonly run: RunScript;
  /** Identifies the numbering of this process. */
  readonly writer: string;
  readonly records: RecordNumbers;
  readonly room: Room;
  /** Somebody waits for everything to be written. */
  readonly isAwaited: boolean;
  /** `count` entries are done with, of which `failed` cannot be written. */
  settled(count: number, written: number, failed: number): void;
}

export class Lane {
  readonly #owner: LaneOwner;
  readonly #sequenceKey: string;
  readonly #buffer: EntryBuffer;
  #number = 0;
  #inFlight: Batch | undefined;
  #attempts = 0;
  /** The last ones of them, which the script itself refused. */
  #rejections = 0;
  #retry: NodeJS.Timeout | undefined;
  #pumpScheduled = false;
  #isClosed = false;

  /** `group` names its sequence; `number` is one that no earlier lane of the group has passed. */
  constructor(owner: LaneOwner, group: string, number: number) {
    this.#owner = owner;
    this.#sequenceKey = keys.logSequence(group, owner.writer);
    this.#buffer = new EntryBuffer(owner.options.bufferMaxEntries, owner.room);
    this.#number = number;
  }

  /** Something waits or is in flight: entries, or a gap record. */
  get hasWork(): boolean {
    return this.#buffer.size > 0 || this.#buffer.hasGaps || this.#inFlight !== undefined;
  }

  get hasGaps(): boolean {
    return this.#buffer.hasGaps;
  }

  /** Number of its last batch. */
  get number(): number {
    return this.#number;
  }

  /** Takes the entry, or counts it for a gap record and answers false. */
  push(entry: LogEntry): boolean {
    if (!this.#buffer.push(entry)) return false;
    if (!this.#pumpScheduled && this.#inFlight === undefined && this.#buffer.hasFullBatch) {
      this.#pumpScheduled = true;
      // Not now: this is inside somebody's request.
      setImmediate(this.pump);
    }
    return true;
  }

  /** Sends the next batch, unless one is in flight. */
  readonly pump = (): void => {
    this.#pumpScheduled = false;
    if (this.#inFlight !== undefined || this.#isClosed) return;
    const gaps = this.#buffer.takeGaps(batchMax);
    const entries = this.#buffer.take();
    if (entries.length === 0 && gaps.length === 0) return;
    this.#number += 1;
    const { retentionDays, streamMaxEntries } = this.#owner.options;
    this.#inFlight = encodeBatch(entries, gaps, {
      sequenceKey: this.#sequenceKey,
      number: this.#number,
      records: this.#owner.records,
      retentionDays,
      streamMaxEntries,
    });
    this.#send(this.#inFlight);
  };

  /** Ends the wait between two attempts, if there is one. */
  readonly sendAgain = (): void => {
    if (this.#retry === undefined || this.#inFlight === undefined) return;
    clearTimeout(this.#retry);
    this.#retry = undefined;
    this.#send(this.#inFlight);
  };

  /** Sends nothing any more; what is acknowledged from now on is not told. */
  close(): void {
    this.#isClosed = true;
    clearTimeout(this.#retry);
  }

  #send(batch: Batch): void {
    this.#owner.run(batch.keys, batch.args).then(
      (reply) => this.#acknowledged(batch, reply),
      (error: unknown) => this.#refused(batch, error),
    );
  }

  #acknowledged(batch: Batch, reply: unknown): void {
    const [, written, failed] = reply as [fresh: number, written: number, failed: number];
    if (this.#attempts > 0) {
      const { logger } = this.#owner.options;
      logger.info({ attempts: this.#attempts, queued: this.#owner.room.used }, 'access log is written again');
    }
    this.#settle(batch, written, failed);
  }

  #refused(batch: Batch, error: unknown): void {
    if (this.#isClosed) return;
    const { metrics, logger } = this.#owner.options;
    this.#attempts += 1;
    const kind = storeErrorKind(error);
    this.#rejections = kind === 'script' ? this.#rejections + 1 : 0;
    metrics.storeError(kind);
    if (this.#attempts === 1) logger.warn({ err: error }, 'access log cannot be written, trying again');
    if (this.#rejections >= rejectedAttemptsMax) {
      this.#settle(batch, 0, batch.count);
      return;
    }
    const backoffMs = Math.min(backoffFirstMs * 2 ** Math.min(this.#attempts - 1, 10), backoffMaxMs);
    this.#retry = setTimeout(this.sendAgain, backoffMs * (0.5 + Math.random() / 2));
    this.#retry.unref();
  }

  #settle(batch: Batch, written: number, failed: number): void {
    // What was given up at the end has been counted as dropped, even if its acknowledgement comes now.
    if (this.#isClosed) return;
    this.#inFlight = undefined;
    this.#attempts = 0;
    this.#rejections = 0;
    this.#buffer.settle(batch.count);
    this.#owner.settled(batch.count, written, failed);
    // A backlog or somebody who waits: no pause until the next tick of the interval.
    if (this.#buffer.hasFullBatch || this.#owner.isAwaited) this.pump();
  }
}
