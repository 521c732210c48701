/**
 * Every metric in one file; docs/metrics.md is generated from `metricCatalogue`. Labels come from closed sets: a value
 * that is not in its set becomes `other`, so that no stranger can make series.
 *
 * Hot path: prom-client hashes labels and checks values on each observation (measured: 0.25 us a histogram, 0.4 us a
 * counter with its children bound). A request makes four of them, so they are counted in cells here (0.02 us each) and
 * handed to prom-client when they are scraped.
 */
import {
  AggregatorRegistry,
  collectDefaultMetrics,
  type Metric,
  type MetricObjectWithValues,
  type MetricValue,
  Registry,
} from 'prom-client';
import { problems } from '../core/problems.js';
import { type Cells, HistogramCells, LabelCells, RequestCells, SampledCell } from './cells.js';

/** What a metric is, for its registration and its documentation. */
export interface MetricDescription {
  readonly name: `tollkeeper_${string}`;
  readonly type: 'counter' | 'gauge' | 'histogram';
  /** Label names and their closed sets of values. */
  readonly labels: Readonly<Record<string, readonly string[]>>;
  readonly help: string;
  /** Upper bounds of a histogram's buckets. */
  readonly buckets?: readonly number[];
  /** How the values of several worker processes become one. */
  readonly aggregator: 'sum' | 'max' | 'first';
}

/** Values of the label `outcome`: `ok`, `client-closed`, every problem, `other`. */
const outcomes: readonly string[] = ['ok', 'client-closed', ...Object.keys(problems), 'other'];
const methods = ['GET', 'HEAD', 'POST', 'PUT', 'PATCH', 'DELETE', 'OPTIONS', 'other'] as const;
/** Index is the first digit of the status; `none` when there was no answer. */
const statusClasses = ['none', '1xx', '2xx', '3xx', '4xx', '5xx'] as const;

const rateLimitedKinds = ['rate-limit', 'quota', 'tenant', 'auth-failures'] as const;
/** Which limit refused: the token's rate limit or quota, its tenant's limit, or the one for failed authentications. */
export type RateLimitedKind = (typeof rateLimitedKinds)[number];

const logResults = ['written', 'dropped', 'failed'] as const;
export type LogResult = (typeof logResults)[number];

const storeErrorKinds = [
  'timeout',
  'connection',
  'out-of-memory',
  'loading',
  'busy',
  'read-only',
  'replication',
  'disk',
  'cluster',
  'access',
  'script',
  'unreadable-record',
  'other',
] as const;
export type StoreErrorKind = (typeof storeErrorKinds)[number];

const outageResults = ['served', 'limited', 'unknown'] as const;
/** What became of a request on a route that serves known tokens while Redis is away. */
export type OutageResult = (typeof outageResults)[number];

const reloadResults = ['ok', 'failed'] as const;

const healthChanges = ['ejected', 'returned'] as const;

const workerEvents = ['died', 'hung', 'restarted', 'scrape-missed'] as const;
/**
 * What happened to a worker process: it ended by itself, it was killed because it did nothing any more, a restart
 * replaced it, or it did not answer a scrape in time.
 */
export type WorkerEvent = (typeof workerEvents)[number];

/** Seconds: from a refusal decided in memory to the longest upstream timeout anybody sets. */
const durationBuckets = [0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30];
/** Seconds: one batched round trip to Redis, up to its command timeout. */
const admissionBuckets = [0.00025, 0.0005, 0.001, 0.002, 0.004, 0.008, 0.016, 0.032, 0.064, 0.1, 0.25, 1];
const batchSizeBuckets = [1, 2, 4, 8, 16, 32, 64, 128];

