/** What the composition needs of the data plane, be it in this process or in workers. */
import type { OperatorError } from '../core/failure.js';
import type { Policy } from '../policy/routes.js';
import type { Logger } from '../telemetry/logger.js';
import type { Metrics } from '../telemetry/metrics.js';
import type { DataProcess, ServingAddresses } from './data-process.js';
import type { ReadinessReport } from './readiness.js';

export interface DataPlane {
  /** The metrics of this process. */
  readonly metrics: Pick<Metrics, 'policyReloaded'>;
  /** Resolves when it cannot be kept up any longer, with the reason; whoever started it then closes it. */
  readonly failed: Promise<OperatorError>;
  /**
   * Answers when all of it takes requests.
   * @throws OperatorError when it cannot start.
   */
  listen(): Promise<ServingAddresses>;
  /** The text of `/metrics`, of all processes together. */
  exposition(): Promise<string>;
  readiness(): ReadinessReport;
  /** Answers when the next request is decided under `policy`, whichever process it comes to. */
  usePolicy(policy: Policy): Promise<void>;
  /** Replaces every worker by a new process, one after another, while requests go on. Never rejects. */
  restart(): Promise<void>;
  /** Drains and stops. */
  close(): Promise<void>;
}

/** The data plane of a single process: `serve` itself. `shared`: others listen on its ports. */
export function inThisProcess(process: DataProcess, shared: boolean, logger: Logger): DataPlane {
  return {
    metrics: process.metrics,
    failed: new Promise(() => {}),
    listen: () => process.listen(),
    exposition: () => process.metrics.exposition(),
    readiness: () => process.readiness(),
    usePolicy: (policy) => {
      process.usePolicy(policy);
      return Promise.resolve();
    },
    restart: () => {
      logger.warn('there are no workers to restart: set TOLLKEEPER_WORKERS to 2 or more, or restart the whole');
      return Promise.resolve();
    },
    close: () => process.close(shared),
  };
}
