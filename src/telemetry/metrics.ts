/**
 * Counts what happens in this process, in the metrics of catalogue.ts.
 *
 * Hot path: prom-client hashes labels and checks values on each observation (measured: 0.25 us a histogram, 0.4 us a
 * counter with its children bound). A request makes four of them, so they are counted in cells here (0.02 us each) and
 * handed to prom-client when they are scraped.
 */
import { setImmediate } from 'node:timers/promises';
import { collectDefaultMetrics, type Metric, Registry } from 'prom-client';
import type { MetricSamples, MetricsSnapshot } from './aggregate.js';
import {
  admissionBuckets,
  batchSizeBuckets,
  durationBuckets,
  healthChanges,
  type LogResult,
  logResults,
  type MetricDescription,
  methods,
  metricCatalogue,
  type OutageResult,
  outageResults,
  outcomes,
  type RateLimitedKind,
  rateLimitedKinds,
  reloadResults,
  statusClasses,
  type StoreErrorKind,
  storeErrorKinds,
  type WorkerEvent,
  workerEvents,
} from './catalogue.js';
import { type Cells, HistogramCells, LabelCells, RequestCells, SampledCell } from './cells.js';
import { descriptorUse } from './descriptors.js';

/** Where the gauges read their value when they are scraped; what is not given is not exported. */
export interface GaugeSources {
  readonly requestsInFlight?: () => number;
  readonly logQueue?: () => number;
  readonly breakerOpen?: () => boolean;
  readonly admissionQueue?: () => number;
  readonly bodyMemory?: () => number;
  readonly shedding?: () => boolean;
  readonly upstreamEjected?: () => number;
  readonly leasedRequests?: () => number;
  readonly workers?: () => number;
}

export const metricsContentType = Registry.PROMETHEUS_CONTENT_TYPE;

export class Metrics {
  /** What is counted here, read at one moment. */
  readonly #own: (() => MetricSamples)[] = [];
  /** Of Node and the process; reading one may ask the kernel. */
  readonly #ofNode: readonly { readonly get: () => Promise<MetricSamples> }[];
  readonly #requests = new RequestCells(outcomes, methods, statusClasses);
  readonly #requestDuration = new HistogramCells(durationBuckets);
  readonly #admissionDuration = new HistogramCells(admissionBuckets);
  readonly #admissionBatchSize = new HistogramCells(batchSizeBuckets);
  readonly #upstreamDuration = new HistogramCells(durationBuckets);
  readonly #rateLimited = new LabelCells('kind', rateLimitedKinds);
  readonly #logEntries = new LabelCells('result', logResults);
  readonly #storeErrors = new LabelCells('kind', storeErrorKinds);
  readonly #outageRequests = new LabelCells('result', outageResults);
  readonly #healthChanges = new LabelCells('change', healthChanges);
  readonly #policyReloads = new LabelCells('result', reloadResults);
  readonly #workerEvents = new LabelCells('event', workerEvents);

