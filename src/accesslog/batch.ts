/** One batch in the form of lua/log-append.lua: the keys it writes and its arguments, encoded once for every attempt. */
import { keys } from '../redis/keys.js';
import type { ScriptContract } from '../redis/scripts.js';
import { TallyTable } from '../usage/tally.js';
import type { Gap } from './buffer.js';
import { dayExpiresAt, dayMs, dayName, dayOf, gapOutcome, isTokenUse, type LogEntry } from './entry.js';
import { BatchText } from './wire.js';

export const logAppend: ScriptContract = {
  name: 'log-append',
  keys: ['sequence', 'stream...', 'totals...', 'recent...', 'usage...', 'index...'],
  argv: ['number', 'maxEntries', 'indexMax', 'batch'],
};

/**
 * Records of the index of a token and day, about; the oldest go first. A token with more of them has so many entries
 * that looking through the stream finds them at once.
 */
export const indexRecordsMax = 10_000;

/** Name that requests of no known tenant have in the key of their stream; no slug begins with an underscore. */
export const noTenant = '_';

export interface Batch {
  readonly keys: readonly string[];
  readonly args: readonly (string | number | Buffer)[];
  /** Entries in it, gap records not counted. */
  readonly count: number;
}

export interface BatchTarget {
  /** Key that holds the number of the writer's last batch. */
  readonly sequenceKey: string;
  /** Number of this batch, rising with each. */
  readonly number: number;
  /** Numbers the records of the writer in each stream. */
  readonly records: RecordNumbers;
  readonly retentionDays: number;
  readonly streamMaxEntries: number;
}

/** Encodes entries and gap records for one call of the script. */
export function encodeBatch(entries: readonly LogEntry[], gaps: readonly Gap[], target: BatchTarget): Batch {
  const streams = new StreamTable();
  const tallies = new TallyTable();
  const text = new BatchText();
  for (const entry of entries) {
    const stream = streams.streamOf(entry.tenant, dayOf(entry.timeMs));
    stream.count += 1;
    if (entry.timeMs < stream.oldestMs) stream.oldestMs = entry.timeMs;
    text.addEntry(entry, stream.place);
    if (entry.tokenId === '' || entry.tenant === '') continue;
    tallies.add(entry, isTokenUse(entry));
    stream.tokens.add(entry.tokenId);
  }
  for (const { tenant, dropped, timeMs } of gaps) {
    const stream = streams.streamOf(tenant, dayOf(timeMs));
    stream.count += 1;
    stream.tokens.add(gapOutcome);
    text.addGap(stream.place, timeMs, tenant, dropped);
  }

  const places = new UsagePlaces();
  for (const tally of tallies.finish()) text.addUse(places.placeOf(tally.tenant, tally.tokenId), tally);

  const streamKeys: string[] = [];
  const totalsKeys: string[] = [];
  const indexKeys: string[] = [];
  for (const { place, tenant, day, count, oldestMs, tokens } of streams.all) {
    const dayText = dayName(day);
    streamKeys.push(keys.log(tenant, dayText));
    totalsKeys.push(keys.logTotals(tenant, dayText));
    const first = target.records.take(tenant, day, count);
    const expireAt = dayExpiresAt(day, target.retentionDays);
    text.addStream(expireAt, target.records.writer, first, count, oldestMs, places.find(tenant, ''));
    for (const tokenId of tokens) {
      indexKeys.push(keys.logIndex(tenant, tokenId, dayText));
      text.addFind(indexKeys.length, place, tokenId, places.find(tenant, tokenId));
    }
  }
  return {
    keys: [target.sequenceKey, ...streamKeys, ...totalsKeys, ...places.recentKeys, ...places.usageKeys, ...indexKeys],
    args: [target.number, target.streamMaxEntries, indexRecordsMax, text.finish()],
    count: entries.length,
  };
}

/** Which of a batch's usage keys is whose, counted from 1. */
class UsagePlaces {
  readonly usageKeys: string[] = [];
  readonly recentKeys: string[] = [];
  readonly #ofTokens = new Map<string, number>();
  readonly #ofTenants = new Map<string, number>();

  /** `tokenId` '': the tenant as a whole. */
  placeOf(tenant: string, tokenId: string): number {
    const known = this.find(tenant, tokenId);
    if (known !== 0) return known;
    const place = this.usageKeys.push(keys.usage(tenant, tokenId));
    this.recentKeys.push(keys.recentUsage(tenant, tokenId));
    if (tokenId === '') this.#ofTenants.set(tenant, place);
    else this.#ofTokens.set(tokenId, place);
    return place;
  }

  /** 0 when the batch counts nothing of it. */
  find(tenant: string, tokenId: string): number {
    return (tokenId === '' ? this.#ofTenants.get(tenant) : this.#ofTokens.get(tokenId)) ?? 0;
  }
}

/** What a batch leaves in one stream. */
interface BatchStream {
  /** From 1. */
  readonly place: number;
  /** Slug, or {@link noTenant}. */
  readonly tenant: string;
  readonly day: number;
  /** Entries and gap records. */
  count: number;
  /** When its earliest request arrived, Unix ms. */
  oldestMs: number;
  /** Ids, and {@link gapOutcome} for gap records: what the index finds. */
  readonly tokens: Set<string>;
}

class StreamTable {
  /** In the order of their places. */
  readonly all: BatchStream[] = [];
  readonly #byDay = new Map<number, Map<string, BatchStream>>();

  streamOf(tenant: string, day: number): BatchStream {
    let ofDay = this.#byDay.get(day);
    if (ofDay === undefined) {
      ofDay = new Map();
      this.#byDay.set(day, ofDay);
    }
    let stream = ofDay.get(tenant);
    if (stream === undefined) {
      const place = this.all.length + 1;
      stream = {
        place,
        tenant: tenant === '' ? noTenant : tenant,
        day,
        count: 0,
        oldestMs: (day + 1) * dayMs,
        tokens: new Set(),
      };
      this.all.push(stream);
      ofDay.set(tenant, stream);
    }
    return stream;
  }
}

/** Days for which a writer remembers its numbers; what is later still is the backlog of an outage that long. */
const numberedDays = 8;

/**
 * Numbers the records of one writer in each stream from 1 without a hole, so that whoever reads a stream sees when one
 * is missing (src/accesslog/verify.ts).
 */
export class RecordNumbers {
  /** Name of the writer in the records. */
  readonly writer: string;
  readonly #byDay = new Map<number, Map<string, number>>();

  constructor(writer: string) {
    this.writer = writer;
  }

  /** The first of `count` numbers for records in the stream of a tenant and day. */
  take(tenant: string, day: number, count: number): number {
    let ofDay = this.#byDay.get(day);
    if (ofDay === undefined) {
      ofDay = new Map();
      this.#byDay.set(day, ofDay);
      for (const other of this.#byDay.keys()) {
        if (other <= day - numberedDays) this.#byDay.delete(other);
      }
    }
    const last = ofDay.get(tenant) ?? 0;
    ofDay.set(tenant, last + count);
    return last + 1;
  }
}