/** The metrics of Tollkeeper itself, by the name they have in code. */
export const metricCatalogue = {
  requests: {
    name: 'tollkeeper_requests_total',
    type: 'counter',
    labels: { outcome: outcomes, method: methods, status_class: statusClasses },
    help: 'Requests answered, by outcome (ok = forwarded, else the problem slug), method and class of the status.',
    aggregator: 'sum',
  },
  requestDuration: {
    name: 'tollkeeper_request_duration_seconds',
    type: 'histogram',
    labels: {},
    help: 'From the head of the request to the end of the answer.',
    buckets: durationBuckets,
    aggregator: 'sum',
  },
  admissionDuration: {
    name: 'tollkeeper_admission_duration_seconds',
    type: 'histogram',
    labels: {},
    help: 'From the moment a request waits for Redis to the verdict.',
    buckets: admissionBuckets,
    aggregator: 'sum',
  },
  admissionBatchSize: {
    name: 'tollkeeper_admission_batch_size',
    type: 'histogram',
    labels: {},
    help: 'Requests that shared one script call.',
    buckets: batchSizeBuckets,
    aggregator: 'sum',
  },
  upstreamDuration: {
    name: 'tollkeeper_upstream_duration_seconds',
    type: 'histogram',
    labels: {},
    help: 'From the request to the upstream to the head of its answer.',
    buckets: durationBuckets,
    aggregator: 'sum',
  },
  upstreamHealthChanges: {
    name: 'tollkeeper_upstream_health_changes_total',
    type: 'counter',
    labels: { change: healthChanges },
    help: 'Upstream addresses set aside because they failed time after time, and returned.',
    aggregator: 'sum',
  },
  upstreamEjected: {
    name: 'tollkeeper_upstream_ejected_addresses',
    type: 'gauge',
    labels: {},
    help: 'Upstream addresses that are set aside now; of several workers the most that one has.',
    aggregator: 'max',
  },
  rateLimited: {
    name: 'tollkeeper_rate_limited_total',
    type: 'counter',
    labels: { kind: rateLimitedKinds },
    help: 'Requests answered 429, by the limit that refused.',
    aggregator: 'sum',
  },
  logEntries: {
    name: 'tollkeeper_log_entries_total',
    type: 'counter',
    labels: { result: logResults },
    help: 'Access-log entries: written to Redis, dropped (buffer full), failed (no stream at the key).',
    aggregator: 'sum',
  },
  storeErrors: {
    name: 'tollkeeper_store_errors_total',
    type: 'counter',
    labels: { kind: storeErrorKinds },
    help: 'Calls to Redis that failed.',
    aggregator: 'sum',
  },
  outageRequests: {
    name: 'tollkeeper_outage_requests_total',
    type: 'counter',
    labels: { result: outageResults },
    help: 'Requests decided without Redis where `serve-known` holds: served, over the limit as counted here, or not known.',
    aggregator: 'sum',
  },
  policyReloads: {
    name: 'tollkeeper_policy_reloads_total',
    type: 'counter',
    labels: { result: reloadResults },
    help: 'Reloads of the policy; after a failed one the old policy stays.',
    aggregator: 'sum',
  },
  requestsInFlight: {
    name: 'tollkeeper_requests_in_flight',
    type: 'gauge',
    labels: {},
    help: 'Requests received and not answered to their end.',
    aggregator: 'sum',
  },
  logQueue: {
    name: 'tollkeeper_log_queue_entries',
    type: 'gauge',
    labels: {},
    help: 'Access-log entries that Redis has not acknowledged yet.',
    aggregator: 'sum',
  },
  breakerOpen: {
    name: 'tollkeeper_breaker_open',
    type: 'gauge',
    labels: {},
    help: '1 while Redis is taken to be away and requests are refused without asking it.',
    aggregator: 'max',
  },
  admissionQueue: {
    name: 'tollkeeper_admission_queue_requests',
    type: 'gauge',
    labels: {},
    help: 'Requests that wait for a call to Redis.',
    aggregator: 'sum',
  },
  bodyMemory: {
    name: 'tollkeeper_body_memory_bytes',
    type: 'gauge',
    labels: {},
    help: 'Bytes of request bodies held in memory.',
    aggregator: 'sum',
  },
  shedding: {
    name: 'tollkeeper_shedding',
    type: 'gauge',
    labels: {},
    help: '1 while new requests are answered 503 `overloaded`: the event loop lags, too much is under way, or bodies fill their memory.',
    aggregator: 'max',
  },
  workers: {
    name: 'tollkeeper_workers',
    type: 'gauge',
    labels: {},
    help: 'Worker processes that take requests; only where there is more than one.',
    aggregator: 'sum',
  },
  workerEvents: {
    name: 'tollkeeper_worker_events_total',
    type: 'counter',
    labels: { event: workerEvents },
    help: 'Workers that died, were killed because they hung, were restarted on request, or missed a scrape.',
    aggregator: 'sum',
  },
  build: {
    name: 'tollkeeper_build_info',
    type: 'gauge',
    labels: { version: [], node: [] },
    help: 'Always 1; the labels say what runs.',
    aggregator: 'first',
  },
} as const satisfies Record<string, MetricDescription>;

/** Where the gauges read their value when they are scraped; what is not given is not exported. */
export interface GaugeSources {
  readonly requestsInFlight?: () => number;
  readonly logQueue?: () => number;
  readonly breakerOpen?: () => boolean;
  readonly admissionQueue?: () => number;
  readonly bodyMemory?: () => number;
  readonly shedding?: () => boolean;
  readonly upstreamEjected?: () => number;
  readonly workers?: () => number;
}

