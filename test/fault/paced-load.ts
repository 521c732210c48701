/** Load at a rate of its own, whatever the answers do: what is late is not left out. */
import type { Call } from './history.js';

export interface PacedLoad {
  /** Those that have an end. */
  readonly calls: readonly Call[];
  /** Requests begun a second, since the start. */
  rate(): number;
  /** Resolves when so many more have an end. */
  more(count: number): Promise<void>;
  /** Sends no more, and answers when every request has its end. */
  stop(): Promise<readonly Call[]>;
}

const tickMs = 2;

/** Calls `send` `perSecond` times a second, as long as no more than `atOnceMax` are under way; then as soon as it may. */
export function pacedLoad(perSecond: number, atOnceMax: number, send: (number: number) => Promise<Call>): PacedLoad {
  const calls: Call[] = [];
  const waiting = new Set<() => void>();
  const startedAtMs = performance.now();
  let stoppedAtMs = Number.POSITIVE_INFINITY;
  let begun = 0;
  const elapsedMs = (): number => Math.min(performance.now(), stoppedAtMs) - startedAtMs;
  const one = async (): Promise<void> => {
    begun += 1;
    calls.push(await send(begun));
    fill();
    for (const check of waiting) check();
  };
  const fill = (): void => {
    const due = Math.floor((elapsedMs() * perSecond) / 1000);
    while (stoppedAtMs === Number.POSITIVE_INFINITY && begun < due && begun - calls.length < atOnceMax) void one();
  };
  const timer = setInterval(fill, tickMs);
  const whenEnded = (count: () => number): Promise<void> =>
    new Promise((resolve) => {
      const check = (): void => {
        if (calls.length < count()) return;
        waiting.delete(check);
        resolve();
      };
      waiting.add(check);
      check();
    });
  return {
    calls,
    rate: () => Math.round((begun * 1000) / elapsedMs()),
    more(count) {
      const target = calls.length + count;
      return whenEnded(() => target);
    },
    async stop() {
      stoppedAtMs = performance.now();
      clearInterval(timer);
      await whenEnded(() => begun);
      return calls;
    },
  };
}
