/**
 * Circuit breaker for one Redis connection: after a few failures in a row, or when of late every second call failed
 * (a server too slow for its deadline answers some), nobody waits for a deadline any more.
 *
 * closed -> (failures) -> open -> (delay) -> half-open: one call may try -> closed, or open for longer.
 * Times are monotonic milliseconds (`performance.now()`), given by the caller.
 */
export type BreakerState = 'closed' | 'open' | 'half-open';

export interface BreakerOptions {
  /** Failures in a row that open it. */
  readonly failuresMax?: number;
  /** First delay before a probe, ms; doubled by each probe that fails. */
  readonly probeDelayMs?: number;
  readonly probeDelayMaxMs?: number;
}

/** Weight of the newest call in the share of failures: it looks back over some twenty calls. */
const newestWeight = 0.1;
/** Share of failures that opens it. */
const failureShareMax = 0.5;

export class Breaker {
  readonly #failuresMax: number;
  readonly #probeDelayMs: number;
  readonly #probeDelayMaxMs: number;
  #state: BreakerState = 'closed';
  #failures = 0;
  #failureShare = 0;
  #delayMs: number;
  #probeAtMs = 0;

  constructor(options: BreakerOptions = {}) {
    this.#failuresMax = options.failuresMax ?? 3;
    this.#probeDelayMs = options.probeDelayMs ?? 100;
    this.#probeDelayMaxMs = options.probeDelayMaxMs ?? 500;
    this.#delayMs = this.#probeDelayMs;
  }

  /** For metrics and readiness. */
  get state(): BreakerState {
    return this.#state;
  }

  /** Whether a call may be made now. After the delay the one call that is told yes is the probe. */
  allows(nowMs: number): boolean {
    if (this.#state === 'closed') return true;
    if (this.#state === 'half-open' || nowMs < this.#probeAtMs) return false;
    this.#state = 'half-open';
    return true;
  }

  /** A call was answered. Also a late answer while open: the server is back. */
  succeeded(): void {
    this.#failureShare = this.#state === 'closed' ? this.#failureShare * (1 - newestWeight) : 0;
    this.#state = 'closed';
    this.#failures = 0;
    this.#delayMs = this.#probeDelayMs;
  }

  /** A call failed or had no answer in time. */
  failed(nowMs: number): void {
    if (this.#state === 'open') return; // sent before it opened: says nothing new
    this.#failures += 1;
    this.#failureShare += (1 - this.#failureShare) * newestWeight;
    const isBad = this.#failures >= this.#failuresMax || this.#failureShare > failureShareMax;
    if (this.#state === 'closed' && !isBad) return;
    if (this.#state === 'half-open') this.#delayMs = Math.min(this.#delayMs * 2, this.#probeDelayMaxMs);
    this.#state = 'open';
    this.#probeAtMs = nowMs + this.#delayMs;
  }

  /** The connection came back: the next call may probe at once. */
  reconnected(): void {
    if (this.#state === 'open') this.#probeAtMs = 0;
    this.#delayMs = this.#probeDelayMs;
  }
}
