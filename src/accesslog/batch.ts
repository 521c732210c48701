/** One batch in the form of lua/log-append.lua: the keys it writes and its arguments, encoded once for every attempt. */
import { keys } from '../redis/keys.js';
import type { ScriptContract } from '../redis/scripts.js';
import type { Gap } from './buffer.js';
import { dayExpiresAt, dayName, dayOf, isTokenUse, type LogEntry } from './entry.js';
import { BatchText } from './wire.js';

export const logAppend: ScriptContract = {
  name: 'log-append',
  keys: ['sequence', 'stream...', 'usage...'],
  argv: ['number', 'maxEntries', 'batch', 'expireAt...'],
};

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
  readonly retentionDays: number;
  readonly streamMaxEntries: number;
}

interface Use {
  readonly key: string;
  calls: number;
  lastMs: number;
  ip: string;
}

/** Encodes entries and gap records for one call of the script. */
export function encodeBatch(entries: readonly LogEntry[], gaps: readonly Gap[], target: BatchTarget): Batch {
  const streams = new StreamTable(target.retentionDays);
  const uses = new Map<string, Use>();
  const text = new BatchText();
  for (const entry of entries) {
    text.addEntry(entry, streams.placeOf(entry.tenant, dayOf(entry.timeMs)));
    if (isTokenUse(entry)) addUse(uses, entry);
  }
  for (const { tenant, dropped, timeMs } of gaps) {
    text.addGap(streams.placeOf(tenant, dayOf(timeMs)), timeMs, tenant, dropped);
  }
  const usageKeys: string[] = [];
  for (const use of uses.values()) {
    usageKeys.push(use.key);
    text.addUse(usageKeys.length, use.calls, use.lastMs, use.ip);
  }
  return {
    keys: [target.sequenceKey, ...streams.keys, ...usageKeys],
    args: [target.number, target.streamMaxEntries, text.finish(), ...streams.expireAt],
    count: entries.length,
  };
}

function addUse(uses: Map<string, Use>, entry: LogEntry): void {
  const use = uses.get(entry.tokenId);
  if (use === undefined) {
    const key = keys.usage(entry.tenant, entry.tokenId);
    uses.set(entry.tokenId, { key, calls: 1, lastMs: entry.timeMs, ip: entry.ip });
    return;
  }
  use.calls += 1;
  if (entry.timeMs >= use.lastMs) {
    use.lastMs = entry.timeMs;
    use.ip = entry.ip;
  }
}

/** The streams of a batch, each with its place (from 1) and its expiry. */
class StreamTable {
  readonly keys: string[] = [];
  /** Unix seconds, in the order of `keys`. */
  readonly expireAt: number[] = [];
  readonly #retentionDays: number;
  readonly #places = new Map<number, Map<string, number>>();

  constructor(retentionDays: number) {
    this.#retentionDays = retentionDays;
  }

  placeOf(tenant: string, day: number): number {
    let ofDay = this.#places.get(day);
    if (ofDay === undefined) {
      ofDay = new Map();
      this.#places.set(day, ofDay);
    }
    let place = ofDay.get(tenant);
    if (place === undefined) {
      this.keys.push(keys.log(tenant === '' ? noTenant : tenant, dayName(day)));
      this.expireAt.push(dayExpiresAt(day, this.#retentionDays));
      place = this.keys.length;
      ofDay.set(tenant, place);
    }
    return place;
  }
}
