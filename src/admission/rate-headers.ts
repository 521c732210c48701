/**
 * The rate-limit headers of an answer: `RateLimit-Policy` and `RateLimit` (draft-ietf-httpapi-ratelimit-headers-10)
 * and the `X-RateLimit-*` three that most clients know.
 *
 * What keeps it fast: whatever does not change is a string made once a record, the rest is two numbers.
 */
import { isQuota, type Limit } from './limit.js';
import type { Verdict } from './admit.js';

/** A limit with the constant parts of its headers. */
export interface LimitHeaders {
  /** Name of its policy, for problem details too: `token-60s`, `token-month`, `tenant-1s`. */
  readonly name: string;
  readonly policy: string;
  /** `RateLimit` up to the remaining units. */
  readonly stem: string;
  /** Units it holds when full. */
  readonly capacity: string;
}

/** Prepares the effective limits of a token or tenant; call it once a record and keep the result. */
export function prepareLimitHeaders(limits: readonly Limit[], owner: 'token' | 'tenant'): readonly LimitHeaders[] {
  return limits.map((limit) => {
    const name = `${owner}-${policyName(limit)}`;
    const capacity = capacityOf(limit);
    const windowS = windowOf(limit);
    return {
      name,
      policy: `"${name}";q=${capacity}${windowS === 0 ? '' : `;w=${windowS}`}`,
      stem: `"${name}";r=`,
      capacity: String(capacity),
    };
  });
}

/** The limit a verdict speaks of, undefined when it speaks of none. */
export function limitOfVerdict(
  verdict: Verdict,
  tokenLimits: readonly LimitHeaders[],
  tenantLimits: readonly LimitHeaders[],
): LimitHeaders | undefined {
  const index = verdict.limitIndex;
  return index < tokenLimits.length ? tokenLimits[index] : tenantLimits[index - tokenLimits.length];
}

/** What of a verdict the headers tell. */
export type LimitState = Pick<Verdict, 'remaining' | 'resetMs' | 'retryMs'>;

/** Where headers go; a response of uWebSockets.js is one. */
export interface HeaderTarget {
  writeHeader(name: string, value: string): unknown;
}

/**
 * Writes the five rate-limit headers, and `Retry-After` (at least 1 s) on a refusal. Seconds are whole, rounded up, so
 * that who waits them is not too early.
 */
export function writeRateHeaders(target: HeaderTarget, limit: LimitHeaders, verdict: LimitState): void {
  const remaining = String(verdict.remaining);
  const resetS = String(Math.ceil(verdict.resetMs / 1000));
  target.writeHeader('RateLimit-Policy', limit.policy);
  target.writeHeader('RateLimit', `${limit.stem}${remaining};t=${resetS}`);
  target.writeHeader('X-RateLimit-Limit', limit.capacity);
  target.writeHeader('X-RateLimit-Remaining', remaining);
  target.writeHeader('X-RateLimit-Reset', resetS);
  if (verdict.retryMs > 0) target.writeHeader('Retry-After', String(retryAfterS(verdict.retryMs)));
}

/** Whole seconds for `Retry-After`, at least 1. */
export function retryAfterS(retryMs: number): number {
  return Math.max(1, Math.ceil(retryMs / 1000));
}

/** Two limits of one record have different names: they differ in algorithm, window or period. */
function policyName(limit: Limit): string {
  if (isQuota(limit)) return limit.period;
  const suffix = { 'sliding-window': '', 'fixed-window': '-fixed', 'token-bucket': '-bucket' }[limit.algorithm];
  return `${limit.window}s${suffix}`;
}

/** Units a client can have at most: what `r` is measured against. */
function capacityOf(limit: Limit): number {
  return !isQuota(limit) && limit.algorithm === 'token-bucket' ? (limit.burst ?? limit.limit) : limit.limit;
}

/** Seconds in which the capacity comes back; 0 for a calendar month, which has no fixed length. */
function windowOf(limit: Limit): number {
  if (isQuota(limit)) return limit.period === 'day' ? 86_400 : 0;
  return Math.max(1, Math.ceil((limit.window * capacityOf(limit)) / limit.limit));
}
