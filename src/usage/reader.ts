/** Reads usage from the Redis that holds the access log. */
import type { ChainableCommander } from 'ioredis';
import { keys } from '../redis/keys.js';
import type { RedisConnection } from '../redis/target.js';
import { unpackRecent, withRecent } from './recent.js';
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
  const id = tokenId ?? '';
  // Together: what leaves one joins the other.
  const [recent, fields] = await atOnce(
    redis.multi().getBuffer(keys.recentUsage(tenant, id)).hgetallBuffer(keys.usage(tenant, id)),
  );
  const stored = storedUsage(fields as Readonly<Record<string, Buffer>>);
  return usageReport(tenant, tokenId, withRecent(stored, unpackRecent(recent as Buffer | null)), nowMs);
}

/** Lifetime calls of several tokens in the order of `ids`, without the rest of their report. */
export function readCalls(redis: RedisConnection, tenant: string, ids: readonly string[]): Promise<number[]> {
  return Promise.all(
    ids.map(async (id) => {
      const [recent, settled] = await atOnce(
        redis.multi().getBuffer(keys.recentUsage(tenant, id)).hget(keys.usage(tenant, id), 'calls'),
      );
      const calls = unpackRecent(recent as Buffer | null).reduce((sum, record) => sum + record.calls, 0);
      return calls + (Number(settled) || 0);
    }),
  );
}

/**
 * When the tokens of a tenant were last used, ms since 1970, in the order of `ids`; null: never, or longer than 400 days
 * ago.
 */
export function readLastUsed(
  redis: RedisConnection,
  tenant: string,
  ids: readonly string[],
): Promise<(number | null)[]> {
  return Promise.all(
    ids.map(async (id) => {
      const [recent, settled] = await atOnce(
        redis.multi().getBuffer(keys.recentUsage(tenant, id)).hget(keys.usage(tenant, id), 'lastUsedAt'),
      );
      const times = unpackRecent(recent as Buffer | null).map(({ lastUsed }) => lastUsed?.atMs ?? 0);
      const latest = Math.max(Number(settled) || 0, ...times);
      return latest > 0 ? latest : null;
    }),
  );
}

/** The replies of a transaction. @throws the first error among them. */
async function atOnce(transaction: ChainableCommander): Promise<unknown[]> {
  const replies = (await transaction.exec()) ?? [];
  return replies.map(([error, reply]) => {
    if (error !== null) throw error;
    return reply;
  });
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
