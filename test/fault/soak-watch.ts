/**
 * Watches the processes of a sidecar from inside: what they hold, and how late their event loops are.
 *
 * Memory is looked at right after a collection of all garbage, so that what is measured is what is held, and not what
 * nobody has needed back yet: twice, since what a first one lets go of outside the heap is freed in the turn after it. The delays of the event loop are measured only while that is asked for.
 */
import { anonymousBytes, residentBytes } from '../support/memory.js';
import { type Inspector, inspectorsIn, openInspector } from '../support/inspector.js';
import type { Sidecar } from '../support/sidecar.js';

export interface MemorySample {
  readonly atS: number;
  readonly residentBytes: number;
  /** Objects of JavaScript. */
  readonly heapBytes: number;
  /** Memory of no file and outside the heap: native code, buffers. */
  readonly outsideBytes: number;
}

export interface WatchedProcess {
  readonly pid: number;
  readonly role: 'supervisor' | 'worker' | 'all in one';
  readonly samples: readonly MemorySample[];
}

export interface LoopDelay {
  readonly pid: number;
  readonly p99Ms: number;
  readonly maxMs: number;
}

export interface Watch {
  readonly processes: readonly WatchedProcess[];
  /** Has each process collect its garbage, and takes a sample. */
  sample(atS: number): Promise<void>;
  /** Event loops are measured from now on, or no more. */
  measureLoops(isOn: boolean): Promise<void>;
  /** Of all the time in which they were measured. */
  loopDelays(): Promise<LoopDelay[]>;
  stop(): void;
}

/** Time between two looks of an event loop that is on time, as `nodejs_eventloop_lag_p99_seconds` counts it too, ms. */
const lookEveryMs = 10;

/** Runs in the watched process. A histogram of Node's own cannot leave out the time between two stretches. */
const startLoops = `
  globalThis.loopDelays = process.getBuiltinModule('perf_hooks').createHistogram();
  globalThis.loopSeen = 0n;
  globalThis.isLoopMeasured = false;
  setInterval(() => {
    const now = process.hrtime.bigint();
    if (isLoopMeasured && loopSeen > 0n) loopDelays.record(now - loopSeen);
    loopSeen = isLoopMeasured ? now : 0n;
  }, ${lookEveryMs}).unref();
  undefined`;

/** The sidecar must have been started with `NODE_OPTIONS=--inspect=127.0.0.1:0`. */
export async function watchProcesses(sidecar: Sidecar): Promise<Watch> {
  const inspectors = await Promise.all(inspectorsIn(sidecar.output()).map(openInspector));
  const isAlone = inspectors.length === 1;
  const watched = inspectors.map((inspector) => ({
    pid: inspector.pid,
    role: isAlone
      ? ('all in one' as const)
      : inspector.pid === sidecar.pid
        ? ('supervisor' as const)
        : ('worker' as const),
    samples: [] as MemorySample[],
    inspector,
  }));
  const each = (expression: string): Promise<unknown[]> =>
    Promise.all(watched.map(({ inspector }) => inspector.evaluate(expression)));
  await each(startLoops);
  return {
    processes: watched,
    async sample(atS) {
      // One after another: both at once would stop all that serve.
      for (const { pid, samples, inspector } of watched) samples.push(await take(atS, pid, inspector));
    },
    async measureLoops(isOn) {
      await each(`isLoopMeasured = ${isOn}`);
    },
    async loopDelays() {
      const found = (await each('[loopDelays.percentile(99), loopDelays.max]')) as [number, number][];
      return found.map(([p99, max], at) => ({ pid: watched[at]?.pid ?? 0, p99Ms: p99 / 1e6, maxMs: max / 1e6 }));
    },
    stop() {
      for (const { inspector } of watched) inspector.close();
    },
  };
}

async function take(atS: number, pid: number, inspector: Inspector): Promise<MemorySample> {
  await inspector.collectGarbage();
  const { usedBytes, totalBytes } = await inspector.collectGarbage();
  return {
    atS,
    residentBytes: residentBytes(pid),
    heapBytes: usedBytes,
    outsideBytes: anonymousBytes(pid) - totalBytes,
  };
}
