/** What the admin API asks of src/explain, which lies above it. */
import type { ExplainRequests } from '../admin/explain.js';
import { entryView } from '../accesslog/logged-entry.js';
import type { Config } from '../config/schema.js';
import { Explainer } from '../explain/explain.js';
import { findLoggedRequests } from '../explain/logged-request.js';
import type { Policy } from '../policy/routes.js';
import type { RedisConnection } from '../redis/target.js';
import { keys } from '../redis/keys.js';
import type { Store } from '../redis/store.js';
import type { Logger } from '../telemetry/logger.js';

/** How far the clock of a sidecar may be ahead of this one, ms. */
const clockToleranceMs = 5 * 60_000;

/** `policy` answers the one in force. */
export function explaining(
  config: Config,
  policy: () => Policy,
  store: Store,
  logRedis: RedisConnection,
  logger: Logger,
): ExplainRequests {
  return {
    described: (request, tokenId, within) =>
      new Explainer(config, policy(), store, (message) => logger.warn(message), within).explain(request, tokenId),
    logged: async (requestId, tenants, sinceMs) => {
      const slugs = tenants ?? ['', ...(await store.ask(() => store.redis.zrange(keys.tenants(), 0, '-1')))];
      const toMs = Date.now() + clockToleranceMs;
      return (await store.ask(() => findLoggedRequests(logRedis, slugs, requestId, sinceMs, toMs))).map(entryView);
    },
  };
}
