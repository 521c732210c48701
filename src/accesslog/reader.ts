/**
 * Reads the access log back: a tenant's streams, day after day in either direction in bounded pages, and live.
 *
 * An entry stands in the stream of the day on which its request arrived, in the order in which batches were written.
 * Its id (the time of writing) is therefore a little later than its `time`, minutes after an outage of Redis.
 */
import { keys } from '../redis/keys.js';
import type { RedisConnection } from '../redis/target.js';
import { noTenant } from './batch.js';
import { dayName, dayOf, gapOutcome } from './entry.js';

/** An entry as it was read. */
export interface LoggedEntry {
  /** Id in its stream: ms of writing and a counter, `1732300000000-0`. */
  readonly id: string;
  /** RFC 3339, UTC. */
  readonly time: string;
  readonly requestId: string;
  /** '' for requests of no known tenant. */
  readonly tenant: string;
  readonly tokenId: string;
  readonly method: string;
  readonly path: string;
  readonly route: string;
  readonly status: number;
  readonly outcome: string;
  readonly durationMs: number;
  readonly upstreamMs: number;
  readonly bytesIn: number;
  readonly bytesOut: number;
  readonly ip: string;
  readonly userAgent: string;
  /** In a gap record (outcome `log-gap`): entries that are missing; else 0. */
  readonly dropped: number;
}

/** What an entry must be like; a gap record passes every filter, since nobody knows what is missing. */
export interface LogFilter {
  readonly tokenId?: string | undefined;
  /** Inclusive. */
  readonly status?: { readonly from: number; readonly to: number } | undefined;
  readonly pathPrefix?: string | undefined;
}

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

const pageEntries = 500;
/** How far the clocks of Redis and a sidecar may be apart, ms. */
const clockToleranceMs = 5 * 60_000;

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
  const firstDay = dayOf(range.fromMs);
  const lastDay = dayOf(range.toMs);
  const oldest = String(Math.max(0, Math.floor(range.fromMs) - clockToleranceMs));
  const newest = range.writtenBeforeMs === undefined ? '+' : `(${range.writtenBeforeMs}`;
  for (let step = 0; step <= lastDay - firstDay; step += 1) {
    const stream = streamOf(tenant, forward ? firstDay + step : lastDay - step);
    let cursor = '';
    for (;;) {
      const page = forward
        ? await redis.xrange(stream, cursor === '' ? oldest : `(${cursor}`, newest, 'COUNT', pageEntries)
        : await redis.xrevrange(stream, cursor === '' ? newest : `(${cursor}`, oldest, 'COUNT', pageEntries);
      for (const [id, fields] of page) {
        const entry = entryOf(id, fields);
        const timeMs = Date.parse(entry.time);
        if (timeMs >= range.fromMs && timeMs <= range.toMs && matches(entry, range.filter)) yield entry;
      }
      if (page.length < pageEntries) break;
      cursor = page.at(-1)?.[0] ?? '';
    }
  }
}

export interface FollowOptions {
  /** Asked again and again: a tenant that is created meanwhile is followed too. */
  readonly tenants: () => Promise<readonly string[]>;
  readonly filter: LogFilter;
  /** Ends the reading. */
  readonly signal: AbortSignal;
  /** Time of Redis, Unix ms; what was written before is left out. It lies in the last minutes. */
  readonly fromMs: number;
}

/** Below the command timeout of the connection. */
const blockMs = 1000;
const tenantsEveryMs = 5000;
/** Entries of a day may still be written after it has ended, ms: requests that took long, batches of an outage. */
const lateMs = 15 * 60_000;

/**
 * Entries as they are written, across midnight, until `signal` is aborted. `redis` is a connection of its own: it blocks.
 * While Redis is away it waits and goes on where it was.
 */