/** The metrics of one process as plain data, for a process that aggregates several. */
export type MetricsSnapshot = readonly MetricObjectWithValues<MetricValue<string>>[];

export const metricsContentType = Registry.PROMETHEUS_CONTENT_TYPE;

export class Metrics {
  readonly #registry = new Registry();
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
    collectDefaultMetrics({ register: this.#registry });
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
    const { requestsInFlight, logQueue, breakerOpen, workers, admissionQueue, bodyMemory, shedding, upstreamEjected } =
      sources;
    if (requestsInFlight) this.#register(metricCatalogue.requestsInFlight, new SampledCell(requestsInFlight));
    if (workers) this.#register(metricCatalogue.workers, new SampledCell(workers));
    if (logQueue) this.#register(metricCatalogue.logQueue, new SampledCell(logQueue));
    if (admissionQueue) this.#register(metricCatalogue.admissionQueue, new SampledCell(admissionQueue));
    if (bodyMemory) this.#register(metricCatalogue.bodyMemory, new SampledCell(bodyMemory));
    if (upstreamEjected) this.#register(metricCatalogue.upstreamEjected, new SampledCell(upstreamEjected));
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

  /** A call to Redis that failed; see {@link storeErrorKind}. */
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

  /** The text exposition of this process. */
  exposition(): Promise<string> {
    return this.#registry.metrics();
  }

  /** What {@link aggregateExposition} takes; survives being sent to another process as JSON. */
  snapshot(): Promise<MetricsSnapshot> {
    return this.#registry.getMetricsAsJSON();
  }

  #register(description: MetricDescription, cells: Cells): void {
    const { name, help, type, aggregator } = description;
    const metric = {
      name,
      get: () => Promise.resolve({ name, help, type, aggregator, values: cells.values(name) }),
      reset: () => {},
    };
    // A registry asks a metric for nothing but its name and `get`.
    this.#registry.registerMetric(metric as unknown as Metric);
  }
}

/** The text exposition of several processes as one: counters and histograms are summed. */
export function aggregateExposition(snapshots: readonly MetricsSnapshot[]): Promise<string> {
  return AggregatorRegistry.aggregate(snapshots as unknown as object[]).metrics();
}

/** What of a snapshot stays true when its process is gone: counters and histograms. */
export function lastingPart(snapshot: MetricsSnapshot): MetricsSnapshot {
  // The declarations say that a type is a number; it is its name.
  return snapshot.filter(({ type }) => ['counter', 'histogram'].includes(String(type)));
}

/** Several snapshots as one, each metric by its aggregator. */
export function sumSnapshots(snapshots: readonly MetricsSnapshot[]): Promise<MetricsSnapshot> {
  return AggregatorRegistry.aggregate(snapshots as unknown as object[]).getMetricsAsJSON();
}

/** The kind of an error that a call to Redis was rejected with, by the codes of the server and of ioredis. */
export function storeErrorKind(error: unknown): StoreErrorKind {
  if (!(error instanceof Error)) return 'other';
  if (error.name !== 'ReplyError') {
    if (/timed? ?out/i.test(error.message)) return 'timeout';
    return 'code' in error || /clos|connect|writeable|retries|ended|reset/i.test(error.message)
      ? 'connection'
      : 'other';
  }
  return replyErrorKinds.get(replyErrorCode(error)) ?? 'other';
}

/** `OOM` of `OOM command not allowed …`; a script that is refused whole has its code behind `ERR -`. */
function replyErrorCode(error: Error): string {
  return /^(?:ERR -)?([A-Z]+)\b/.exec(error.message)?.[1] ?? '';
}

const replyErrorKinds: ReadonlyMap<string, StoreErrorKind> = new Map([
  ['OOM', 'out-of-memory'],
  ['LOADING', 'loading'],
  ['BUSY', 'busy'],
  ['READONLY', 'read-only'],
  ['MASTERDOWN', 'replication'],
  ['NOREPLICAS', 'replication'],
  ['MISCONF', 'disk'],
  ['CLUSTERDOWN', 'cluster'],
  ['TRYAGAIN', 'cluster'],
  ['MOVED', 'cluster'],
  ['ASK', 'cluster'],
  ['CROSSSLOT', 'cluster'],
  ['NOAUTH', 'access'],
  ['WRONGPASS', 'access'],
  ['NOPERM', 'access'],
  ['ERR', 'script'],
  ['WRONGTYPE', 'script'],
  ['NOSCRIPT', 'script'],
]);
