/** Reads usage from the Redis that holds the access log. */
import { keys } from '../redis/keys.js';
import type { RedisConnection } from '../redis/target.js';
import { type StoredUsage, type UsageReport, usageReport } from './report.js';
import { emptySums, type Sums, unpackSums } from './sums.js';

/**
 * The usage of a token (also of one that was deleted: it is kept 400 days), or with `tokenId` null of its whole tenant.
 * A token that was never used has a report of zeros.
 * @throws what the connection says; Error when something else wrote the key.
 */
export async function readUsage(
  redis: RedisConnection,
  tenant: string,
  tokenId: string | null,
  nowMs: number,
): Promise<UsageReport> {
  const fields = await redis.hgetallBuffer(keys.usage(tenant, tokenId ?? ''));
  return usageReport(tenant, tokenId, storedUsage(fields), nowMs);
}

/** Lifetime calls of several tokens in the order of `ids`, without the rest of their report. */
export function readCalls(redis: RedisConnection, tenant: string, ids: readonly string[]): Promise<number[]> {
  return Promise.all(ids.map(async (id) => Number(await redis.hget(keys.usage(tenant, id), 'calls')) || 0));
}

function storedUsage(fields: Readonly<Record<string, Buffer>>): StoredUsage {
  const hours = new Map<number, Sums>();
  const days = new Map<number, Sums>();
  const routes = new Map<string, number>();
  for (const [name, value] of Object.entries(fields)) {
    if (/^[hd]\d+$/.test(name)) {
      const { at, sums } = unpackSums(value);
      (name[0] === 'h' ? hours : days).set(at, sums);
    } else if (name.startsWith('r:')) {
      routes.set(name.slice(2), Number(value.toString()));
    }
  }
  const atMs = Number(fields['lastUsedAt']?.toString() ?? 0);
  return {
    lastUsed:
      atMs > 0
        ? {
            atMs,
            ip: fields['lastUsedIp']?.toString() ?? '',
            userAgent: fields['lastUsedAgent']?.toString() ?? '',
          }
        : null,
    hours,
    days,
    all: fields['all'] === undefined ? emptySums : unpackSums(fields['all']).sums,
    routes,
    otherRoutesCalls: Number(fields['otherRoutes']?.toString() ?? 0),
  };
}
