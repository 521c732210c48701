/** The parts of the admin API, over a connection of its own: what people do never waits behind the data plane. */
import type { AdminApiParts } from '../admin/api.js';
import { LiveTail } from '../accesslog/live-tail.js';
import { Authenticator } from '../admin/authenticate.js';
import { IdempotentRequests } from '../admin/idempotency.js';
import { logRedisSettings, minReplicas, redisSettings } from '../config/require.js';
import type { Config } from '../config/schema.js';
import { parseMasterKeys } from '../credential/sealed-secret.js';
import { TrustedProxies } from '../http/forwarded.js';
import { Management } from '../management/management.js';
import type { Policy } from '../policy/routes.js';
import { connect } from '../redis/connect.js';
import { Store } from '../redis/store.js';
import type { Logger } from '../telemetry/logger.js';
import { readLastUsed } from '../usage/reader.js';
import { LoginAttempts } from '../user/login-attempts.js';
import { Sessions } from '../user/session.js';
import { explaining } from './explaining.js';
import { packageVersion } from './version.js';

export interface OpenAdminApi {
  readonly parts: Omit<AdminApiParts, 'logger'>;
  close(): Promise<void>;
}

/** `policy` answers the one in force. */
export function openAdminApi(config: Config, policy: () => Policy, logger: Logger): OpenAdminApi {
  const redis = connect(redisSettings(config), 'control');
  const elsewhere = config.logRedisUrl !== undefined && config.logRedisUrl !== config.redisUrl;
  const logRedis = elsewhere ? connect(logRedisSettings(config), 'control') : redis;
  const store = new Store(redis, { redisMinReplicas: minReplicas(config) });
  const masterKeys = config.masterKey === undefined ? undefined : parseMasterKeys(config.masterKey);
  const management = new Management(store, {
    tokenPrefix: config.tokenPrefix,
    masterKeys,
    auditMaxEntries: config.auditMaxEntries,
    // When tokens were last used must not stand in the way of the rest.
    lastUsed: (tenant, ids) => readLastUsed(logRedis, tenant, ids).catch(() => ids.map(() => null)),
    recorded: (record) => logger.info({ audit: record }, 'audit'),
    outcomeLost: ({ action, target }, error) =>
      logger.error({ action, target, err: error }, 'a change was made and its outcome is not in the audit log'),
  });
  const sessions = new Sessions(store, {
    idleMs: config.adminSessionIdleMinutes * 60_000,
    absoluteMs: config.adminSessionHours * 3_600_000,
  });
  const tail = new LiveTail(logRedis, () => connect(logRedisSettings(config), 'log'));
  return {
    parts: {
      management,
      records: { redis: logRedis, store, tail, retentionDays: config.logRetentionDays },
      authenticator: new Authenticator({
        adminKey: config.adminKey,
        users: management.users,
        adminKeys: management.adminKeys,
        sessions,
        trustedProxies: new TrustedProxies(config.trustedProxies),
      }),
      sessions,
      attempts: new LoginAttempts(store),
      idempotent: new IdempotentRequests(store, masterKeys),
      explain: explaining(config, policy, store, logRedis, logger),
      scopes: () => policy().scopes,
      requestsPerMinute: config.adminRequestsPerMinute,
      version: packageVersion(),
    },
    close: async () => {
      await store.close();
      if (logRedis !== redis) logRedis.disconnect();
    },
  };
}
