/**
 * Every token of every tenant, a page at a time, while others create and delete some: what is there from the beginning
 * to the end of the scan is seen (the promise of ZSCAN), what comes or goes meanwhile may be.
 */
import { keys, recordFields } from '../redis/keys.js';
import type { RedisConnection } from '../redis/target.js';

/** Members asked for in one step of a scan. */
const stepMembers = 500;

export interface ScannedToken {
  readonly id: string;
  /** JSON of its record, as it was when its page was read. */
  readonly json: string;
}

/**
 * Pages of at most `pageSize` tokens, in no order.
 * @throws what the connection says.
 */
export async function* scanTokens(redis: RedisConnection, pageSize: number): AsyncGenerator<readonly ScannedToken[]> {
  let ids: string[] = [];
  for await (const slug of scanMembers(redis, keys.tenants())) {
    for await (const id of scanMembers(redis, keys.tenantTokens(slug))) {
      if (ids.push(id) < pageSize) continue;
      yield await readTokens(redis, ids);
      ids = [];
    }
  }
  if (ids.length > 0) yield await readTokens(redis, ids);
}

async function* scanMembers(redis: RedisConnection, key: string): AsyncGenerator<string> {
  let cursor = '0';
  do {
    const [next, membersAndScores] = await redis.zscan(key, cursor, 'COUNT', stepMembers);
    for (let at = 0; at < membersAndScores.length; at += 2) yield membersAndScores[at] as string;
    cursor = next;
  } while (cursor !== '0');
}

async function readTokens(redis: RedisConnection, ids: readonly string[]): Promise<ScannedToken[]> {
  const records = await Promise.all(ids.map((id) => redis.hget(keys.token(id), recordFields.record)));
  return ids.flatMap((id, index) => {
    const json = records[index];
    return typeof json === 'string' ? [{ id, json }] : [];
  });
}
