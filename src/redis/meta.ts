/**
 * What says that a Redis is ours: one hash in each of the 64 shards, written once. A Redis without them is empty by
 * accident or new, and a sidecar must not take it for "no token exists".
 */
import { randomUUID } from 'node:crypto';
import { OperatorError } from '../core/failure.js';
import { allShards, keys } from './keys.js';
import type { Store } from './store.js';
import type { RedisConnection } from './target.js';

/** Version of the layout of keys and records; raised when an older Tollkeeper could no longer read it. */
export const schemaVersion = 1;

/** Fields of a meta hash. */
export const metaFields = {
  schema: 'schema',
  installation: 'installation',
  /** Time of the first `tenant create`, ms since 1970. */
  createdAt: 'createdAt',
  /** Highest version of any tenant deleted in this shard: a slug that comes back starts above it. */
  tenantVersion: 'tenantVersion',
} as const;

export interface Installation {
  readonly schema: number;
  /** Random id: another one means another (or an emptied) Redis. */
  readonly installation: string;
  /** ms since 1970. */
  readonly createdAt: number;
}

const firstShard = allShards[0] as string;

/**
 * The installation in this Redis, or null when it has never been initialised.
 * @throws OperatorError when a newer Tollkeeper wrote it, or when a part of the 64 hashes is gone.
 */
export async function readInstallation(redis: RedisConnection): Promise<Installation | null> {
  const hashes = await Promise.all(
    allShards.map((shard) => redis.hmget(keys.meta(shard), metaFields.schema, metaFields.installation)),
  );
  // The first shard's schema is written last: without it the initialisation has not come to its end.
  const [schema, installation] = hashes[0] as (string | null)[];
  if (typeof schema !== 'string' || typeof installation !== 'string') {
    if (hashes.every((hash) => hash[0] === null) || typeof installation === 'string') return null;
    throw partLost(firstShard);
  }
  if (Number(schema) > schemaVersion) {
    throw new OperatorError(
      `This Redis was written by a newer Tollkeeper (schema ${schema}, this one knows ${schemaVersion}): ` +
        'upgrade this Tollkeeper or point TOLLKEEPER_REDIS_URL elsewhere.',
    );
  }
  const lost = hashes.findIndex((hash) => hash[1] !== installation);
  if (lost !== -1) throw partLost(allShards[lost] as string);
  const createdAt = await redis.hget(keys.meta(firstShard), metaFields.createdAt);
  return { schema: Number(schema), installation, createdAt: Number(createdAt) };
}

/**
 * As {@link readInstallation}, for what needs data to be there.
 * @throws OperatorError when there is none.
 */
export async function requireInstallation(redis: RedisConnection): Promise<Installation> {
  const installation = await readInstallation(redis);
  if (installation !== null) return installation;
  throw new OperatorError(
    'This Redis holds no Tollkeeper data: create a tenant first (tollkeeper tenant create SLUG --name NAME), ' +
      'or check TOLLKEEPER_REDIS_URL if there should be some.',
  );
}

/**
 * Writes the 64 meta hashes where there are none yet. Two at once agree on one installation id, and one that was
 * broken off is taken up again by the next.
 * @throws OperatorError as {@link readInstallation}.
 */
export async function initialise(store: Store, nowMs: number): Promise<Installation> {
  const existing = await store.ask(() => readInstallation(store.redis));
  if (existing !== null) return existing;
  const first = keys.meta(firstShard);
  await store.ask(() => refuseDuringRestore(store.redis));
  // The first to write these two decides for all.
  const isOurs = await store.write(first, (redis) => redis.hsetnx(first, metaFields.installation, randomUUID()));
  await store.write(first, (redis) => redis.hsetnx(first, metaFields.createdAt, nowMs));
  if ((await store.ask(() => store.redis.exists(keys.restore()))) === 1) {
    // A restore began meanwhile. It asks for an installation after it has announced itself: one of the two gives way.
    if (isOurs === 1) await store.write(first, (redis) => redis.del(first));
    await store.ask(() => refuseDuringRestore(store.redis));
  }
  const [installation, createdAt] = await store.ask(() =>
    store.redis.hmget(first, metaFields.installation, metaFields.createdAt),
  );
  if (typeof installation !== 'string' || typeof createdAt !== 'string') {
    throw new OperatorError('Redis lost what was just written: check its memory and eviction policy, then try again.');
  }
  const fields = { schema: schemaVersion, installation, createdAt };
  const others = allShards.slice(1).map((shard) => keys.meta(shard));
  await Promise.all(others.map((key) => store.write(key, (redis) => redis.hset(key, fields))));
  await store.write(first, (redis) => redis.hset(first, fields));
  return { schema: schemaVersion, installation, createdAt: Number(createdAt) };
}

/**
 * Gives this Redis the identity of the installation whose backup was restored into it, once all its records are there:
 * sidecars that wait for that installation go on by themselves. May be repeated.
 * `tenantVersions`: by shard, what {@link metaFields.tenantVersion} must at least be.
 * @throws OperatorError when there is another installation by now.
 */
export async function adoptInstallation(
  store: Store,
  { installation, createdAt }: Pick<Installation, 'installation' | 'createdAt'>,
  tenantVersions: ReadonlyMap<string, number>,
): Promise<void> {
  const first = keys.meta(firstShard);
  await store.write(first, (redis) => redis.hsetnx(first, metaFields.installation, installation));
  const [found, schema] = await store.ask(() => store.redis.hmget(first, metaFields.installation, metaFields.schema));
  if (found !== installation) {
    throw new OperatorError(
      'Another installation was begun in this Redis while the backup was being restored: empty the Redis and restore again.',
    );
  }
  if (typeof schema === 'string') return; // done already; the tenant versions may have been raised since
  const fieldsOf = (shard: string) => ({
    [metaFields.schema]: schemaVersion,
    [metaFields.installation]: installation,
    [metaFields.createdAt]: createdAt,
    [metaFields.tenantVersion]: tenantVersions.get(shard) ?? 0,
  });
  const write = (shard: string): Promise<number> =>
    store.write(keys.meta(shard), (redis) => redis.hset(keys.meta(shard), fieldsOf(shard)));
  await Promise.all(allShards.slice(1).map(write));
  // Last, as in initialise: without the first shard's schema nothing is taken for complete.
  await write(firstShard);
}

async function refuseDuringRestore(redis: RedisConnection): Promise<void> {
  if ((await redis.exists(keys.restore())) === 0) return;
  throw new OperatorError(
    'A backup is being restored into this Redis: bring that to its end with tollkeeper import FILE, or empty the Redis.',
  );
}

function partLost(shard: string): OperatorError {
  return new OperatorError(
    `Redis lost a part of Tollkeeper's data (${keys.meta(shard)} is gone or of another installation): ` +
      'restore it from a backup before anything is changed.',
  );
}
