/**
 * The composition root of `tollkeeper serve`: builds the parts bottom-up, opens the listeners last, and closes
 * everything in reverse order, each step with a deadline. No decision about a request is made here.
 */
import type { Redis } from 'ioredis';
import { AccessLog } from '../accesslog/writer.js';
import { Admission } from '../admission/batcher.js';
import type { DenyCache } from '../admission/deny-cache.js';
import { AdminServer } from '../admin/server.js';
import { parseAddress } from '../config/formats.js';
import { logRedisSettings, redisSettings, requireKey } from '../config/require.js';
import type { Config } from '../config/schema.js';
import { AuthFailures } from '../credential/auth-failures.js';
import { parseMasterKeys } from '../credential/sealed-secret.js';
import { HmacSecrets } from '../credential/hmac-secrets.js';
import { loadBinding } from '../dataplane/binding.js';
import { DataplaneListener } from '../dataplane/listener.js';
import { Pipeline } from '../dataplane/pipeline.js';
import { createHeaderClassifier } from '../http/drop-list.js';
import { AddressList, TrustedProxies } from '../http/forwarded.js';
import { loadPolicy } from '../policy/load.js';
import { type ConnectionPurpose, connect, displayAddress, type RedisTarget, settled } from '../redis/connect.js';
import { changesChannel, keys } from '../redis/keys.js';
import { createLogger, type Logger } from '../telemetry/logger.js';
import { Metrics } from '../telemetry/metrics.js';
import { RecordCache } from '../token/cache.js';
import { findForeignId } from '../token/foreign-lookup.js';
import { Upstream } from '../upstream/upstream.js';
import { packageVersion } from './version.js';
import { Readiness } from './readiness.js';

export interface RunningApp {
  /** `host:port` with the real port. */
  readonly dataAddress: string;
  readonly adminAddress: string;
  /** Takes over what may change while running (the policy); a bad configuration is logged and the old one stays. */
  reload(readConfig: () => Config): void;
  /** Drains and stops; answers when nothing is left running. */
  close(): Promise<void>;
}

/** How long the start waits for Redis before it goes on without, not ready, ms. */
const connectedWithinMs = 2000;

/** How long one step of the shutdown may take once the drain is over, ms. */
const closeStepMs = 2000;

/**
 * Starts everything `serve` needs.
 * @throws OperatorError when something cannot start; nothing is left half-started.
 */
export async function serve(config: Config, logger: Logger = createLogger(config.logLevel)): Promise<RunningApp> {
  const closers: (() => Promise<void> | void)[] = [];
  const closeAll = async (): Promise<void> => {
    for (const close of closers.toReversed()) await withDeadline(Promise.resolve(close()), closeStepMs);
    closers.length = 0;
  };
  try {
    return await start(config, logger, closers, closeAll);
  } catch (error) {
    await closeAll();
    throw error;
  }
}

