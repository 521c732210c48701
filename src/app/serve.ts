/**
 * The composition root of `tollkeeper serve`: the data plane, in this process or in workers, and the admin plane that
 * looks at it. Listeners open last and close first. No decision about a request is made here.
 */
import { AdminServer } from '../admin/server.js';
import { redisSettings, upstreamSettings } from '../config/require.js';
import type { Config } from '../config/schema.js';
import type { OperatorError } from '../core/failure.js';
import { loadPolicy } from '../policy/load.js';
import type { Policy } from '../policy/routes.js';
import { displayTarget } from '../redis/target.js';
import { createLogger, type Logger } from '../telemetry/logger.js';
import { openAdminApi } from './admin-api.js';
import { type DataPlane, inThisProcess } from './data-plane.js';
import { requireFreeAddresses } from './free-address.js';
import { adviseKernelSetting } from './kernel-setting.js';
import { closeStepMs } from './lifecycle.js';
import { Workers } from './workers.js';

export interface RunningApp {
  /** `host:port` with the real port; '' when the data plane is off. */
  readonly dataAddress: string;
  readonly adminAddress: string;
  /** Resolves when it cannot go on, with the reason; the caller closes it then. */
  readonly failed: Promise<OperatorError>;
  /** Takes over what may change while running (the policy); a bad configuration is logged and the old one stays. */
  reload(readConfig: () => Config): Promise<void>;
  /** Replaces the workers one after another, while requests go on. */
  restart(): Promise<void>;
  /** Drains and stops; answers when nothing is left running. */
  close(): Promise<void>;
}

/** Where the lines of its own log go. */
export interface Output {
  readonly logger: Logger;
  /** What the standard output and standard error of workers are: those of this process, or a file that is open. */
  readonly workersTo: 'inherit' | number;
}

function standardOutput(config: Config): Output {
  return { logger: createLogger(config.logLevel), workersTo: 'inherit' };
}

/**
 * Starts everything `serve` needs.
 * @throws OperatorError when something cannot start; nothing is left half-started.
 */
export async function serve(config: Config, output: Output = standardOutput(config)): Promise<RunningApp> {
  const { logger } = output;
  const upstream = upstreamSettings(config)
    ?.addresses.map(({ text }) => text)
    .join(', ');
  const redis = displayTarget(redisSettings(config));
  const { policy: source } = config;
  const current = { policy: loadPolicy(source) };
  await requireFreeAddresses(config);
  if (config.listenShared) adviseKernelSetting(logger);
  const data = await openDataPlane(config, current.policy, output);
  const people = openAdminApi(config, () => current.policy, logger);
  const admin = new AdminServer({
    listen: config.adminListen,
    hosts: config.adminHosts,
    metrics: () => data.exposition(),
    readiness: () => data.readiness(),
    logger,
    api: people.parts,
  });
  // The admin plane last: it tells of the drain.
  const close = async (): Promise<void> => {
    await data.close();
    // Live readers of the log never leave by themselves.
    await people.parts.records.tail.close();
    await admin.close(closeStepMs);
    await people.close();
  };
  try {
    const adminAddress = await admin.listen();
    const addresses = await data.listen();
    for (const [plane, address] of Object.entries(addresses)) {
      logger.info({ plane, address, upstream, redis, workers: config.workers }, 'listening');
    }
    return {
      dataAddress: addresses.data ?? '',
      adminAddress,
      failed: data.failed,
      reload: async (readConfig) => {
        current.policy = (await reloadPolicy(data, readConfig, logger)) ?? current.policy;
      },
      restart: () => data.restart(),
      close,
    };
  } catch (error) {
    await close();
    throw error;
  }
}

/** @throws OperatorError for what a person can mend in the configuration or the policy. */
async function openDataPlane(config: Config, policy: Policy, { logger, workersTo }: Output): Promise<DataPlane> {
  const { policy: _source, ...rest } = config;
  if (config.workers > 1) return new Workers(rest, policy, logger, workersTo);
  // A primary need not load what only its workers run.
  const { DataProcess } = await import('./data-process.js');
  const shared = config.listenShared;
  return inThisProcess(await DataProcess.open(rest, policy, shared, logger), shared, logger);
}

/** Answers the new policy when it was taken over. */
async function reloadPolicy(data: DataPlane, readConfig: () => Config, logger: Logger): Promise<Policy | undefined> {
  try {
    const policy = loadPolicy(readConfig().policy);
    await data.usePolicy(policy);
    data.metrics.policyReloaded('ok');
    logger.info('policy reloaded');
    return policy;
  } catch (error) {
    data.metrics.policyReloaded('failed');
    logger.error({ reason: (error as Error).message }, 'the new policy was refused: the old one stays');
    return undefined;
  }
}
