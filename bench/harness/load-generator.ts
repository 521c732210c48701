/**
 * The load: autocannon in this process, one job from argv, one report on stdout.
 *
 * It reads the CPU time of the watched processes itself, at the very moments between which it counts answers. At the
 * end no request is cut off: each connection stops after the answer it waits for, so that what was sent, what was
 * answered and what is in the access log must be the same number.
 */
import autocannon from 'autocannon';
import type { Consumption, LoadJob, LoadReport } from './load.js';
import { cpuUs, machineCpuUs, rssBytes } from './proc.js';

/** autocannon's client; it sends no more once it has made `responseMax` requests (its lib/httpClient.js, 9.0.0). */
interface StoppableClient {
  responseMax?: number;
}

interface Snapshot {
  readonly atMs: number;
  readonly cpu: Readonly<Record<string, number>>;
  readonly loadCpuUs: number;
  readonly machineCpuUs: number;
}

const drainMs = 20_000;
const job = JSON.parse(process.argv[2] ?? '') as LoadJob;

/** Grows as needed; a plain array of doubles would cost the generator more. */
class Samples {
  #values = new Float64Array(1 << 16);
  #count = 0;

  get count(): number {
    return this.#count;
  }

  add(value: number): void {
    if (this.#count === this.#values.length) {
      const larger = new Float64Array(this.#values.length * 2);
      larger.set(this.#values);
      this.#values = larger;
    }
    this.#values[this.#count++] = value;
  }

  /** Values at the given parts of all (0 to 1), by nearest rank. */
  quantiles(parts: readonly number[]): number[] {
    const sorted = this.#values.slice(0, this.#count).sort();
    return parts.map((part) => sorted[Math.max(0, Math.ceil(part * this.#count) - 1)] ?? 0);
  }
}

function snapshot(): Snapshot {
  const cpu = Object.fromEntries(Object.entries(job.watch).map(([name, pid]) => [name, cpuUs(pid)]));
  return { atMs: performance.now(), cpu, loadCpuUs: cpuUs(process.pid), machineCpuUs: machineCpuUs() };
}

function isExpected(body: unknown): boolean {
  const text = String(body);
  return job.bodies.includes(text) || (job.bodyContains !== '' && text.includes(job.bodyContains));
}

const statuses: Record<string, number> = {};
const latencies = new Samples();
let answered = 0;
let mismatch = '';
let windowNon2xx = 0;
let phase: 'warm-up' | 'window' | 'drain' = 'warm-up';
let before: Snapshot | undefined;
let after: Snapshot | undefined;
let memory: Record<string, number> = {};
let fromUs = 0;
let toUs = 0;
let nextStart = 0;

const monotonicUs = (): number => Number(process.hrtime.bigint() / 1000n);

const run = autocannon(
  {
    url: job.origin,
    connections: job.connections,
    pipelining: 1,
    timeout: 10,
    // Only a bound: the run ends when every connection has drained.
    duration: (job.warmupMs + job.windowMs + drainMs) / 1000,
    sampleInt: 200,
    skipAggregateResult: true,
    requests: job.requests.map(({ method, path, headers }) => ({ method, path, headers })),
    verifyBody: isExpected,
    setupClient(client) {
      const at = nextStart++ % job.requests.length;
      const turned = [...job.requests.slice(at), ...job.requests.slice(0, at)];
      client.setRequests(turned.map(({ method, path, headers }) => ({ method, path, headers })));
    },
  },
  (error: unknown, result) => {
    if (error !== null && error !== undefined) throw error;
    // Without aggregation autocannon answers its raw counters.
    const raw = result as unknown as { totalRequests: number; errors: number; mismatches: number };
    report(raw.totalRequests, raw.errors, raw.mismatches);
  },
);

run.on('response', (client, status, _bytes, responseMs) => {
  answered++;
  statuses[status] = (statuses[status] ?? 0) + 1;
  if (phase === 'window') {
    latencies.add(responseMs);
    if (status < 200 || status > 299) windowNon2xx++;
  } else if (phase === 'drain') {
    (client as unknown as StoppableClient).responseMax = 1;
  }
});

// Its declarations do not know this event.
(run as NodeJS.EventEmitter).on('reqMismatch', (body: unknown) => {
  if (mismatch === '') mismatch = String(body).slice(0, 300);
});

setTimeout(() => {
  before = snapshot();
  fromUs = monotonicUs();
  phase = 'window';
}, job.warmupMs);

setTimeout(() => {
  phase = 'drain';
  toUs = monotonicUs();
  after = snapshot();
  memory = Object.fromEntries(Object.entries(job.watch).map(([name, pid]) => [name, rssBytes(pid)]));
}, job.warmupMs + job.windowMs);

function report(sent: number, errors: number, mismatches: number): void {
  if (before === undefined || after === undefined) throw new Error('the run ended before its window');
  const start = before;
  const end = after;
  const consumption: Record<string, Consumption> = {};
  for (const name of Object.keys(job.watch)) {
    consumption[name] = { cpuUs: (end.cpu[name] ?? 0) - (start.cpu[name] ?? 0), rssBytes: memory[name] ?? 0 };
  }
  const [p50 = 0, p90 = 0, p99 = 0, max = 0] = latencies.quantiles([0.5, 0.9, 0.99, 1]);
  const result: LoadReport = {
    sent,
    answered,
    errors,
    mismatches,
    mismatch,
    statuses,
    window: {
      durationMs: end.atMs - start.atMs,
      requests: latencies.count,
      non2xx: windowNon2xx,
      latencyMs: { p50, p90, p99, max },
      consumption,
      loadCpuUs: end.loadCpuUs - start.loadCpuUs,
      machineCpuUs: end.machineCpuUs - start.machineCpuUs,
      fromUs,
      toUs,
    },
  };
  console.log(JSON.stringify(result));
}
