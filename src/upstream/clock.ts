/**
 * A coarse clock for all deadlines, in place of a timer a request.
 *
 * It moves once a tick, before the sockets are read; deadlines are looked at after they were read. So an answer that
 * waited in the kernel while this process was busy is read, not timed out. A deadline holds one to two ticks longer
 * than was asked for.
 */
import { inPollPhase } from '../core/poll-phase.js';

export class Clock {
  /** Monotonic ms at the last tick. */
  nowMs = performance.now();
  readonly #tickMs: number;
  readonly #timer: NodeJS.Timeout;
  #isStopped = false;

  /** `check` is called after each tick, with the sockets read. */
  constructor(tickMs: number, check: () => void) {
    this.#tickMs = tickMs;
    this.#timer = setInterval(() => {
      this.nowMs = performance.now();
      // oxlint-disable-next-line eslint/no-restricted-globals -- only to have the sockets read before
      setImmediate(inPollPhase, () => {
        if (!this.#isStopped) check();
      });
    }, tickMs);
    this.#timer.unref();
  }

  /** The moment that is `ms` ahead, at least. */
  after(ms: number): number {
    return this.nowMs + this.#tickMs + ms;
  }

  stop(): void {
    clearInterval(this.#timer);
    this.#isStopped = true;
  }
}