async function start(
  config: Config,
  logger: Logger,
  closers: (() => Promise<void> | void)[],
  closeAll: () => Promise<void>,
): Promise<RunningApp> {
  const target = redisSettings(config);
  const origin = requireKey(config, 'upstream');
  const policy = loadPolicy(config.policy);
  const binding = await loadBinding();

  const open = (purpose: ConnectionPurpose, at: RedisTarget): Redis => {
    const redis = connect(at, purpose);
    closers.push(() => redis.disconnect());
    return redis;
  };
  const admissionRedis = open('admission', target);
  const control = open('control', target);
  const changes = open('changes', target);
  const logRedis = open('log', logRedisSettings(config));

  const metrics = new Metrics(packageVersion(), {
    requestsInFlight: () => pipeline.inFlight,
    logQueue: () => log.queued,
    breakerOpen: () => breakerOpen(),
  });
  const log = new AccessLog({
    redis: logRedis,
    retentionDays: config.logRetentionDays,
    streamMaxEntries: config.logStreamMaxEntries,
    bufferMaxEntries: config.logBufferMaxEntries,
    flushIntervalMs: config.logFlushIntervalMs,
    metrics,
    logger,
  });
  closers.push(async () => {
    const { remaining } = await log.close(closeStepMs);
    if (remaining > 0) logger.error({ remaining }, 'log entries were lost: Redis did not take them');
  });

  const admission = new Admission({
    redis: admissionRedis,
    observer: {
      batchAnswered: (size, durationMs) => {
        metrics.observeAdmissionBatch(size);
        metrics.observeAdmission(durationMs / 1000);
      },
      storeFailed: (kind) => metrics.storeError(kind),
      deniedLocally: () => {},
    },
    queueMax: config.admissionQueueMax,
    commandTimeoutMs: config.redisCommandTimeoutMs,
  });
  closers.push(() => admission.close());
  const breakerOpen = (): boolean => admission.breakerState !== 'closed';
  const cache = new RecordCache(config.recordCacheMax);
  followChanges(changes, admission.denials);

  const readiness = new Readiness(
    control,
    logger,
    (installation) => {
      admission.installation = installation;
    },
    () => [
      ...(breakerOpen() ? ['Redis fails or is too slow: admissions are refused until it answers.'] : []),
      ...(pipeline.draining ? ['This process is shutting down.'] : []),
    ],
  );
  closers.push(() => readiness.stop());

  const upstream = new Upstream({
    origin,
    connectTimeoutMs: config.upstreamConnectTimeoutMs,
    headTimeoutMs: config.upstreamTimeoutMs,
    idleTimeoutMs: config.upstreamIdleTimeoutMs,
    connectionsMax: config.upstreamConnectionsMax,
  });
  closers.push(() => upstream.close());

  const trustedProxies = new TrustedProxies(config.trustedProxies);
  const tls =
    config.tlsCert !== undefined && config.tlsKey !== undefined
      ? { certPath: config.tlsCert, keyPath: config.tlsKey }
      : undefined;
  const pipeline = new Pipeline(
    {
      settings: {
        scheme: tls === undefined ? 'http' : 'https',
        tokenPrefix: config.tokenPrefix,
        foreignTokens: config.foreignTokens,
        tenantHost: config.tenantHost ?? '',
        wellKnown: config.wellKnown,
        bodyBytesMax: config.bodyMaxBytes,
        hmacBodyBytesMax: config.hmacMaxBody,
        logQuery: config.logQuery,
      },
      trustedProxies,
      addresses: new AddressList(),
      failures: new AuthFailures(config.authFailureLimit),
      cache,
      secrets: new HmacSecrets(
        config.masterKey === undefined ? undefined : parseMasterKeys(config.masterKey),
        (message) => logger.error(message),
      ),
      admission,
      upstream,
      log,
      metrics,
      logger,
      findForeign: (sha256Hex) => findForeignId(admissionRedis, admission.installation, sha256Hex),
    },
    policy,
  );

  const dataAt = parseAddress(config.listen) as { host: string; port: number };
  const listener = new DataplaneListener(
    binding,
    pipeline,
    createHeaderClassifier({ hmacPrefix: config.hmacHeaderPrefix }),
    trustedProxies,
    logger,
    {
      ...dataAt,
      tls,
      exclusive: true,
      apiKeyHeader: config.apiKeyHeader,
      bodyIdleMs: config.upstreamIdleTimeoutMs,
    },
  );
  closers.push(() => listener.close());

  const admin = new AdminServer({
    listen: config.adminListen,
    metrics: () => metrics.exposition(),
    readiness: () => readiness.report(),
    logger,
  });
  closers.push(() => admin.close(closeStepMs));

  // Listeners last: whoever connects meets a whole process.
  const adminAddress = await admin.listen();
  await Promise.all([control, admissionRedis].map((redis) => settled(redis, connectedWithinMs)));
  await readiness.start();
  const dataAddress = await listener.listen();
  logger.info(
    { plane: 'data', address: dataAddress, upstream: origin, redis: displayAddress(target.url) },
    'listening',
  );

  return {
    dataAddress,
    adminAddress,
    reload: (readConfig) => {
      try {
        pipeline.policy = loadPolicy(readConfig().policy);
        metrics.policyReloaded('ok');
        logger.info('policy reloaded');
      } catch (error) {
        metrics.policyReloaded('failed');
        logger.error({ reason: (error as Error).message }, 'the new policy was refused: the old one stays');
      }
    },
    close: async () => {
      listener.stopAccepting();
      await drained(pipeline, config.shutdownTimeoutMs);
      await closeAll();
    },
  };
}

/** The deny cache may stand in for Redis only while this process hears of every change. */
function followChanges(redis: Redis, denials: DenyCache): void {
  const hears = (yes: boolean): void => {
    denials.enabled = yes;
  };
  redis.on('ready', () => {
    redis.subscribe(changesChannel).then(
      () => hears(true),
      () => hears(false),
    );
  });
  redis.on('close', () => hears(false));
  redis.on('message', (_channel: string, subject: string) => {
    const colon = subject.indexOf(':');
    const name = subject.slice(colon + 1);
    if (subject.startsWith('token:')) denials.forgetToken(keys.token(name));
    else denials.forgetTenant(keys.tenant(name));
  });
}

/** Answers when no request is left, or after `timeoutMs`. */
async function drained(pipeline: Pipeline, timeoutMs: number): Promise<void> {
  const until = performance.now() + timeoutMs;
  while (pipeline.inFlight > 0 && performance.now() < until) {
    await new Promise((resolve) => {
      setTimeout(resolve, 10);
    });
  }
}

async function withDeadline(step: Promise<void>, ms: number): Promise<void> {
  let timer: NodeJS.Timeout | undefined;
  const deadline = new Promise<void>((resolve) => {
    timer = setTimeout(resolve, ms);
  });
  await Promise.race([step, deadline]);
  clearTimeout(timer);
}
