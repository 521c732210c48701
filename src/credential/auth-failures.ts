/**
 * Failed authentications per client address, counted in this process in a bounded table: a flood of bad credentials
 * costs Redis nothing and cannot grow memory. Requests with a credential that was verified here before pass on, so
 * that a neighbour behind the same address is not locked out.
 */
import { LRUCache } from 'lru-cache';
import { failureBucket } from '../http/forwarded.js';

interface Failures {
  count: number;
  windowEndsAtMs: number;
}

const windowMs = 60_000;
const addressesMax = 50_000;

export class AuthFailures {
  readonly #limit: number;
  readonly #byAddress = new LRUCache<string, Failures>({ max: addressesMax });

  /** `limit`: failures per address (IPv6: per /64) and minute; 0 switches the limiter off. */
  constructor(limit: number) {
    this.#limit = limit;
  }

  /** Seconds until the address may try again, 0 when it may now. `nowMs` is a monotonic clock. */
  blockedForS(address: string, nowMs: number): number {
    if (this.#limit === 0) return 0;
    const failures = this.#byAddress.get(failureBucket(address));
    if (failures === undefined || failures.count < this.#limit || nowMs >= failures.windowEndsAtMs) return 0;
    return Math.max(1, Math.ceil((failures.windowEndsAtMs - nowMs) / 1000));
  }

  /** Counts one failure. */
  count(address: string, nowMs: number): void {
    if (this.#limit === 0) return;
    const bucket = failureBucket(address);
    const failures = this.#byAddress.get(bucket);
    if (failures === undefined || nowMs >= failures.windowEndsAtMs) {
      this.#byAddress.set(bucket, { count: 1, windowEndsAtMs: nowMs + windowMs });
    } else {
      failures.count++;
    }
  }
}
