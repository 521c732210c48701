/**
 * Whether an address of several is asked: one that fails time after time is set aside, and returns when it has proved
 * itself. Health only decides who is preferred: with every address set aside, all are asked again.
 *
 *   up ──failures in a row──▶ out ──with a health path: good checks in a row──▶ up
 *                             out ──without: after `ejectMs`──▶ trial ──an answer──▶ up, a failure──▶ out
 */
export interface HealthSettings {
  /** Failures in a row, of requests or of checks, that set an address aside. */
  readonly ejectAfter: number;
  /** Without a health path: ms until an address that was set aside is tried again. */
  readonly ejectMs: number;
  /** Path that is asked for actively; undefined: requests alone tell. */
  readonly path: string | undefined;
  readonly intervalMs: number;
  readonly timeoutMs: number;
  /** Good checks in a row that bring an address back. */
  readonly successes: number;
}

/** Told when an address is set aside (true) or returns (false). */
export type EjectionListener = (address: string, isEjected: boolean) => void;

type HealthState = 'up' | 'out' | 'trial';

export class AddressHealth {
  readonly #address: string;
  readonly #settings: HealthSettings;
  readonly #listener: EjectionListener;
  #state: HealthState = 'up';
  #failures = 0;
  #failedChecks = 0;
  #goodChecks = 0;
  #outSinceMs = 0;

  constructor(address: string, settings: HealthSettings, listener: EjectionListener) {
    this.#address = address;
    this.#settings = settings;
    this.#listener = listener;
  }

  get isEjected(): boolean {
    return this.#state !== 'up';
  }

  /** Whether it may be asked, with `busy` requests under way there: on trial, one at a time. */
  accepts(busy: number): boolean {
    return this.#state === 'up' || (this.#state === 'trial' && busy === 0);
  }

  /** A request was answered whole, or failed by the address' fault. */
  judged(isGood: boolean, nowMs: number): void {
    if (isGood) this.#failures = 0;
    if (this.#state === 'trial') {
      if (isGood) this.#return();
      else this.#eject(nowMs);
    } else if (this.#state === 'up' && !isGood && ++this.#failures >= this.#settings.ejectAfter) {
      this.#eject(nowMs);
    }
  }

  /** A check was answered as it should, or was not. */
  checked(isGood: boolean, nowMs: number): void {
    this.#failedChecks = isGood ? 0 : this.#failedChecks + 1;
    this.#goodChecks = isGood ? this.#goodChecks + 1 : 0;
    if (this.#state === 'up' && this.#failedChecks >= this.#settings.ejectAfter) this.#eject(nowMs);
    else if (this.#state === 'out' && this.#goodChecks >= this.#settings.successes) this.#return();
  }

  tick(nowMs: number): void {
    const { path, ejectMs } = this.#settings;
    if (this.#state === 'out' && path === undefined && nowMs - this.#outSinceMs >= ejectMs) this.#state = 'trial';
  }

  #eject(nowMs: number): void {
    const wasUp = this.#state === 'up';
    this.#state = 'out';
    this.#outSinceMs = nowMs;
    this.#goodChecks = 0;
    if (wasUp) this.#listener(this.#address, true);
  }

  #return(): void {
    this.#state = 'up';
    this.#failures = 0;
    this.#failedChecks = 0;
    this.#listener(this.#address, false);
  }
}
