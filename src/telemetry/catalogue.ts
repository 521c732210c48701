/**
 * Every metric of Tollkeeper itself in one file; docs/metrics.md is generated from `metricCatalogue`. Labels come from
 * closed sets: a value that is not in its set becomes `other`, so that no stranger can make series.
 */
import { problems } from '../core/problems.js';

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
export const outcomes: readonly string[] = ['ok', 'client-closed', ...Object.keys(problems), 'other'];
export const methods = ['GET', 'HEAD', 'POST', 'PUT', 'PATCH', 'DELETE', 'OPTIONS', 'other'] as const;
/** Index is the first digit of the status; `none` when there was no answer. */
export const statusClasses = ['none', '1xx', '2xx', '3xx', '4xx', '5xx'] as const;

export const rateLimitedKinds = ['rate-limit', 'quota', 'tenant', 'auth-failures'] as const;
/** Which limit refused: the token's rate limit or quota, its tenant's limit, or the one for failed authentications. */
export type RateLimitedKind = (typeof rateLimitedKinds)[number];

export const logResults = ['written', 'dropped', 'failed'] as const;
export type LogResult = (typeof logResults)[number];

export const storeErrorKinds = [
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

export const outageResults = ['served', 'limited', 'unknown'] as const;
/** What became of a request on a route that serves known tokens while Redis is away. */
export type OutageResult = (typeof outageResults)[number];

export const reloadResults = ['ok', 'failed'] as const;

export const healthChanges = ['ejected', 'returned'] as const;

export const workerEvents = ['died', 'hung', 'restarted', 'scrape-missed'] as const;
/**
 * What happened to a worker process: it ended by itself, it was killed because it did nothing any more, a restart
 * replaced it, or it did not answer a scrape in time.
 */
export type WorkerEvent = (typeof workerEvents)[number];

/** Seconds: from a refusal decided in memory to the longest upstream timeout anybody sets. */
export const durationBuckets = [0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30];
/** Seconds: one batched round trip to Redis, up to its command timeout. */
export const admissionBuckets = [0.00025, 0.0005, 0.001, 0.002, 0.004, 0.008, 0.016, 0.032, 0.064, 0.1, 0.25, 1];
export const batchSizeBuckets = [1, 2, 4, 8, 16, 32, 64, 128];

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
  leasedRequests: {
    name: 'tollkeeper_leased_requests_total',
    type: 'counter',
    labels: {},
    help: 'Requests admitted by a lease, without a call to Redis of their own.',
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
    help: '1 while new requests are answered 503 `overloaded`: the event loop lags, too much is under way, bodies fill their memory, or the heap is nearly full.',
    aggregator: 'max',
  },
  descriptorUse: {
    name: 'tollkeeper_descriptors_used_ratio',
    type: 'gauge',
    labels: {},
    help: 'Open file descriptors as a share of the limit (`ulimit -n`); of several processes the most that one has. Linux only.',
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
