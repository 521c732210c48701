/**
 * The composition root of `tollkeeper serve`: the data plane, in this process or in workers, and the admin plane that
 * looks at it. Listeners open last and close first. No decision about a request is made here.
 */
import { AdminServer } from '../admin/server.js';
import { requireKey } from '../config/require.js';
import type { Config } from '../config/schema.js';
import type { OperatorError } from '../core/failure.js';
import { loadPolicy } from '../policy/load.js';
import { displayAddress } from '../redis/connect.js';
import { createLogger, type Logger } from '../telemetry/logger.js';
import { type DataPlane, inThisProcess } from './data-plane.js';
import { closeStepMs } from './lifecycle.js';
import { Workers } from './workers.js';

export interface RunningApp {
  /** `host:port` with the real port. */
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

/**
 * Starts everything `serve` needs.
 * @throws OperatorError when something cannot start; nothing is left half-started.
 */
export async function serve(config: Config, logger: Logger = createLogger(config.logLevel)): Promise<RunningApp> {
  const upstream = requireKey(config, 'upstream');
  const redis = displayAddress(requireKey(config, 'redisUrl'));
  const data = await openDataPlane(config, logger);
  const admin = new AdminServer({
    listen: config.adminListen,
    metrics: () => data.exposition(),
    readiness: () => data.readiness(),
    logger,
  });
  // The admin plane last: it tells of the drain.
  const close = async (): Promise<void> => {
    await data.close();
    await admin.close(closeStepMs);
  };
  try {
    const adminAddress = await admin.listen();
    const addresses = await data.listen();
    for (const [plane, address] of Object.entries(addresses)) {
      logger.info({ plane, address, upstream, redis, workers: config.workers }, 'listening');
    }
    return {
      dataAddress: addresses.data,
      adminAddress,
      failed: data.failed,
      reload: (readConfig) => reloadPolicy(data, readConfig, logger),
      restart: () => data.restart(),
      close,
    };
  } catch (error) {
    await close();
    throw error;
  }
}

/** @throws OperatorError for what a person can mend in the configuration or the policy. */
async function openDataPlane(config: Config, logger: Logger): Promise<DataPlane> {
  const { policy: source, ...rest } = config;
  const policy = loadPolicy(source);
  if (config.workers > 1) return new Workers(rest, policy, logger);
  // A primary need not load what only its workers run.
  const { DataProcess } = await import('./data-process.js');
  return inThisProcess(await DataProcess.open(rest, policy, false, logger), logger);
}

async function reloadPolicy(data: DataPlane, readConfig: () => Config, logger: Logger): Promise<void> {
  try {
    await data.usePolicy(loadPolicy(readConfig().policy));
    data.metrics.policyReloaded('ok');
    logger.info('policy reloaded');
  } catch (error) {
    data.metrics.policyReloaded('failed');
    logger.error({ reason: (error as Error).message }, 'the new policy was refused: the old one stays');
  }
}
