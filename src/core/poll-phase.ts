/**
 * Calls back in the poll phase of the event loop, the one in which sockets are read: where whatever may close a client's
 * connection has to run, when it cannot run at once.
 *
 * Not `setImmediate`: the binding frees what a closed connection took in a check handle of its own, which libuv runs
 * before the one of `setImmediate`. A connection that is closed from there loses its libuv handle at the end of the same
 * turn, and the binding, in the next one, writes to that freed memory and never frees the connection: some 400 bytes
 * each, measured on uWebSockets.js 20.48 (uSockets' us_poll_free in eventing/libuv.c), see docs/adr/0030.
 */
import { MessageChannel } from 'node:worker_threads';

let tasks: (() => void)[] = [];

const { port1: incoming, port2: outgoing } = new MessageChannel();
incoming.on('message', () => {
  const due = tasks;
  tasks = [];
  for (const task of due) run(task);
});
// It holds up no process that has nothing else to do.
incoming.unref();

/** Runs `task` in a later macrotask, before any `setImmediate` that is asked for from now on. Order is kept. */
export function inPollPhase(task: () => void): void {
  // oxlint-disable-next-line unicorn/require-post-message-target-origin -- that is of windows
  if (tasks.push(task) === 1) outgoing.postMessage(0);
}

/** A throw in one task is a bug; it surfaces as one, and the others are run all the same. */
function run(task: () => void): void {
  try {
    task();
  } catch (error) {
    setImmediate(() => {
      throw error;
    });
  }
}
