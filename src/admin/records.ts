/** What the routes of logs and usage read from: the Redis that holds the access log, and its live tail. */
import type { LiveTail } from '../accesslog/live-tail.js';
import type { Operations } from '../management/operations.js';
import type { RedisConnection } from '../redis/target.js';
import type { Store } from '../redis/store.js';
import { NotFoundError } from '../tenant/refusal.js';
import { readUsage } from '../usage/reader.js';
import type { UsageReport } from '../usage/report.js';

export interface Records {
  readonly redis: RedisConnection;
  readonly store: Store;
  readonly tail: LiveTail;
  readonly retentionDays: number;
  /** Between two signs of life of a live tail, and looks at whether its reader may still read, ms; without it 15 s. */
  readonly heartbeatMs?: number;
}

/** @throws NotFoundError for a tenant that there is not, or that the principal may not see. */
export async function requireTenant(operations: Operations, tenant: string): Promise<void> {
  await operations.showTenant(tenant);
}

/**
 * The usage of a token of the tenant. One that was deleted still has some, as long as it is kept.
 * @throws NotFoundError for a token that there is not and of which nothing was ever counted.
 */
export async function usageOfToken(
  { redis, store }: Records,
  operations: Operations,
  { tenant, id }: { readonly tenant: string; readonly id: string },
): Promise<UsageReport> {
  await requireTenant(operations, tenant);
  const report = await store.ask(() => readUsage(redis, tenant, id, Date.now()));
  const { calls, refusals } = report.lifetime;
  if (calls === 0 && Object.keys(refusals).length === 0) await operations.showToken({ tenant, id });
  return report;
}

/** @throws NotFoundError as {@link usageOfToken}. */
export async function requireTokenOfNow(
  records: Records,
  operations: Operations,
  name: { readonly tenant: string; readonly id: string },
): Promise<void> {
  try {
    await operations.showToken(name);
  } catch (error) {
    if (!(error instanceof NotFoundError)) throw error;
    await usageOfToken(records, operations, name);
  }
}
