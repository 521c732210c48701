/** What Tollkeeper's data takes in Redis, bytes, as far as the scenarios that ran left some. */
import type { Redis } from 'ioredis';
import type { Stage } from './stage.js';

export interface RedisMemory {
  /** A token nobody has called: its record and its place in the tenant's list. */
  readonly tokenBytes?: number;
  /** What the calls of a token add: its counters and its usage. */
  readonly usedTokenBytes?: number;
  /** The same of the million tokens: most were called once or twice. */
  readonly seldomUsedTokenBytes?: number;
  /** Where the entries of a token stand in the log of a day. */
  readonly tokenDayBytes?: number;
  readonly logEntryBytes?: number;
}

/** Commands in one round trip. */
const namesAtOnce = 1000;

/** Measures it. Streams are asked for all of their nodes. */
export async function redisMemory(stage: Stage): Promise<RedisMemory> {
  const { store, many } = stage.made;
  const found: { -readonly [name in keyof RedisMemory]: RedisMemory[name] } = {};
  if (many !== undefined) {
    const { bytesPerToken, store: ofMany } = await many;
    found.tokenBytes = Math.round(bytesPerToken);
    const used = await usedTokenBytes(ofMany.redis);
    if (used !== undefined) found.seldomUsedTokenBytes = used;
    const places = await bytesOf(ofMany.redis, 'tk:logplaces:*');
    if (places.count > 0) found.tokenDayBytes = Math.round(places.bytes / places.count);
  }
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
  const recent = await bytesOf(redis, 'tk:recent:{*}:*');
  if (recent.count === 0) return undefined;
  const usage = await bytesOf(redis, 'tk:usage:{*}:*');
  let counters = 0;
  let tokens = 0;
  const names = await redis.keys('tk:token:*');
  for (let at = 0; at < names.length; at += namesAtOnce) {
    const lengths = await Promise.all(names.slice(at, at + namesAtOnce).map((name) => redis.hstrlen(name, 'counters')));
    for (const length of lengths) {
      if (length === 0) continue;
      // In a hash table: the field's name, the value, and what leads to them.
      counters += length + 'counters'.length + 32;
      tokens++;
    }
  }
  return Math.round((recent.bytes + usage.bytes) / recent.count + counters / Math.max(1, tokens));
}

async function bytesOf(redis: Redis, pattern: string): Promise<{ bytes: number; count: number }> {
  const names = await redis.keys(pattern);
  let bytes = 0;
  for (let at = 0; at < names.length; at += namesAtOnce) {
    const part = names.slice(at, at + namesAtOnce);
    const sizes = await Promise.all(part.map((name) => redis.memory('USAGE', name, 'SAMPLES', 0)));
    for (const size of sizes) bytes += Number(size);
  }
  return { bytes, count: names.length };
}

async function entriesOf(redis: Redis): Promise<number> {
  let entries = 0;
  for (const key of await redis.keys('log:*')) entries += await redis.xlen(key);
  return entries;
}
