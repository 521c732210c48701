/** The data plane's side of imported tokens: from the SHA-256 of a presented token to the id it got here. */
import type { Redis } from 'ioredis';
import { metaFields } from '../redis/meta.js';
import { allShards, keys } from '../redis/keys.js';

/**
 * The id, or null when nothing was imported under this hash. `installation` is the id the store must carry, '' while
 * unknown: an emptied store must not turn every imported token into an invalid one.
 * @throws what the connection says, or Error when the store is empty or another one: an outage, never a 401.
 */
export async function findForeignId(redis: Redis, installation: string, sha256Hex: string): Promise<string | null> {
  const id = await redis.get(keys.foreign(sha256Hex));
  if (id !== null) return id;
  const found = await redis.hget(keys.meta(allShards[0] as string), metaFields.installation);
  if (found === null || (installation !== '' && found !== installation)) throw new Error('the store is not ours');
  return null;
}
