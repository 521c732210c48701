import { describe, expect, test } from 'vitest';
import { aggregateExposition, lastingPart, sumSnapshots } from '../../../src/telemetry/aggregate.js';
import { metricCatalogue } from '../../../src/telemetry/catalogue.js';
import { Metrics } from '../../../src/telemetry/metrics.js';
import { storeErrorKind } from '../../../src/telemetry/store-error-kind.js';
import { samplesOf, typesOf } from '../../support/exposition.js';

describe('the exposition', () => {
  test('is of one moment, though requests are served while it is written', async () => {
    let queue = 1;
    const metrics = new Metrics('1.2.3', { logQueue: () => queue });
    metrics.observeRequest('ok', 'GET', 200, 0.003);
    let isWritten = false;
    const serve = (): void => {
      metrics.observeRequest('ok', 'GET', 200, 0.003);
      metrics.logEntries('written', 1);
      queue = 0;
      if (!isWritten) setImmediate(serve);
    };
    setImmediate(serve);
    const samples = samplesOf(await metrics.exposition());
    isWritten = true;
    expect([
      samples.get('tollkeeper_requests_total{outcome="ok",method="GET",status_class="2xx"}'),
      samples.get('tollkeeper_request_duration_seconds_count'),
      samples.get('tollkeeper_log_entries_total{result="written"}'),
      samples.get('tollkeeper_log_queue_entries'),
    ]).toEqual([1, 1, 0, 1]);
    const later = samplesOf(await metrics.exposition());
    expect(later.get('tollkeeper_log_entries_total{result="written"}')).toBeGreaterThan(3);
  });

  test('agrees with what was observed', async () => {
    const metrics = new Metrics('1.2.3', { requestsInFlight: () => 4, logQueue: () => 9, breakerOpen: () => true });
    metrics.observeRequest('ok', 'GET', 200, 0.003);
    metrics.observeRequest('ok', 'GET', 204, 0.0005);
    metrics.observeRequest('rate-limit-exceeded', 'POST', 429, 100);
    metrics.observeAdmission(0.001);
    metrics.observeAdmissionBatch(3);
    metrics.observeUpstream(0.02);
    metrics.rateLimited('quota');
    metrics.logEntries('written', 200);
    metrics.logEntries('written', 5);
    metrics.logEntries('dropped', 1);
    metrics.storeError('timeout');
    metrics.policyReloaded('failed');
    const samples = samplesOf(await metrics.exposition());
    const expected: Record<string, number> = {
      'tollkeeper_requests_total{outcome="ok",method="GET",status_class="2xx"}': 2,
      'tollkeeper_requests_total{outcome="rate-limit-exceeded",method="POST",status_class="4xx"}': 1,
      'tollkeeper_request_duration_seconds_bucket{le="0.0005"}': 1,
      'tollkeeper_request_duration_seconds_bucket{le="0.005"}': 2,
      'tollkeeper_request_duration_seconds_bucket{le="30"}': 2,
      'tollkeeper_request_duration_seconds_bucket{le="+Inf"}': 3,
      tollkeeper_request_duration_seconds_count: 3,
      tollkeeper_request_duration_seconds_sum: 100.0035,
      tollkeeper_admission_duration_seconds_count: 1,
      tollkeeper_admission_batch_size_sum: 3,
      tollkeeper_upstream_duration_seconds_sum: 0.02,
      'tollkeeper_rate_limited_total{kind="quota"}': 1,
      'tollkeeper_rate_limited_total{kind="tenant"}': 0,
      'tollkeeper_log_entries_total{result="written"}': 205,
      'tollkeeper_log_entries_total{result="dropped"}': 1,
      'tollkeeper_log_entries_total{result="failed"}': 0,
      'tollkeeper_store_errors_total{kind="timeout"}': 1,
      'tollkeeper_policy_reloads_total{result="failed"}': 1,
      tollkeeper_requests_in_flight: 4,
      tollkeeper_log_queue_entries: 9,
      tollkeeper_breaker_open: 1,
      [`tollkeeper_build_info{version="1.2.3",node="${process.version}"}`]: 1,
    };
    for (const [sample, value] of Object.entries(expected))
      expect([sample, samples.get(sample)]).toEqual([sample, value]);
    for (const name of [
      'nodejs_eventloop_lag_p99_seconds',
      'process_resident_memory_bytes',
      'process_cpu_seconds_total',
    ]) {
      expect(samples.has(name)).toBe(true);
    }
  });

  test('declares every metric of the catalogue with its type, and no other of ours', async () => {
    const metrics = new Metrics('1', {
      requestsInFlight: () => 0,
      logQueue: () => 0,
      breakerOpen: () => false,
      admissionQueue: () => 0,
      bodyMemory: () => 0,
      shedding: () => false,
      leasedRequests: () => 0,
      upstreamEjected: () => 0,
      workers: () => 2,
    });
    const types = typesOf(await metrics.exposition());
    const ours = [...types].filter(([name]) => name.startsWith('tollkeeper_'));
    const catalogue = Object.values(metricCatalogue).map(({ name, type }) => [name, type]);
    expect(Object.fromEntries(ours)).toEqual(Object.fromEntries(catalogue));
  });

  test('a stranger cannot make a series: what is not in its set is counted as other', async () => {
    const metrics = new Metrics('1');
    for (let index = 0; index < 100; index += 1) metrics.observeRequest(`x${index}`, `M${index}`, 100 * index, 0);
    const series = [...samplesOf(await metrics.exposition())].filter(([name]) =>
      name.startsWith('tollkeeper_requests_total'),
    );
    expect(series.map(([name]) => name)).toEqual(
      ['none', '1xx', '2xx', '3xx', '4xx', '5xx'].map(
        (statusClass) => `tollkeeper_requests_total{outcome="other",method="other",status_class="${statusClass}"}`,
      ),
    );
    expect(series.reduce((sum, [, value]) => sum + value, 0)).toBe(100);
  });

  test('a value that is no number leaves the sum of a histogram sound', async () => {
    const metrics = new Metrics('1');
    metrics.observeUpstream(Number.NaN);
    metrics.observeUpstream(Number.POSITIVE_INFINITY);
    metrics.observeUpstream(2);
    const samples = samplesOf(await metrics.exposition());
    expect(samples.get('tollkeeper_upstream_duration_seconds_sum')).toBe(2);
    expect(samples.get('tollkeeper_upstream_duration_seconds_count')).toBe(1);
  });

  test('several processes add up to one', async () => {
    const workers = [new Metrics('1', { breakerOpen: () => true }), new Metrics('1', { breakerOpen: () => false })];
    for (const worker of workers) worker.observeRequest('ok', 'GET', 200, 0.3);
    const snapshots = await Promise.all(workers.map((worker) => worker.snapshot()));
    const samples = samplesOf(await aggregateExposition(JSON.parse(JSON.stringify(snapshots)) as typeof snapshots));
    expect(samples.get('tollkeeper_requests_total{outcome="ok",method="GET",status_class="2xx"}')).toBe(2);
    expect(samples.get('tollkeeper_request_duration_seconds_bucket{le="0.5"}')).toBe(2);
    expect(samples.get('tollkeeper_breaker_open')).toBe(1);
    expect(samples.get(`tollkeeper_build_info{version="1",node="${process.version}"}`)).toBe(1);
  });

  test('of several processes the worst lag and the fullest table of descriptors are told', async () => {
    const name = 'nodejs_eventloop_lag_p99_seconds';
    const lags = [0.2, 0.001];
    const snapshots = await Promise.all(
      lags.map(async (lag) => {
        const snapshot = await new Metrics('1').snapshot();
        return snapshot.map((metric) =>
          metric.name === name
            ? { ...metric, values: metric.values.map((sample) => ({ ...sample, value: lag })) }
            : metric,
        );
      }),
    );
    const samples = samplesOf(await aggregateExposition(snapshots));
    expect(samples.get(name)).toBe(0.2);
    if (process.platform !== 'linux') return;
    const used = samples.get('tollkeeper_descriptors_used_ratio');
    expect(used).toBeGreaterThan(0);
    expect(used).toBeLessThan(1);
  });

  test('what workers had counted outlives them, and what they held does not', async () => {
    const worker = new Metrics('1', { requestsInFlight: () => 3 });
    worker.observeRequest('ok', 'GET', 200, 0.3);
    const gone = lastingPart(await worker.snapshot());
    const summed = await sumSnapshots([gone, gone]);
    const own = await new Metrics('1').snapshot();
    const samples = samplesOf(await aggregateExposition([own, summed, gone]));
    expect(samples.get('tollkeeper_requests_total{outcome="ok",method="GET",status_class="2xx"}')).toBe(3);
    expect(samples.get('tollkeeper_request_duration_seconds_count')).toBe(3);
    expect(samples.has('tollkeeper_requests_in_flight')).toBe(false);
  });
});

test.each([
  ['ReplyError', 'OOM command not allowed when used memory', 'out-of-memory'],
  ['ReplyError', 'ERR -OOM allow-oom flag is not set on the script, can not run it when used memory', 'out-of-memory'],
  ['ReplyError', 'LOADING Redis is loading the dataset in memory', 'loading'],
  ['ReplyError', 'READONLY You can not write against a read only replica.', 'read-only'],
  ['ReplyError', 'MISCONF Errors writing to the AOF file', 'disk'],
  ['ReplyError', 'ERR user_script:12: attempt to index a nil value', 'script'],
  ['ReplyError', 'SOMETHING new', 'other'],
  ['Error', 'Command timed out', 'timeout'],
  ['Error', "Stream isn't writeable and enableOfflineQueue options is false", 'connection'],
  ['Error', 'Connection is closed.', 'connection'],
  ['MaxRetriesPerRequestError', 'Reached the max retries per request limit (which is 0).', 'connection'],
  ['TypeError', 'x is not a function', 'other'],
])('an error of Redis has its kind: %s %s', (name, message, kind) => {
  const error = new Error(message);
  error.name = name;
  expect(storeErrorKind(error)).toBe(kind);
});
