/**
 * The data plane of one process: its parts built bottom-up, its listener opened last, everything closed in reverse.
 * With one worker it lives in the process that was started, else in each worker; it is the same either way.
 */
import { AccessLog } from '../accesslog/writer.js';
import { Cluster } from 'ioredis';
import { serverCarrier } from '../admission/admit.js';
import { Admission } from '../admission/batcher.js';
import type { AdmissionGate } from '../admission/gate.js';
import { ClusterAdmission } from '../admission/cluster-admission.js';
import { OutageLimits } from '../admission/outage.js';
import { parseAddress } from '../config/formats.js';
import { logRedisSettings, redisSettings, upstreamSettings } from '../config/require.js';
import type { Config } from '../config/schema.js';
import { AuthFailures } from '../credential/auth-failures.js';
import { HmacSecrets } from '../credential/hmac-secrets.js';
import { parseMasterKeys } from '../credential/sealed-secret.js';
import { loadBinding } from '../dataplane/binding.js';
import { BodyBudget } from '../dataplane/body-budget.js';
import { DataplaneListener } from '../dataplane/listener.js';
import { Overload } from '../dataplane/overload.js';
import { Pipeline } from '../dataplane/pipeline.js';
import { pipelineSettings } from '../dataplane/settings.js';
import { VerifyListener } from '../dataplane/verify-listener.js';
import { createHeaderClassifier } from '../http/drop-list.js';
import { AddressList, TrustedProxies } from '../http/forwarded.js';
import type { Policy } from '../policy/routes.js';
import { type ConnectionPurpose, connect, settled } from '../redis/connect.js';
import type { RedisConnection, RedisTarget } from '../redis/target.js';
import type { Logger } from '../telemetry/logger.js';
import type { StoreErrorKind } from '../telemetry/catalogue.js';
import { Metrics } from '../telemetry/metrics.js';
import { RecordCache } from '../token/cache.js';
import { findForeignId, ForeignIds } from '../token/foreign-lookup.js';
import { Upstream } from '../upstream/upstream.js';
import { followChanges } from './changes.js';
import { Closers, closeStepMs, drained, logCloseMs } from './lifecycle.js';
import { Readiness, type ReadinessReport } from './readiness.js';
import { packageVersion } from './version.js';

/** The policy is handed over apart, as it was judged. */
export type DataProcessConfig = Omit<Config, 'policy'>;

/** `host:port` of each listener, with the real port. */
export interface ServingAddresses {
  /** Absent when the plane is off. */
  readonly data?: string;
  readonly verify?: string;
}

/** How long the start waits for Redis before it goes on without, not ready, ms. */
const connectedWithinMs = 2000;

export class DataProcess {
  readonly metrics: Metrics;
  readonly #config: DataProcessConfig;
  /** Each answers when a connection that requests need stands, or after the time it is given. */
  readonly #connected: ((timeoutMs: number) => Promise<void>)[] = [];
  readonly #pipeline: Pipeline;
  readonly #data: DataplaneListener | undefined;
  readonly #verify: VerifyListener | undefined;
  readonly #readiness: Readiness;
  readonly #closers: Closers;
  #lingering = false;
  #closed: Promise<void> | undefined;

  /**
   * Builds every part; nothing listens yet. `shared`: other processes listen on the same ports.
   * @throws OperatorError for what a person can mend (a key that is not set, a certificate that cannot be read).
   */
  static async open(config: DataProcessConfig, policy: Policy, shared: boolean, logger: Logger): Promise<DataProcess> {
    const binding = await loadBinding();
    const closers = new Closers();
    try {
      return new DataProcess(config, policy, shared, logger, binding, closers);
    } catch (error) {
      await closers.close();
      throw error;
    }
  }

