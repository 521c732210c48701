/**
 * The load by autocannon: one job from argv, one report on stdout. A second opinion on the closed loop of
 * sockets-generator.ts by a tool that others know; it costs several times the CPU a request, and shows no heads: those are
 * judged by our own client only.
 *
 * At the end no request is cut off: each connection stops after the answer it waits for, so that what was sent, what
 * was answered and what is in the access log must be the same number.
 */
import autocannon from 'autocannon';
import type { LoadJob } from './load.js';
import { MeasuredWindow } from './window.js';

/** autocannon's client; it sends no more once it has made `responseMax` requests (its lib/httpClient.js, 9.0.0). */
interface StoppableClient {
  responseMax?: number;
}

const drainMs = 20_000;
const job = JSON.parse(process.argv[2] ?? '') as LoadJob;
const { plan } = job;
if (plan.kind !== 'fixed' || job.rate > 0) throw new Error('autocannon drives closed loops of fixed requests only');
const { requests } = plan;

function isExpected(body: unknown): boolean {
  const text = String(body);
  return job.bodies.includes(text) || (job.bodyContains !== '' && text.includes(job.bodyContains));
}

let mismatch = '';
let nextStart = 0;
const window = new MeasuredWindow(job, () => {});

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
    requests: requests.map((request) => ({ ...request })),
    verifyBody: isExpected,
    setupClient(client) {
      const at = nextStart++ % requests.length;
      const turned = [...requests.slice(at), ...requests.slice(0, at)];
      client.setRequests(turned.map((request) => ({ ...request })));
    },
  },
  (error: unknown, result) => {
    if (error !== null && error !== undefined) throw error;
    // Without aggregation autocannon answers its raw counters.
    const raw = result as unknown as { totalRequests: number; errors: number; mismatches: number };
    window.print({ sent: raw.totalRequests, errors: raw.errors, mismatches: raw.mismatches, mismatch });
  },
);

run.on('response', (client, status, _bytes, responseMs) => {
  window.count(status, responseMs);
  if (window.phase === 'drain') (client as unknown as StoppableClient).responseMax = 1;
});

// Its declarations do not know this event.
(run as NodeJS.EventEmitter).on('reqMismatch', (body: unknown) => {
  if (mismatch === '') mismatch = String(body).slice(0, 300);
});
