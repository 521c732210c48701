/** What Tollkeeper's data takes in Redis, bytes, as far as the scenarios that ran left some. */
import type { Redis } from 'ioredis';
import type { Stage } from './stage.js';

export interface RedisMemory {
  /** A token nobody has called: its record and its place in the tenant's list. */
  readonly tokenBytes?: number;
  /** What the first calls of a token add: its counters and its usage. */
  readonly usedTokenBytes?: number;
  readonly logEntryBytes?: number;
}

/** Measures it. Streams are asked for all of their nodes. */
export async function redisMemory(stage: Stage): Promise<RedisMemory> {
  const { store, many } = stage.made;
  const found: { -readonly [name in keyof RedisMemory]: RedisMemory[name] } = {};
  if (many !== undefined) found.tokenBytes = Math.round((await many).bytesPerToken);
  if (store !== undefined) {
    const { redis } = await store;
    const used = await usedTokenBytes(redis);
    if (used !== undefined) found.usedTokenBytes = used;
    const [streams, entries] = [await bytesOf(redis, 'log:*'), await entriesOf(redis)];
    if (entries > 0) found.logEntryBytes = Math.round(streams.bytes / entries);
  }
  return found;
}

async function usedTokenBytes(redis: Redis): Promise<number | undefined> {
  const usage = await bytesOf(redis, 'tk:usage:*');
  if (usage.count === 0) return undefined;
  let counters = 0;
  let tokens = 0;
  for (const key of await redis.keys('tk:token:*')) {
    const length = await redis.hstrlen(key, 'counters');
    if (length === 0) continue;
    // In a listpack: the field's name, the value, and a few bytes each for their lengths.
    counters += length + 'counters'.length + 4;
    tokens++;
  }
  return Math.round(usage.bytes / usage.count + counters / Math.max(1, tokens));
}

async function bytesOf(redis: Redis, pattern: string): Promise<{ bytes: number; count: number }> {
  const names = await redis.keys(pattern);
  let bytes = 0;
  for (const name of names) bytes += Number(await redis.memory('USAGE', name, 'SAMPLES', 0));
  return { bytes, count: names.length };
}

async function entriesOf(redis: Redis): Promise<number> {
  let entries = 0;
  for (const key of await redis.keys('log:*')) entries += await redis.xlen(key);
  return entries;
}
