/**
 * What says that a Redis is ours: one hash in each of the 64 shards, written once. A Redis without them is empty by
 * accident or new, and a sidecar must not take it for "no token exists".
 */
import { randomUUID } from 'node:crypto';
import type { Redis } from 'ioredis';
import { OperatorError } from '../core/failure.js';
import { allShards, keys } from './keys.js';

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
export async function readInstallation(redis: Redis): Promise<Installation | null> {
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
export async function requireInstallation(redis: Redis): Promise<Installation> {
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
export async function initialise(redis: Redis, nowMs: number): Promise<Installation> {
  const existing = await readInstallation(redis);
  if (existing !== null) return existing;
  const first = keys.meta(firstShard);
  // The first to write these two decides for all.
  await redis.hsetnx(first, metaFields.installation, randomUUID());
  await redis.hsetnx(first, metaFields.createdAt, nowMs);
  const [installation, createdAt] = await redis.hmget(first, metaFields.installation, metaFields.createdAt);
  if (typeof installation !== 'string' || typeof createdAt !== 'string') {
    throw new OperatorError('Redis lost what was just written: check its memory and eviction policy, then try again.');
  }
  const fields = { schema: schemaVersion, installation, createdAt };
  await Promise.all(allShards.slice(1).map((shard) => redis.hset(keys.meta(shard), fields)));
  await redis.hset(first, fields);
  return { schema: schemaVersion, installation, createdAt: Number(createdAt) };
}

function partLost(shard: string): OperatorError {
  return new OperatorError(
    `Redis lost a part of Tollkeeper's data (${keys.meta(shard)} is gone or of another installation): ` +
      'restore it from a backup before anything is changed.',
  );
}