  private constructor(
    config: DataProcessConfig,
    policy: Policy,
    shared: boolean,
    logger: Logger,
    binding: Awaited<ReturnType<typeof loadBinding>>,
    closers: Closers,
  ) {
    this.#config = config;
    this.#closers = closers;
    const target = redisSettings(config);
    const upstreamAt = upstreamSettings(config);

    const open = (purpose: ConnectionPurpose, at: RedisTarget): RedisConnection => {
      const redis = connect(at, purpose);
      closers.add(() => redis.disconnect());
      return redis;
    };
    const admissionRedis = open('admission', target);
    const control = open('control', target);
    const changes = open('changes', target);
    const logRedis = open('log', logRedisSettings(config));
    this.#connected.push((timeoutMs) => settled(control, timeoutMs));

    const metrics = new Metrics(packageVersion(), {
      requestsInFlight: () => pipeline.inFlight,
      logQueue: () => log.queued,
      breakerOpen: () => breakerOpen(),
      admissionQueue: () => admission.waiting,
      bodyMemory: () => budget.heldBytes,
      shedding: () => overload.reasons(pipeline.inFlight).length > 0,
      upstreamEjected: () => upstream?.ejected ?? 0,
      leasedRequests: () => admission.leases.taken,
    });
    this.metrics = metrics;
    const budget = new BodyBudget(config.bodyMemoryMax);
    const overload = new Overload(config.requestsInFlightMax, config.eventLoopLagMaxMs, budget);
    closers.add(() => overload.stop());
    const log = new AccessLog({
      redis: logRedis,
      retentionDays: config.logRetentionDays,
      streamMaxEntries: config.logStreamMaxEntries,
      bufferMaxEntries: config.logBufferMaxEntries,
      flushIntervalMs: config.logFlushIntervalMs,
      memoryIsShort: () => overload.heapIsShort,
      metrics,
      logger,
    });
    closers.add(async () => {
      const { remaining } = await log.close({ stalledMs: closeStepMs, deadlineMs: logCloseMs });
      if (remaining > 0) logger.error({ remaining }, 'log entries were lost: Redis did not take them');
    }, logCloseMs + closeStepMs);

    const admissionOptions = {
      observer: {
        batchAnswered: (size: number, durationMs: number) => {
          metrics.observeAdmissionBatch(size);
          metrics.observeAdmission(durationMs / 1000);
        },
        storeFailed: (kind: StoreErrorKind) => metrics.storeError(kind),
        deniedLocally: () => {},
      },
      queueMax: config.admissionQueueMax,
      commandTimeoutMs: config.redisCommandTimeoutMs,
    };
    let admission: AdmissionGate;
    if (admissionRedis instanceof Cluster) {
      const onCluster = new ClusterAdmission({ cluster: admissionRedis, ...admissionOptions });
      this.#connected.push((timeoutMs) => onCluster.settled(timeoutMs));
      admission = onCluster;
    } else {
      this.#connected.push((timeoutMs) => settled(admissionRedis, timeoutMs));
      admission = new Admission({ carrier: serverCarrier(admissionRedis), ...admissionOptions });
    }
    closers.add(() => admission.close());
    const breakerOpen = (): boolean => admission.breakerState !== 'closed';
    const outage = new OutageLimits(config.recordCacheMax, config.outageServeMaxS * 1000);
    closers.add(followChanges(changes, admission, outage));

    const readiness = new Readiness(
      control,
      logger,
      (installation) => {
        admission.installation = installation;
      },
      () => [
        ...(breakerOpen() ? ['Redis fails or is too slow: admissions are refused until it answers.'] : []),
        ...overload.reasons(pipeline.inFlight),
        ...(pipeline.draining ? ['This process is shutting down.'] : []),
      ],
    );
    this.#readiness = readiness;
    closers.add(() => readiness.stop());

    const upstream =
      upstreamAt === undefined
        ? undefined
        : new Upstream({
            ...upstreamAt,
            connectTimeoutMs: config.upstreamConnectTimeoutMs,
            headTimeoutMs: config.upstreamTimeoutMs,
            idleTimeoutMs: config.upstreamIdleTimeoutMs,
            keepAliveMs: config.upstreamKeepAliveMs,
            maxAgeMs: config.upstreamConnectionMaxAgeMs,
            connectionsMax: config.upstreamConnectionsMax,
            health: {
              ejectAfter: config.upstreamEjectAfter,
              ejectMs: config.upstreamEjectMs,
              path: config.upstreamHealthPath,
              intervalMs: config.upstreamHealthIntervalMs,
              timeoutMs: config.upstreamHealthTimeoutMs,
              successes: config.upstreamHealthSuccesses,
            },
            whenEjected: (address, isEjected) => {
              metrics.upstreamHealthChanged(isEjected ? 'ejected' : 'returned');
              if (isEjected) logger.warn({ address }, 'upstream address set aside: it failed time after time');
              else logger.info({ address }, 'upstream address answers again');
            },
          });
    closers.add(() => upstream?.close());

    const trustedProxies = new TrustedProxies(config.trustedProxies);
    const tls =
      config.tlsCert !== undefined && config.tlsKey !== undefined
        ? { certPath: config.tlsCert, keyPath: config.tlsKey }
        : undefined;
    const pipeline = new Pipeline(
      {
        settings: pipelineSettings(config),
        trustedProxies,
        addresses: new AddressList(),
        failures: new AuthFailures(config.authFailureLimit),
        cache: new RecordCache(config.recordCacheMax),
        secrets: new HmacSecrets(
          config.masterKey === undefined ? undefined : parseMasterKeys(config.masterKey),
          (message) => logger.error(message),
        ),
        admission,
        outage,
        overload,
        upstream,
        log,
        metrics,
        logger,
        foreignIds: new ForeignIds(
          (sha256Hex) => findForeignId(admissionRedis, admission.installation, sha256Hex),
          config.redisCommandTimeoutMs,
        ),
      },
      policy,
    );
    this.#pipeline = pipeline;

    const classify = createHeaderClassifier({
      hmacPrefix: config.hmacHeaderPrefix,
      messageSignatures: config.messageSignatures,
    });
    const dataAt = parseAddress(config.listen);
    if (dataAt !== undefined) {
      const data = new DataplaneListener(binding, pipeline, classify, trustedProxies, logger, {
        ...dataAt,
        tls,
        exclusive: !shared,
        apiKeyHeader: config.apiKeyHeader,
        bodyIdleMs: config.upstreamIdleTimeoutMs,
        bodyBudget: budget,
      });
      this.#data = data;
      closers.add(() => data.close());
    }
    const verifyAt = parseAddress(config.verifyListen);
    if (verifyAt === undefined) return;
    const verify = new VerifyListener(binding, pipeline, classify, trustedProxies, logger, {
      ...verifyAt,
      exclusive: !shared,
      apiKeyHeader: config.apiKeyHeader,
      hmacHeaderPrefix: config.hmacHeaderPrefix,
    });
    this.#verify = verify;
    closers.add(() => verify.close());
  }

