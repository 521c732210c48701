/**
 * The data plane in several processes: this one, the primary, starts and watches the workers and answers for them.
 * They share the ports (SO_REUSEPORT), so the kernel spreads connections over them and the primary is on nobody's way.
 */
import type { OperatorError } from '../core/failure.js';
import type { Policy } from '../policy/routes.js';
import type { Logger } from '../telemetry/logger.js';
import type { WorkerEvent } from '../telemetry/catalogue.js';
import { Metrics } from '../telemetry/metrics.js';
import type { DataPlane } from './data-plane.js';
import type { DataProcessConfig, ServingAddresses } from './data-process.js';
import { logCloseMs } from './lifecycle.js';
import type { ReadinessReport } from './readiness.js';
import { adviseKernelSetting } from './kernel-setting.js';
import { packageVersion } from './version.js';
import { WorkerMetrics } from './worker-metrics.js';
import { WorkerProcess } from './worker-process.js';
import { type SlotOwner, WorkerSlot } from './worker-slot.js';

/** What a worker needs to end beyond the drain: flushing the log, closing connections, ms. */
const endWithinMs = 8000 + logCloseMs;
const policyWithinMs = 2000;
/** A worker not heard for so long is not counted on, ms. */
const silentAfterMs = 2000;
const checkEveryMs = 1000;
/** So many checks without a word, and a worker is taken to hang for ever: clients it holds wait for nothing. */
const silentChecksMax = 10;
/** One that starts has nothing to say until its modules are loaded, which takes a starved machine more than ten seconds. */
const startChecksMax = 60;

export class Workers implements DataPlane, SlotOwner {
  readonly metrics: Metrics;
  readonly failed: Promise<OperatorError>;
  readonly leaveWithinMs: number;
  readonly sharesPort: boolean;
  readonly #logger: Logger;
  readonly #slots: readonly WorkerSlot[];
  readonly #workerMetrics: WorkerMetrics;
  readonly #output: 'inherit' | number;
  #config: DataProcessConfig;
  #policy: Policy;
  #gaveUp: (reason: OperatorError) => void = () => {};
  #watch: NodeJS.Timeout | undefined;
  #restarting = false;
  #closing = false;

  /** `output`: where the workers write their log, see {@link WorkerProcess}. */
  constructor(config: DataProcessConfig, policy: Policy, logger: Logger, output: 'inherit' | number) {
    this.#output = output;
    this.#config = config;
    this.#policy = policy;
    this.#logger = logger;
    this.sharesPort = config.listenShared;
    this.leaveWithinMs = config.shutdownTimeoutMs + endWithinMs;
    this.metrics = new Metrics(packageVersion(), { workers: () => this.#serving().length });
    this.#workerMetrics = new WorkerMetrics(this.metrics);
    this.failed = new Promise((resolve) => {
      this.#gaveUp = resolve;
    });
    this.#slots = Array.from({ length: config.workers }, (_, at) => new WorkerSlot(at + 1, this, logger));
  }

  async listen(): Promise<ServingAddresses> {
    this.#watch = setInterval(() => this.#killHanging(), checkEveryMs);
    const [first, ...others] = this.#slots as [WorkerSlot, ...WorkerSlot[]];
    const addresses = await first.open();
    // Where the system chose the port, the others listen on the one that the first was given.
    this.#config = { ...this.#config, listen: addresses.data ?? 'off', verifyListen: addresses.verify ?? 'off' };
    await Promise.all(others.map((slot) => slot.open()));
    return addresses;
  }

  exposition(): Promise<string> {
    return this.#workerMetrics.exposition();
  }

  /** Ready when every worker that serves is; one that is being replaced is not missed as long as another serves. */
  readiness(): ReadinessReport {
    const serving = this.#serving();
    const reasons = serving.flatMap((worker) =>
      worker.silentMs > silentAfterMs
        ? [`Worker ${worker.number} does not answer.`]
        : (worker.readiness?.reasons ?? [`Worker ${worker.number} has not reported yet.`]),
    );
    if (this.#closing) reasons.push('This process is shutting down.');
    else if (serving.length === 0) reasons.push('No worker takes requests.');
    const warnings = serving.flatMap((worker) => worker.readiness?.warnings ?? []);
    return { ready: reasons.length === 0, reasons: [...new Set(reasons)], warnings: [...new Set(warnings)] };
  }

  async usePolicy(policy: Policy): Promise<void> {
    // First for those to come: a worker that starts now must not bring the old one back.
    this.#policy = policy;
    await Promise.all(
      this.#processes().map(async (worker) => {
        if (await worker.usePolicy(policy, policyWithinMs)) return;
        if (worker.listening) this.#logger.warn({ worker: worker.number }, 'a worker has not taken the new policy yet');
      }),
    );
  }

  async restart(): Promise<void> {
    if (this.#restarting || this.#closing) {
      this.#logger.warn('no restart of the workers: they are being restarted or stopped already');
      return;
    }
    this.#restarting = true;
    this.#logger.info({ workers: this.#slots.length }, 'the workers are restarted, one after another');
    adviseKernelSetting(this.#logger);
    try {
      for (const slot of this.#slots) await slot.restart();
      if (!this.#isClosing()) this.#logger.info('all workers were restarted');
    } catch (error) {
      this.#logger.error(
        { reason: (error as Error).message },
        'the restart was given up: a new worker cannot start, and the others go on',
      );
    } finally {
      this.#restarting = false;
    }
  }

  async close(): Promise<void> {
    this.#closing = true;
    await Promise.all(this.#slots.map((slot) => slot.close()));
    clearInterval(this.#watch);
  }

  // ---- what a slot needs

  launch(number: number): WorkerProcess {
    const worker = new WorkerProcess(number, this.#config, this.#policy, this.#output);
    void this.#workerMetrics.follow(worker);
    return worker;
  }

  event(event: WorkerEvent): void {
    this.metrics.workerEvent(event);
  }

  gaveUp(reason: OperatorError): void {
    this.#gaveUp(reason);
  }

  // ----

  #processes(): WorkerProcess[] {
    return this.#slots.flatMap((slot) => [...slot.processes]);
  }

  #serving(): WorkerProcess[] {
    return this.#slots.flatMap(({ current }) => (current?.listening === true ? [current] : []));
  }

  #isClosing(): boolean {
    return this.#closing;
  }

  #killHanging(): void {
    for (const worker of this.#processes()) {
      const checksMax = worker.listening ? silentChecksMax : startChecksMax;
      if (worker.countSilence() <= checksMax || worker.leaving) continue;
      this.#logger.error({ worker: worker.number, workerPid: worker.pid }, 'a worker hangs: killed');
      this.event('hung');
      worker.kill();
    }
  }
}
