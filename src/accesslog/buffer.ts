/**
 * Entries waiting to be written, bounded, in batches from the start: a push is one array push, a batch is taken whole.
 * What does not fit is dropped and counted per tenant, until the count is taken to be written as a gap record.
 */
import type { LogEntry } from './entry.js';

/** Entries a batch: it holds Redis for 1 ms where tokens are few, for 3 to 5 ms where each entry has its own. */
export const batchMax = 200;

/** Tenants whose drops are told apart; those of further ones are counted under '' (no tenant). */
export const gapTenantsMax = 1000;

/** Stands for entries of one tenant that were dropped. */
export interface Gap {
  readonly tenant: string;
  dropped: number;
  /** Time of the last entry dropped, Unix ms. */
  timeMs: number;
}

/** With so little memory that the process might end, no more entries than these wait: requests come first. */
const entriesMaxWhenShort = 1000;

/** Places for entries that several buffers share. */
export interface Room {
  used: number;
  /** Whether memory is short; asked only when many entries wait. */
  readonly isShort: () => boolean;
}

export class EntryBuffer {
  readonly #entriesMax: number;
  readonly #room: Room;
  /** Batches that are full, oldest first; `#filling` comes after them. */
  readonly #full: LogEntry[][] = [];
  #filling: LogEntry[] = [];
  #size = 0;
  #gaps = new Map<string, Gap>();

  /** `entriesMax` bounds what waits and what has been taken but not {@link settle}d, in all buffers of the room. */
  constructor(entriesMax: number, room: Room = { used: 0, isShort: () => false }) {
    this.#entriesMax = entriesMax;
    this.#room = room;
  }

  /** Entries that wait or were taken and are not settled. */
  get size(): number {
    return this.#size;
  }

  /** True when a full batch waits. */
  get hasFullBatch(): boolean {
    return this.#full.length > 0;
  }

  /** True when something was dropped and {@link takeGaps} has not answered it yet. */
  get hasGaps(): boolean {
    return this.#gaps.size > 0;
  }

  /** Takes the entry, or counts it as dropped and answers false. */
  push(entry: LogEntry): boolean {
    const { used } = this.#room;
    if (used >= this.#entriesMax || (used >= entriesMaxWhenShort && this.#room.isShort())) {
      this.#drop(entry);
      return false;
    }
    this.#room.used += 1;
    this.#size += 1;
    if (this.#filling.push(entry) === batchMax) {
      this.#full.push(this.#filling);
      this.#filling = [];
    }
    return true;
  }

  /** The oldest entries, at most {@link batchMax}; they count as waiting until they are settled. */
  take(): readonly LogEntry[] {
    const full = this.#full.shift();
    if (full !== undefined) return full;
    const partial = this.#filling;
    if (partial.length > 0) this.#filling = [];
    return partial;
  }

  /** `count` entries that were taken are done with: there is room for as many. */
  settle(count: number): void {
    this.#room.used -= count;
    this.#size -= count;
  }

  /** What was dropped since it was last asked, at most `max` tenants of it. */
  takeGaps(max: number): readonly Gap[] {
    if (this.#gaps.size === 0) return [];
    const gaps: Gap[] = [];
    for (const [tenant, gap] of this.#gaps) {
      if (gaps.length === max) break;
      gaps.push(gap);
      this.#gaps.delete(tenant);
    }
    return gaps;
  }

  #drop(entry: LogEntry): void {
    const tenant = this.#gaps.has(entry.tenant) || this.#gaps.size < gapTenantsMax ? entry.tenant : '';
    const gap = this.#gaps.get(tenant);
    if (gap === undefined) {
      this.#gaps.set(tenant, { tenant, dropped: 1, timeMs: entry.timeMs });
      return;
    }
    gap.dropped += 1;
    gap.timeMs = Math.max(gap.timeMs, entry.timeMs);
  }
}
