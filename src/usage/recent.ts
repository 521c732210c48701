/**
 * What lua/log-append.lua has not added up in the usage of a token or tenant yet: the records of its last batches, one
 * behind the other. A reader adds them up itself.
 */
import { Unpackr } from 'msgpackr';
import type { StoredUsage } from './report.js';
import { addSums, type Sums, sumsOf } from './sums.js';
import { hourMs } from './tally.js';

/** What one batch counted of a token or tenant in one hour. */
export interface RecentRecord {
  /** Since 1970. */
  readonly hour: number;
  readonly sums: Sums;
  readonly calls: number;
  /** null: no request of the batch was a call. */
  readonly lastUsed: StoredUsage['lastUsed'];
  readonly routes: readonly (readonly [route: string, calls: number])[];
}

/** Routes that are told apart, as in lua/log-append.lua. */
const routesMax = 64;

const unpackr = new Unpackr({ mapsAsObjects: false, int64AsType: 'number' });

type Packed = [
  hour: number,
  sums: ReadonlyMap<string | number, number>,
  calls: number,
  lastUsedMs: number,
  ip: string,
  userAgent: string,
  routes: (string | number)[],
];

/**
 * Reads the records of a key, oldest batch first.
 * @throws Error when it holds something else.
 */
export function unpackRecent(packed: Buffer | null): RecentRecord[] {
  if (packed === null) return [];
  const records: RecentRecord[] = [];
  unpackr.unpackMultiple(packed, (value: unknown) => {
    // The byte that is left when records were added up.
    if (value === 0) return;
    if (!Array.isArray(value) || !(value[1] instanceof Map)) throw new Error('recent usage is not what was counted');
    const [hour, sums, calls, lastUsedMs, ip, userAgent, routes] = value as Packed;
    records.push({
      hour,
      sums: sumsOf(sums).sums,
      calls,
      lastUsed: calls > 0 ? { atMs: hour * hourMs + lastUsedMs, ip, userAgent } : null,
      routes: Array.from({ length: routes.length / 2 }, (_, place) => [
        routes[place * 2] as string,
        routes[place * 2 + 1] as number,
      ]),
    });
  });
  return records;
}

/** `stored` with the records added up as the script will do it. */
export function withRecent(stored: StoredUsage, records: readonly RecentRecord[]): StoredUsage {
  let { lastUsed, otherRoutesCalls } = stored;
  const hours = new Map(stored.hours);
  const routes = new Map(stored.routes);
  for (const record of records) {
    hours.set(record.hour, addSums([hours.get(record.hour) ?? addSums([]), record.sums]));
    if (record.lastUsed !== null && record.lastUsed.atMs >= (lastUsed?.atMs ?? 0)) lastUsed = record.lastUsed;
    for (const [route, calls] of record.routes) {
      if (routes.has(route) || routes.size < routesMax) routes.set(route, (routes.get(route) ?? 0) + calls);
      else otherRoutesCalls += calls;
    }
  }
  return { ...stored, lastUsed, hours, routes, otherRoutesCalls };
}
