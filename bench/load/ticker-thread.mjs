/**
 * A thread that posts a message at regular times, more exactly than the timers of an event loop (1 ms) can. JavaScript,
 * because tsx does not reach the threads of Node 20.
 */
import { parentPort, workerData } from 'node:worker_threads';

const { intervalMs } = workerData;
const cell = new Int32Array(new SharedArrayBuffer(4));
let dueMs = performance.now();
for (;;) {
  dueMs += intervalMs;
  const waitMs = dueMs - performance.now();
  // Nobody wakes the cell: this is a sleep of microseconds' precision.
  if (waitMs > 0) Atomics.wait(cell, 0, 0, waitMs);
  // oxlint-disable-next-line unicorn/require-post-message-target-origin -- a port of threads has no origin
  parentPort?.postMessage(null);
}
