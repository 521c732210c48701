/** The data plane's side of imported tokens: from the SHA-256 of a presented token to the id it got here. */
import { metaFields } from '../redis/meta.js';
import { keys, shardOf } from '../redis/keys.js';
import type { RedisConnection } from '../redis/target.js';

/**
 * The id, or null when nothing was imported under this hash. `installation` is the id the store must carry, '' while
 * unknown: an emptied store must not turn every imported token into an invalid one.
 * @throws what the connection says, or Error when the store is empty or another one: an outage, never a 401.
 */
export async function findForeignId(
  redis: RedisConnection,
  installation: string,
  sha256Hex: string,
): Promise<string | null> {
  const id = await redis.get(keys.foreign(sha256Hex));
  if (id !== null) return id;
  const found = await redis.hget(keys.meta(shardOf(sha256Hex)), metaFields.installation);
  if (found === null || (installation !== '' && found !== installation)) throw new Error('the store is not ours');
  return null;
}
