/**
 * One place among the workers, and who fills it: a worker that ends is replaced, with growing waits when it ends at
 * once, and after too many such ends in a row the place is given up.
 */
import { OperatorError } from '../core/failure.js';
import type { Logger } from '../telemetry/logger.js';
import type { WorkerEvent } from '../telemetry/catalogue.js';
import type { ServingAddresses } from './data-process.js';
import type { WorkerProcess } from './worker-process.js';

/** What a place needs of the whole. */
export interface SlotOwner {
  /** Starts a process for this place. */
  launch(number: number): WorkerProcess;
  event(event: WorkerEvent): void;
  /** The place cannot be filled any more. */
  gaveUp(reason: OperatorError): void;
  /** How long a worker may take to drain and end, ms. */
  readonly leaveWithinMs: number;
  /** Others than these workers serve the port too. */
  readonly sharesPort: boolean;
}

/** A worker that served this long has not ended "at once", ms. */
const settledAfterMs = 10_000;
const backoffFirstMs = 200;
/** So many ends at once in a row (6.2 s of waiting in all) are no accident. */
const endsInARowMax = 6;

export class WorkerSlot {
  readonly #number: number;
  readonly #owner: SlotOwner;
  readonly #logger: Logger;
  /** All that live, also those that drain or are to take over. */
  readonly #processes = new Set<WorkerProcess>();
  #current: WorkerProcess | undefined;
  #endsInARow = 0;
  #replacement: NodeJS.Timeout | undefined;
  #state: 'opening' | 'open' | 'restarting' | 'closed' = 'opening';

  constructor(number: number, owner: SlotOwner, logger: Logger) {
    this.#number = number;
    this.#owner = owner;
    this.#logger = logger;
  }

  /** Every process of this place that lives. */
  get processes(): Iterable<WorkerProcess> {
    return this.#processes;
  }

  /** The process that is to serve; undefined while there is none. */
  get current(): WorkerProcess | undefined {
    return this.#current;
  }

  /**
   * Fills the place for the first time.
   * @throws OperatorError when the worker cannot start.
   */
  async open(): Promise<ServingAddresses> {
    const worker = this.#launch();
    this.#occupy(worker);
    const start = await worker.started;
    if ('failure' in start) throw start.failure;
    // It may have ended since.
    this.#state = 'open';
    if (this.#current === undefined) this.#replaceLater(worker, await worker.ended);
    return start.addresses;
  }

  /**
   * Replaces the worker by a new process, which takes requests before the old one stops to.
   * @throws OperatorError when the new one cannot start; the old one goes on.
   */
  async restart(): Promise<void> {
    if (this.#state !== 'open') return;
    this.#state = 'restarting';
    clearTimeout(this.#replacement);
    const fresh = this.#launch();
    const start = await fresh.started;
    // Closed in the meantime: the new one was told to leave like all others.
    if (!this.#isIn('restarting')) return;
    this.#state = 'open';
    if ('failure' in start) {
      if (this.#current === undefined) this.#replaceLater(fresh, start.failure.message);
      throw start.failure;
    }
    const old = this.#current;
    this.#occupy(fresh);
    this.#owner.event('restarted');
    await old?.leave(true, this.#owner.leaveWithinMs);
    this.#logger.info({ worker: this.#number, newPid: fresh.pid, oldPid: old?.pid }, 'worker restarted');
  }

  /** Lets every process of this place drain and end. */
  async close(): Promise<void> {
    this.#state = 'closed';
    clearTimeout(this.#replacement);
    await Promise.all(
      [...this.#processes].map(async (worker) => {
        if (await worker.leave(this.#owner.sharesPort, this.#owner.leaveWithinMs)) return;
        this.#logger.error({ worker: this.#number, workerPid: worker.pid }, 'a worker did not end in time: killed');
      }),
    );
  }

  #isIn(state: string): boolean {
    return this.#state === state;
  }

  #launch(): WorkerProcess {
    const worker = this.#owner.launch(this.#number);
    this.#processes.add(worker);
    void worker.ended.then(() => this.#processes.delete(worker));
    return worker;
  }

  #occupy(worker: WorkerProcess): void {
    this.#current = worker;
    void this.#vacate(worker);
  }

  async #vacate(worker: WorkerProcess): Promise<void> {
    const how = await worker.ended;
    if (this.#current !== worker) return;
    this.#current = undefined;
    if (this.#state === 'closed') return;
    this.#owner.event('died');
    this.#logger.error({ worker: this.#number, workerPid: worker.pid, ended: how }, 'a worker ended: it is replaced');
    if (this.#state !== 'open') return;
    const start = await worker.started;
    this.#replaceLater(worker, 'failure' in start ? start.failure.message : how);
  }

  /** After a wait: at once would be a busy loop where the cause stays. */
  #replaceLater(ended: WorkerProcess, reason: string): void {
    this.#endsInARow = ended.servedMs >= settledAfterMs ? 1 : this.#endsInARow + 1;
    if (this.#endsInARow >= endsInARowMax) {
      this.#owner.gaveUp(
        new OperatorError(
          `Worker ${this.#number} ended ${endsInARowMax} times in a row, each time at once (${reason}).`,
        ),
      );
      return;
    }
    this.#replacement = setTimeout(() => void this.#replace(), backoffFirstMs * 2 ** (this.#endsInARow - 1));
  }

  async #replace(): Promise<void> {
    const worker = this.#launch();
    this.#occupy(worker);
    const start = await worker.started;
    if (this.#state === 'closed') return;
    if ('failure' in start) {
      this.#logger.error({ worker: this.#number, reason: start.failure.message }, 'a worker cannot start');
    } else {
      this.#logger.info({ worker: this.#number, workerPid: worker.pid }, 'worker replaced');
    }
  }
}
