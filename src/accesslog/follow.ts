/** The access log as it is written, for one reader at its own pace; src/accesslog/live-tail.ts serves many at once. */
import { setTimeout as delay } from 'node:timers/promises';
import type { RedisConnection } from '../redis/target.js';
import { dayOf } from './entry.js';
import { entryOf, type LogFilter, type LoggedEntry, matches, streamOf } from './logged-entry.js';

export interface FollowOptions {
  /** Asked again and again: a tenant that is created meanwhile is followed too. */
  readonly tenants: () => Promise<readonly string[]>;
  readonly filter: LogFilter;
  /** Ends the reading. */
  readonly signal: AbortSignal;
  /** Time of Redis, Unix ms; what was written before is left out. It lies in the last minutes. */
  readonly fromMs: number;
}

/** Entries of one reply. */
const readMax = 250;
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
        if (!streams.some(({ key }) => key === known)) positions.delete(known);
      }
      const positionOf = ({ key }: CurrentStream): string => positions.get(key) ?? start;
      for (const { stream, records } of await readNew(redis, streams, positionOf, blockMs)) {
        for (const [id, fields] of records) {
          const entry = entryOf(id, fields);
          if (matches(entry, options.filter)) yield entry;
          positions.set(stream.key, id);
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

export interface CurrentStream {
  readonly key: string;
  readonly tenant: string;
  readonly day: number;
}

/** The streams in which an entry may be written now: yesterday's too, shortly after midnight. */
export function currentStreams(tenants: readonly string[], nowMs: number): CurrentStream[] {
  const days = new Set([dayOf(nowMs - lateMs), dayOf(nowMs)]);
  return [...days].flatMap((day) => tenants.map((tenant) => ({ key: streamOf(tenant, day), tenant, day })));
}

interface NewRecords {
  readonly stream: CurrentStream;
  readonly records: readonly (readonly [id: string, fields: string[]])[];
}

/** How long a Cluster is left alone when it had nothing new, ms. */
const pollMs = 200;

/**
 * What stands in the streams behind `positionOf` each; waits up to `blockMs` for it, and answers nothing then. A call
 * that blocks holds its connection and names keys of one node, so a Cluster is asked tenant by tenant, without blocking.
 */
export async function readNew(
  redis: RedisConnection,
  streams: readonly CurrentStream[],
  positionOf: (stream: CurrentStream) => string,
  blockMs: number,
): Promise<NewRecords[]> {
  if (!redis.isCluster) {
    if (streams.length === 0) return delay(pollMs, []);
    const keys = streams.map(({ key }) => key);
    const from = streams.map(positionOf);
    return named(streams, await redis.xread('COUNT', readMax, 'BLOCK', blockMs, 'STREAMS', ...keys, ...from));
  }
  const found: NewRecords[] = [];
  for (const tenant of new Set(streams.map((stream) => stream.tenant))) {
    const ofTenant = streams.filter((stream) => stream.tenant === tenant);
    const keys = ofTenant.map(({ key }) => key);
    found.push(
      ...named(ofTenant, await redis.xread('COUNT', readMax, 'STREAMS', ...keys, ...ofTenant.map(positionOf))),
    );
  }
  return found.length > 0 ? found : delay(pollMs, []);
}

type StreamsReply = readonly (readonly [key: string, records: readonly (readonly [id: string, fields: string[]])[]])[];

function named(streams: readonly CurrentStream[], reply: StreamsReply | null): NewRecords[] {
  return (reply ?? []).flatMap(([key, records]) => {
    const stream = streams.find((each) => each.key === key);
    return stream === undefined ? [] : [{ stream, records }];
  });
}

/** Answers when the connection is usable again; at the latest after a second, for another try. */
export function readyOrAborted(redis: RedisConnection, signal: AbortSignal): Promise<void> {
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
