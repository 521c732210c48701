/**
 * Proves that the log of a tenant and day is complete. Every writer numbers its records in a stream from 1 without a
 * hole; the first record of each batch carries `writer:first:count` (src/accesslog/batch.ts), and the totals of the day
 * hold the last number of each writer. So these are found: a batch that is missing, a record missing from a batch, the
 * missing end of a writer's records, a stream that is gone, records that nobody numbered.
 *
 * Not found: a changed field, and what a writer had not yet handed to Redis when its process was killed.
 */
import type { RedisConnection } from '../redis/target.js';
import { keys } from '../redis/keys.js';
import { noTenant } from './batch.js';
import { dayName, gapOutcome } from './entry.js';
import { entryOf, type LoggedEntry, streamOf } from './logged-entry.js';

interface MissingRecords {
  readonly writer: string;
  /** Numbers, inclusive. */
  readonly first: number;
  readonly last: number;
  /** How many of these numbers are missing: in a batch it is not known which. */
  readonly count: number;
  /** RFC 3339: time of the last record that is there before them; null: none is. */
  readonly after: string | null;
}

export interface DayVerification {
  readonly tenant: string;
  /** `yyyy-mm-dd`. */
  readonly date: string;
  readonly entries: number;
  readonly batches: number;
  readonly writers: number;
  /** Entries that writers say they had to drop, in gap records. */
  readonly dropped: number;
  /** At most {@link missingMax} stretches. */
  readonly missing: readonly MissingRecords[];
  readonly missingCount: number;
  /** Records missing from the beginning of a stream that has reached its cap (`logStreamMaxEntries`). */
  readonly trimmedCount: number;
  /** Records that belong to no batch: their batch's first record is missing, or something else wrote them. */
  readonly strayCount: number;
  /** Entries from before records were numbered: nothing is known of their neighbours. */
  readonly unnumberedCount: number;
  /** Nothing is missing, dropped, trimmed, stray or unnumbered. */
  readonly complete: boolean;
}

/** Stretches of missing records that are told one by one. */
const missingMax = 100;

const stepEntries = 250;

/** The state of one writer while its records are read. */
interface WriterState {
  /** Number of the last record that is accounted for. */
  last: number;
  lastTime: string | null;
}

/**
 * Reads the whole stream, in small steps. What writers add meanwhile is checked too.
 * @param streamMaxEntries the cap of streams: one that has reached it is trimmed from its beginning.
 * @throws what the connection says.
 */
export async function verifyDay(
  redis: RedisConnection,
  tenant: string,
  day: number,
  streamMaxEntries: number,
): Promise<DayVerification> {
  const stream = streamOf(tenant, day);
  const { lateMs: _lateMs, ...totals } = await redis.hgetall(
    keys.logTotals(tenant === '' ? noTenant : tenant, dayName(day)),
  );
  const walk = new Walk();
  const length = await redis.xlen(stream);
  for (let from = '-'; ; ) {
    const page = await redis.xrange(stream, from, '+', 'COUNT', stepEntries);
    for (const [id, fields] of page) walk.see(entryOf(id, fields));
    if (page.length < stepEntries) break;
    from = `(${page.at(-1)?.[0] ?? ''}`;
  }
  return walk.finish(tenant, dayName(day), totals, length >= streamMaxEntries);
}

/** Goes through the records of one stream in their order. */
class Walk {
  readonly #writers = new Map<string, WriterState>();
  readonly #missing: MissingRecords[] = [];
  #entries = 0;
  #batches = 0;
  #dropped = 0;
  #missingCount = 0;
  /** Missing before the first record of a writer that is there. */
  #missingAtStart = 0;
  #stray = 0;
  #strayAtStart = 0;
  #unnumbered = 0;
  /** The batch whose records come now, and how many of them are still to come. */
  #batch: { readonly writer: string; readonly first: number; readonly count: number; left: number } | undefined;

  see(entry: LoggedEntry): void {
    if (entry.outcome === gapOutcome) this.#dropped += entry.dropped;
    else this.#entries += 1;
    if (entry.batch === undefined) {
      this.#unnumbered += 1;
      return;
    }
    if (entry.batch === '') this.#continue(entry);
    else this.#begin(entry, entry.batch);
  }

  #begin(entry: LoggedEntry, head: string): void {
    this.#endBatch();
    const [writer = '', first, count] = head.split(':');
    const batch = { writer, first: Number(first), count: Number(count), left: Number(count) - 1 };
    if (!(batch.first >= 1 && batch.count >= 1)) {
      this.#stray += 1;
      return;
    }
    this.#batches += 1;
    const state = this.#writers.get(writer) ?? { last: 0, lastTime: null };
    this.#writers.set(writer, state);
    if (batch.first > state.last + 1) {
      const gap = batch.first - state.last - 1;
      if (state.last === 0) this.#missingAtStart += gap;
      this.#miss({ writer, first: state.last + 1, last: batch.first - 1, count: gap, after: state.lastTime });
    }
    // Numbers that were seen already are nobody's: a batch is written once.
    if (batch.first <= state.last) this.#stray += batch.count;
    state.last = Math.max(state.last, batch.first + batch.count - 1);
    state.lastTime = entry.time;
    this.#batch = batch;
  }

  #continue(entry: LoggedEntry): void {
    const batch = this.#batch;
    if (batch === undefined || batch.left === 0) {
      this.#stray += 1;
      if (this.#writers.size === 0) this.#strayAtStart += 1;
      return;
    }
    batch.left -= 1;
    const state = this.#writers.get(batch.writer);
    if (state !== undefined) state.lastTime = entry.time;
  }

  #endBatch(): void {
    const batch = this.#batch;
    this.#batch = undefined;
    if (batch === undefined || batch.left === 0) return;
    const { writer, first, count, left } = batch;
    const after = this.#writers.get(writer)?.lastTime ?? null;
    this.#miss({ writer, first, last: first + count - 1, count: left, after });
  }

  #miss(missing: MissingRecords): void {
    this.#missingCount += missing.count;
    if (this.#missing.length < missingMax) this.#missing.push(missing);
  }

  /** `totals`: the last number of each writer. `trimmed`: the beginning of the stream went because it was full. */
  finish(tenant: string, date: string, totals: Readonly<Record<string, string>>, trimmed: boolean): DayVerification {
    this.#endBatch();
    for (const [writer, total] of Object.entries(totals)) {
      const { last, lastTime } = this.#writers.get(writer) ?? { last: 0, lastTime: null };
      const gap = Number(total) - last;
      if (gap <= 0) continue;
      if (last === 0) this.#missingAtStart += gap;
      this.#miss({ writer, first: last + 1, last: last + gap, count: gap, after: lastTime });
    }
    // The rest of a batch that was cut through stands at the beginning without its first record.
    const trimmedCount = trimmed ? this.#missingAtStart - this.#strayAtStart : 0;
    const missing = trimmed ? this.#missing.filter(({ after }) => after !== null) : this.#missing;
    const missingCount = trimmed ? this.#missingCount - this.#missingAtStart : this.#missingCount;
    const strayCount = trimmed ? this.#stray - this.#strayAtStart : this.#stray;
    const complete = this.#dropped + missingCount + trimmedCount + strayCount + this.#unnumbered === 0;
    return {
      tenant,
      date,
      entries: this.#entries,
      batches: this.#batches,
      writers: Math.max(this.#writers.size, Object.keys(totals).length),
      dropped: this.#dropped,
      missing,
      missingCount,
      trimmedCount,
      strayCount,
      unnumberedCount: this.#unnumbered,
      complete,
    };
  }
}
