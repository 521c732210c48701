/**
 * Reads the access log of one or several tenants back as one list, day after day in either direction, never more in
 * memory than a step of each tenant (src/accesslog/scan.ts).
 */
import type { RedisConnection } from '../redis/target.js';
import { dayOf } from './entry.js';
import { idMs, type LogFilter, type LoggedEntry, matches } from './logged-entry.js';
import { scanDayBackward, scanDayForward } from './scan.js';

export interface LogRange {
  /** Slugs; '' stands for requests of no known tenant. */
  readonly tenants: readonly string[];
  /** Unix ms, inclusive; compared with the time of the request. */
  readonly fromMs: number;
  readonly toMs: number;
  /** Leaves out what was written at or after this time of Redis, Unix ms: {@link follow} goes on from there. */
  readonly writtenBeforeMs?: number | undefined;
  readonly filter: LogFilter;
}

/** Entries of all tenants in the order of their writing, oldest first. */
export function readForward(redis: RedisConnection, range: LogRange): AsyncGenerator<LoggedEntry> {
  return merged(redis, range, true);
}

/** As {@link readForward}, newest first. */
export function readBackward(redis: RedisConnection, range: LogRange): AsyncGenerator<LoggedEntry> {
  return merged(redis, range, false);
}

async function* merged(redis: RedisConnection, range: LogRange, forward: boolean): AsyncGenerator<LoggedEntry> {
  const sources = range.tenants.map((tenant) => tenantEntries(redis, tenant, range, forward));
  const heads: { entry: LoggedEntry; source: AsyncGenerator<LoggedEntry> }[] = [];
  const firsts = await Promise.all(sources.map((source) => source.next()));
  for (const [place, { value, done }] of firsts.entries()) {
    if (done !== true) heads.push({ entry: value, source: sources[place] as AsyncGenerator<LoggedEntry> });
  }
  while (heads.length > 0) {
    const head = heads.reduce((first, other) => {
      const order = compareEntries(other.entry, first.entry);
      return (forward ? order < 0 : order > 0) ? other : first;
    });
    yield head.entry;
    const { value, done } = await head.source.next();
    if (done === true) heads.splice(heads.indexOf(head), 1);
    else head.entry = value;
  }
}

async function* tenantEntries(
  redis: RedisConnection,
  tenant: string,
  range: LogRange,
  forward: boolean,
): AsyncGenerator<LoggedEntry> {
  const { fromMs, toMs, writtenBeforeMs, filter } = range;
  const firstDay = dayOf(fromMs);
  const lastDay = dayOf(toMs);
  for (let step = 0; step <= lastDay - firstDay; step += 1) {
    const day = forward ? firstDay + step : lastDay - step;
    const before = writtenBeforeMs === undefined ? undefined : `${writtenBeforeMs}-0`;
    const scan = { tenant, day, fromMs, toMs, before, tokenId: filter.tokenId };
    for await (const { entries } of forward ? scanDayForward(redis, scan) : scanDayBackward(redis, scan)) {
      for (const entry of entries) {
        const timeMs = Date.parse(entry.time);
        if (timeMs >= fromMs && timeMs <= toMs && matches(entry, filter)) yield entry;
      }
    }
  }
}

/** Order of two entries of different streams: by the ms of their writing, then by their time. */
function compareEntries(a: LoggedEntry, b: LoggedEntry): number {
  return idMs(a.id) - idMs(b.id) || (a.time < b.time ? -1 : a.time > b.time ? 1 : 0);
}
