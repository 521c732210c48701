/**
 * Says when a process has more to do than it can: new requests are then answered 503 at once, and those under way get
 * what there is. Four signs: the event loop lags (twice in a row, so that one long collection of garbage sheds
 * nothing), too many requests are under way, bodies fill their memory, or the heap is nearly full.
 */
import type { BodyBudget } from './body-budget.js';
import { heapUse } from './heap-use.js';

const sampleIntervalMs = 50;
/** See heap-use.ts. Entries of the log give way before requests do. */
const heapUseShort = 0.7;
const heapUseMax = 0.85;

export class Overload {
  readonly #requestsMax: number;
  readonly #lagMaxMs: number;
  readonly #budget: BodyBudget;
  readonly #heapUse: () => number;
  readonly #timer: NodeJS.Timeout;
  #heapUsed = 0;
  #dueAtMs = performance.now() + sampleIntervalMs;
  #lateTurns = 0;

  /** `lagMaxMs` 0 looks at no lag. */
  constructor(requestsMax: number, lagMaxMs: number, budget: BodyBudget, heap: () => number = heapUse) {
    this.#requestsMax = requestsMax;
    this.#lagMaxMs = lagMaxMs;
    this.#budget = budget;
    this.#heapUse = heap;
    this.#timer = setInterval(() => this.sample(performance.now()), sampleIntervalMs);
    this.#timer.unref();
  }

  /** Whether a new request is to be refused; `inFlight` counts it. */
  sheds(inFlight: number): boolean {
    return inFlight > this.#requestsMax || this.#lateTurns > 1 || this.#heapUsed > heapUseMax;
  }

  /** What can be given up should be: entries that wait to be written, for one. */
  get heapIsShort(): boolean {
    return this.#heapUsed > heapUseShort;
  }

  /** One sentence for each sign that holds now. */
  reasons(inFlight: number): string[] {
    return [
      ...(this.#lateTurns > 1 ? ['This process lags behind: new requests are refused until it has caught up.'] : []),
      ...(inFlight >= this.#requestsMax ? ['As many requests are under way as may be: more are refused.'] : []),
      ...(this.#heapUsed > heapUseMax
        ? ['The heap is nearly full: new requests are refused until there is room.']
        : []),
      ...(this.#budget.isExceeded ? ['Request bodies fill the memory they may have: more are refused.'] : []),
    ];
  }

  /** Called on time it would be `sampleIntervalMs` after the call before; `nowMs` is monotonic. */
  sample(nowMs: number): void {
    const isLate = this.#lagMaxMs > 0 && nowMs - this.#dueAtMs > this.#lagMaxMs;
    this.#lateTurns = isLate ? this.#lateTurns + 1 : 0;
    this.#heapUsed = this.#heapUse();
    this.#dueAtMs = nowMs + sampleIntervalMs;
  }

  stop(): void {
    clearInterval(this.#timer);
  }
}
