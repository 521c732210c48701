/** One command's connection to Redis: opened, checked, used, closed. */
import { logRedisSettings, minReplicas, redisSettings } from '../config/require.js';
import type { Config } from '../config/schema.js';
import { OperatorError } from '../core/failure.js';
import { connectOrFail } from '../redis/connect.js';
import { requireInstallation } from '../redis/meta.js';
import { Store } from '../redis/store.js';
import type { RedisConnection } from '../redis/target.js';

/**
 * Runs `use` with the store of tokens and tenants and closes it whatever happens.
 * `mayBeEmpty`: do not ask that Tollkeeper's data is there already.
 * @throws OperatorError when Redis cannot be used or holds no data of ours.
 */
export async function withStore<T>(
  config: Config,
  use: (store: Store) => Promise<T>,
  { mayBeEmpty }: { readonly mayBeEmpty: boolean } = { mayBeEmpty: false },
): Promise<T> {
  const redis = await connectOrFail(redisSettings(config));
  const store = new Store(redis, { redisMinReplicas: minReplicas(config) });
  try {
    if (!mayBeEmpty) await store.ask(() => requireInstallation(redis));
    return await use(store);
  } finally {
    await store.close();
  }
}

/**
 * Runs `use` with the Redis of the access log: `store`'s own connection, or another one where it lies elsewhere.
 * Answers undefined, with a note for the person, when it cannot be asked: that must not stand in the way of the rest.
 */
export async function withLogRedis<T>(
  config: Config,
  store: Store,
  note: (line: string) => void,
  use: (redis: RedisConnection) => Promise<T>,
): Promise<T | undefined> {
  const elsewhere = config.logRedisUrl !== undefined && config.logRedisUrl !== config.redisUrl;
  let redis = store.redis;
  try {
    if (elsewhere) redis = await connectOrFail(logRedisSettings(config));
    return await use(redis);
  } catch (error) {
    const reason = error instanceof OperatorError ? error.message : 'it gave no answer in time.';
    note(`tollkeeper: it is not known when tokens were last used, the log Redis cannot be asked: ${reason}`);
    return undefined;
  } finally {
    if (redis !== store.redis) redis.disconnect();
  }
}