  /** `version` of Tollkeeper. Node's own metrics (process, memory, event-loop delay, garbage collection) are included. */
  constructor(version: string, sources: GaugeSources = {}) {
    const registry = new Registry();
    collectDefaultMetrics({ register: registry });
    const ofNode = registry.getMetricsAsArray() as unknown as {
      aggregator: string;
      get: () => Promise<MetricSamples>;
    }[];
    for (const metric of ofNode) {
      // Of the lag of several event loops it is the worst that callers wait for.
      if (metric.aggregator === 'average') metric.aggregator = 'max';
    }
    this.#ofNode = ofNode;
    this.#register(metricCatalogue.requests, this.#requests);
    this.#register(metricCatalogue.requestDuration, this.#requestDuration);
    this.#register(metricCatalogue.admissionDuration, this.#admissionDuration);
    this.#register(metricCatalogue.admissionBatchSize, this.#admissionBatchSize);
    this.#register(metricCatalogue.upstreamDuration, this.#upstreamDuration);
    this.#register(metricCatalogue.rateLimited, this.#rateLimited);
    this.#register(metricCatalogue.logEntries, this.#logEntries);
    this.#register(metricCatalogue.storeErrors, this.#storeErrors);
    this.#register(metricCatalogue.outageRequests, this.#outageRequests);
    this.#register(metricCatalogue.upstreamHealthChanges, this.#healthChanges);
    this.#register(metricCatalogue.policyReloads, this.#policyReloads);
    this.#register(metricCatalogue.workerEvents, this.#workerEvents);
    this.#register(metricCatalogue.build, new SampledCell(() => 1, { version, node: process.version }));
    const descriptors = descriptorUse();
    if (descriptors) this.#register(metricCatalogue.descriptorUse, new SampledCell(descriptors));
    const {
      requestsInFlight,
      logQueue,
      breakerOpen,
      workers,
      admissionQueue,
      bodyMemory,
      shedding,
      upstreamEjected,
      leasedRequests,
    } = sources;
    if (requestsInFlight) this.#register(metricCatalogue.requestsInFlight, new SampledCell(requestsInFlight));
    if (workers) this.#register(metricCatalogue.workers, new SampledCell(workers));
    if (logQueue) this.#register(metricCatalogue.logQueue, new SampledCell(logQueue));
    if (admissionQueue) this.#register(metricCatalogue.admissionQueue, new SampledCell(admissionQueue));
    if (bodyMemory) this.#register(metricCatalogue.bodyMemory, new SampledCell(bodyMemory));
    if (upstreamEjected) this.#register(metricCatalogue.upstreamEjected, new SampledCell(upstreamEjected));
    if (leasedRequests) this.#register(metricCatalogue.leasedRequests, new SampledCell(leasedRequests));
    if (shedding) this.#register(metricCatalogue.shedding, new SampledCell(() => (shedding() ? 1 : 0)));
    if (breakerOpen) this.#register(metricCatalogue.breakerOpen, new SampledCell(() => (breakerOpen() ? 1 : 0)));
  }

  /** One request that was answered, or whose client left (`status` 0). */
  observeRequest(outcome: string, method: string, status: number, durationS: number): void {
    this.#requests.count(outcome, method, status);
    this.#requestDuration.observe(durationS);
  }

  observeAdmission(durationS: number): void {
    this.#admissionDuration.observe(durationS);
  }

  observeAdmissionBatch(size: number): void {
    this.#admissionBatchSize.observe(size);
  }

  observeUpstream(durationS: number): void {
    this.#upstreamDuration.observe(durationS);
  }

  rateLimited(kind: RateLimitedKind): void {
    this.#rateLimited.add(kind, 1);
  }

  logEntries(result: LogResult, count: number): void {
    this.#logEntries.add(result, count);
  }

  /** A call to Redis that failed. */
  storeError(kind: StoreErrorKind): void {
    this.#storeErrors.add(kind, 1);
  }

  outageRequest(result: OutageResult): void {
    this.#outageRequests.add(result, 1);
  }

  upstreamHealthChanged(change: (typeof healthChanges)[number]): void {
    this.#healthChanges.add(change, 1);
  }

  policyReloaded(result: (typeof reloadResults)[number]): void {
    this.#policyReloads.add(result, 1);
  }

  workerEvent(event: WorkerEvent): void {
    this.#workerEvents.add(event, 1);
  }

  /** The text exposition of {@link snapshot}. Requests are served while it is written, metric by metric. */
  async exposition(): Promise<string> {
    const registry = new Registry();
    for (const metric of await this.snapshot()) {
      // A registry asks a metric for nothing but its name and `get`.
      registry.registerMetric({ name: metric.name, get: () => Promise.resolve(metric) } as unknown as Metric);
    }
    const parts: string[] = [];
    for (const { name } of registry.getMetricsAsArray()) {
      parts.push(await registry.getSingleMetricAsString(name));
      await setImmediate();
    }
    return `${parts.join('\n\n')}\n`;
  }

  /**
   * What aggregate.ts takes; survives being sent to another process as JSON. What Tollkeeper counts is of one moment;
   * Node's own metrics come after it, one in each turn of the event loop, for together they hold it up too long.
   */
  async snapshot(): Promise<MetricsSnapshot> {
    const snapshot = this.#own.map((read) => read());
    for (const metric of this.#ofNode) {
      snapshot.push(await metric.get());
      await setImmediate();
    }
    return snapshot;
  }

  #register(description: MetricDescription, cells: Cells): void {
    const { name, help, type, aggregator } = description;
    this.#own.push(() => ({ name, help, type, aggregator, values: cells.values(name) }));
  }
}