export async function* follow(redis: RedisConnection, options: FollowOptions): AsyncGenerator<LoggedEntry> {
  const positions = new Map<string, string>();
  const start = `${Math.max(0, Math.floor(options.fromMs) - 1)}-18446744073709551615`;
  let tenants: readonly string[] = [];
  let tenantsAtMs = Number.NEGATIVE_INFINITY;
  while (!options.signal.aborted) {
    try {
      if (performance.now() - tenantsAtMs > tenantsEveryMs) {
        tenants = await options.tenants();
        tenantsAtMs = performance.now();
      }
      const streams = currentStreams(tenants, Date.now());
      for (const known of positions.keys()) {
        if (!streams.includes(known)) positions.delete(known);
      }
      const from = streams.map((stream) => positions.get(stream) ?? start);
      const reply = await redis.xread('COUNT', pageEntries, 'BLOCK', blockMs, 'STREAMS', ...streams, ...from);
      for (const [stream, page] of reply ?? []) {
        for (const [id, fields] of page) {
          const entry = entryOf(id, fields);
          if (matches(entry, options.filter)) yield entry;
          positions.set(stream, id);
        }
      }
    } catch (error) {
      if (options.signal.aborted) return;
      if (error instanceof Error && error.name === 'ReplyError' && !/^(LOADING|BUSY|MASTERDOWN)/.test(error.message)) {
        throw error;
      }
      await readyOrAborted(redis, options.signal);
    }
  }
}

function currentStreams(tenants: readonly string[], nowMs: number): string[] {
  const days = new Set([dayOf(nowMs - lateMs), dayOf(nowMs)]);
  return [...days].flatMap((day) => tenants.map((tenant) => streamOf(tenant, day)));
}

/** Answers when the connection is usable again; at the latest after a second, for another try. */
function readyOrAborted(redis: RedisConnection, signal: AbortSignal): Promise<void> {
  return new Promise((resolve) => {
    const done = (): void => {
      clearTimeout(timer);
      redis.off('ready', done);
      signal.removeEventListener('abort', done);
      resolve();
    };
    const timer = setTimeout(done, 1000);
    redis.once('ready', done);
    signal.addEventListener('abort', done, { once: true });
  });
}

function streamOf(tenant: string, day: number): string {
  return keys.log(tenant === '' ? noTenant : tenant, dayName(day));
}

function entryOf(id: string, fields: readonly string[]): LoggedEntry {
  const named = new Map<string, string>();
  for (let place = 0; place + 1 < fields.length; place += 2)
    named.set(fields[place] as string, fields[place + 1] ?? '');
  const text = (name: string): string => named.get(name) ?? '';
  const number = (name: string): number => Number(named.get(name) ?? 0) || 0;
  return {
    id,
    time: text('time'),
    requestId: text('requestId'),
    tenant: text('tenant'),
    tokenId: text('tokenId'),
    method: text('method'),
    path: text('path'),
    route: text('route'),
    status: number('status'),
    outcome: text('outcome'),
    durationMs: number('durationMs'),
    upstreamMs: number('upstreamMs'),
    bytesIn: number('bytesIn'),
    bytesOut: number('bytesOut'),
    ip: text('ip'),
    userAgent: text('userAgent'),
    dropped: number('dropped'),
  };
}

function matches(entry: LoggedEntry, filter: LogFilter): boolean {
  if (entry.outcome === gapOutcome) return true;
  if (filter.tokenId !== undefined && entry.tokenId !== filter.tokenId) return false;
  if (filter.status !== undefined && (entry.status < filter.status.from || entry.status > filter.status.to))
    return false;
  return filter.pathPrefix === undefined || entry.path.startsWith(filter.pathPrefix);
}

/** Order of two entries of different streams: by the ms of their writing, then by their time. */
function compareEntries(a: LoggedEntry, b: LoggedEntry): number {
  return Number.parseInt(a.id, 10) - Number.parseInt(b.id, 10) || (a.time < b.time ? -1 : a.time > b.time ? 1 : 0);
}
