/**
 * The load on bare sockets: one job from argv, one report on stdout.
 *
 * Closed loop: every connection sends its next request when it has the answer to the last one. Fixed rate: requests
 * become due at regular times, whatever the answers do; one that finds no free connection waits for one, and its
 * latency counts from when it was due, so that a stall is seen by all requests it held up and not by one a connection
 * (no coordinated omission). Its warm-up is a closed loop too, and then a second at the rate: at a low rate alone a
 * process would spend the window compiling what a busy one has compiled long ago.
 *
 * At the end no request is cut off: what was sent, what was answered and what is in the access log must be the same.
 */
import { once } from 'node:events';
import { Worker } from 'node:worker_threads';
import { ClientConnection } from './client-connection.js';
import type { LoadJob } from './load.js';
import { requestSource } from './requests.js';
import { MeasuredWindow } from './window.js';

const drainMs = 20_000;
const tickMaxPerS = 4000;
/** At the rate, before the window. */
const settleMs = 1000;
const job = JSON.parse(process.argv[2] ?? '') as LoadJob;
const origin = new URL(job.origin);
const source = requestSource(job.plan, origin.host);

let sent = 0;
let underWay = 0;
let errors = 0;
let mismatches = 0;
let mismatch = '';
/** Told instead of the owner of the run while connections are being opened. */
let connectFailed: ((reason: Error) => void) | undefined;

const owner = {
  answered(connection: ClientConnection, status: number, fault: string): void {
    underWay--;
    window.count(status, performance.now() - connection.sinceMs);
    if (fault !== '') {
      mismatches++;
      if (mismatch === '') mismatch = `${status}: ${fault}`;
    }
    next(connection);
  },
  broken(connection: ClientConnection, reason: string): void {
    if (connectFailed !== undefined) return connectFailed(new Error(`no connection to ${job.origin}: ${reason}`));
    errors++;
    if (mismatch === '') mismatch = reason;
    open.delete(connection);
    if (open.size === 0) finish();
  },
};

const open = new Set<ClientConnection>();
for (let number = 0; number < job.connections; number++) {
  await new Promise<void>((ready, failed) => {
    connectFailed = failed;
    open.add(new ClientConnection(number, origin, owner, job, ready));
  });
}
connectFailed = undefined;

/** Connections without a request, and times (monotonic ms) of requests that are due; one of the two is empty. */
const free: ClientConnection[] = [];
const due: number[] = [];
let dueFirst = 0;

function send(connection: ClientConnection, sinceMs: number): void {
  sent++;
  underWay++;
  connection.sinceMs = sinceMs;
  connection.send(source.next(connection.number));
}

/** The connection has its answer. */
function next(connection: ClientConnection): void {
  const waited = due[dueFirst];
  if (waited !== undefined) {
    if (++dueFirst === due.length) dueFirst = due.length = 0;
    send(connection, waited);
  } else if (window.phase === 'drain') {
    if (underWay === 0) finish();
  } else if (job.rate === 0 || performance.now() < rateFromMs) {
    send(connection, performance.now());
  } else {
    free.push(connection);
  }
}

const ticker = job.rate === 0 ? undefined : await startTicker();

async function startTicker(): Promise<Worker> {
  const intervalMs = 1000 / Math.min(tickMaxPerS, job.rate);
  const worker = new Worker(new URL('ticker-thread.mjs', import.meta.url), { workerData: { intervalMs } });
  await once(worker, 'message');
  return worker;
}

const startedAtMs = performance.now();
const rateFromMs = startedAtMs + job.warmupMs;
const windowAfterMs = job.rate === 0 ? job.warmupMs : job.warmupMs + settleMs;
const window = new MeasuredWindow({ ...job, warmupMs: windowAfterMs }, () => {
  setTimeout(() => {
    errors += underWay;
    mismatch ||= `${underWay} requests without an answer after ${drainMs} ms`;
    finish();
  }, drainMs).unref();
  if (underWay === 0) finish();
});

for (const connection of open) send(connection, startedAtMs);
if (ticker !== undefined) {
  let count = 0;
  ticker.on('message', () => {
    const nowMs = performance.now();
    for (; window.phase !== 'drain'; count++) {
      const atMs = rateFromMs + (count * 1000) / job.rate;
      if (atMs > nowMs) return;
      const connection = free.shift();
      if (connection === undefined) due.push(atMs);
      else send(connection, atMs);
    }
  });
}

let isFinished = false;

function finish(): void {
  if (isFinished) return;
  isFinished = true;
  for (const connection of open) connection.close();
  window.print({ sent, errors, mismatches, mismatch });
  process.exit(0);
}
