import { keys } from '../redis/keys.js';
import type { RedisConnection } from '../redis/target.js';

/**
 * When the tokens of a tenant were last used, ms since 1970, in the order of `ids`; null: never (or not within the
 * retention of the usage counters). `logRedis` is the connection to the Redis that holds the access log.
 */
export function readLastUsed(
  logRedis: RedisConnection,
  tenant: string,
  ids: readonly string[],
): Promise<(number | null)[]> {
  return Promise.all(
    ids.map(async (id) => {
      const value = Number(await logRedis.hget(keys.usage(tenant, id), 'lastUsedAt'));
      return Number.isSafeInteger(value) && value > 0 ? value : null;
    }),
  );
}
