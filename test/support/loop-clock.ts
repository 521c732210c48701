/**
 * A clock for bounds on waiting that runs only while the machine serves this process: of each turn of the event loop it
 * counts 5 ms at most. On an idle machine it is the wall clock; where others take the processor away it stands still
 * with us, so that a bound is about the code and not about the neighbours. Who hangs is waited for as ever.
 */
export interface LoopClock {
  /** Milliseconds since its start. */
  now(): number;
  stop(): void;
}

const turnMaxMs = 5;

export function startLoopClock(): LoopClock {
  let countedMs = 0;
  let lastMs = performance.now();
  const tick = (): void => {
    const nowMs = performance.now();
    countedMs += Math.min(nowMs - lastMs, turnMaxMs);
    lastMs = nowMs;
  };
  const timer = setInterval(tick, 1);
  timer.unref();
  return {
    now() {
      tick();
      return countedMs;
    },
    stop: () => clearInterval(timer),
  };
}
