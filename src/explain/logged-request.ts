/** Finds requests in the access log by their id, which stands in every answer (`X-Request-Id`, `instance`). */
import type { RedisConnection } from '../redis/target.js';
import type { LoggedEntry } from '../accesslog/logged-entry.js';
import { readBackward } from '../accesslog/reader.js';

/** Entries of one id that are answered, at most: a client may send the same id again and again. */
const entriesMax = 20;

/**
 * The newest entries of the id, newest first. `tenants`: slugs, '' for requests of no known tenant; `fromMs` (Unix)
 * bounds how far back the log is read.
 * @throws what the connection says.
 */
export async function findLoggedRequests(
  redis: RedisConnection,
  tenants: readonly string[],
  requestId: string,
  fromMs: number,
  toMs: number,
): Promise<LoggedEntry[]> {
  const entries: LoggedEntry[] = [];
  for await (const entry of readBackward(redis, { tenants, fromMs, toMs, filter: {} })) {
    if (entry.requestId === requestId && entries.push(entry) === entriesMax) break;
  }
  return entries;
}