  /**
   * Opens the listeners. Whoever connects meets a whole process: Redis was waited for.
   * @throws OperatorError when an address cannot be listened on.
   */
  async listen(): Promise<ServingAddresses> {
    await Promise.all(this.#connected.map((connected) => connected(connectedWithinMs)));
    await this.#readiness.start();
    const data = await this.#data?.listen();
    const verify = await this.#verify?.listen();
    return { ...(data === undefined ? {} : { data }), ...(verify === undefined ? {} : { verify }) };
  }

  readiness(): ReadinessReport {
    return this.#readiness.report();
  }

  /** Holds from the next request. */
  usePolicy(policy: Policy): void {
    this.#pipeline.policy = policy;
  }

  /**
   * Stops accepting, lets requests finish within `shutdownTimeoutMs`, and closes everything. `lingering` also waits,
   * within the same time, for idle connections: each is told to close with its next answer, or ends by its idle
   * timeout. Others listen on the port then, and nobody's request may meet a closed connection. Called again, it only
   * changes its mind about lingering.
   */
  close(lingering = false): Promise<void> {
    this.#lingering = lingering;
    this.#closed ??= this.#close();
    return this.#closed;
  }

  async #close(): Promise<void> {
    await Promise.all([this.#data?.stopAccepting(), this.#verify?.stopAccepting()]);
    await drained(() => this.#remaining(), this.#config.shutdownTimeoutMs);
    await this.#closers.close();
  }

  /** What the drain waits for. */
  #remaining(): number {
    if (!this.#lingering) return this.#pipeline.inFlight;
    return (this.#data?.connections ?? 0) + (this.#verify?.connections ?? 0);
  }
}
