/**
 * The metrics of all processes as one. A counter never goes back: what a worker had counted when it was last asked, or
 * when it drained, stays in the sums after it is gone, and stands in for one that does not answer.
 */
import { aggregateExposition, lastingPart, type MetricsSnapshot, sumSnapshots } from '../telemetry/aggregate.js';
import type { Metrics } from '../telemetry/metrics.js';
import type { WorkerProcess } from './worker-process.js';

/** A worker that has not answered by then is left out of the wait, ms. */
const snapshotWithinMs = 1000;
/** Snapshots of gone workers are summed up when there are this many. */
const keptSnapshotsMax = 8;

export class WorkerMetrics {
  readonly #own: Metrics;
  readonly #latest = new Map<WorkerProcess, MetricsSnapshot>();
  readonly #gone: MetricsSnapshot[] = [];
  #summing = false;

  /** `own`: the metrics of the primary. */
  constructor(own: Metrics) {
    this.#own = own;
  }

  /** Counts `worker` from now on, also after its end. */
  async follow(worker: WorkerProcess): Promise<void> {
    this.#latest.set(worker, []);
    await worker.ended;
    const last = worker.finalSnapshot ?? this.#latest.get(worker) ?? [];
    this.#latest.delete(worker);
    // In one step: a scrape at any moment finds it in one of the two.
    this.#gone.push(lastingPart(last));
    await this.#sumUp();
  }

  /** The text exposition; answers within a second or so, whatever the workers do. */
  async exposition(): Promise<string> {
    await Promise.all([...this.#latest.keys()].map((worker) => this.#ask(worker)));
    const own = await this.#own.snapshot();
    return aggregateExposition([own, ...this.#gone, ...this.#latest.values()]);
  }

  async #ask(worker: WorkerProcess): Promise<void> {
    if (!worker.listening) return;
    const snapshot = await worker.snapshot(snapshotWithinMs);
    if (!this.#latest.has(worker)) return;
    if (snapshot === undefined) this.#own.workerEvent('scrape-missed');
    else this.#latest.set(worker, snapshot);
  }

  async #sumUp(): Promise<void> {
    if (this.#summing || this.#gone.length < keptSnapshotsMax) return;
    this.#summing = true;
    const summed = [...this.#gone];
    const totals = await sumSnapshots(summed);
    this.#gone.splice(0, summed.length, totals);
    this.#summing = false;
  }
}
