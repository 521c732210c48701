/**
 * The rate-limit headers of an answer: `RateLimit-Policy` and `RateLimit` (draft-ietf-httpapi-ratelimit-headers-10)
 * and the `X-RateLimit-*` three that most clients know.
 *
 * What keeps it fast: whatever does not change is a string made once a record, the rest is two numbers, and all of it is
 * one text for the binding.
 */
import { isQuota, type Limit } from './limit.js';
import type { Verdict } from './ticket.js';

/** A limit with the constant parts of its headers. */
export interface LimitHeaders {
  /** Name of its policy, for problem details too: `token-60s`, `token-month`, `tenant-1s`. */
  readonly name: string;
  readonly policy: string;
  /** Units it holds when full. */
  readonly capacity: string;
  /** The fields up to the remaining units in `RateLimit`, and from its end to `X-RateLimit-Remaining`. */
  readonly before: string;
  readonly between: string;
}

/** By policy: tokens with the same limits share what is made of them. */
const prepared = new Map<string, LimitHeaders>();
const preparedMax = 1000;

/** Prepares the effective limits of a token or tenant; call it once a record and keep the result. */
export function prepareLimitHeaders(limits: readonly Limit[], owner: 'token' | 'tenant'): readonly LimitHeaders[] {
  return limits.map((limit) => {
    const name = `${owner}-${policyName(limit)}`;
    const capacity = String(capacityOf(limit));
    const windowS = windowOf(limit);
    const policy = `"${name}";q=${capacity}${windowS === 0 ? '' : `;w=${windowS}`}`;
    const known = prepared.get(policy);
    if (known !== undefined) return known;
    const headers = {
      name,
      policy,
      capacity,
      before: `\r\nRateLimit-Policy: ${policy}\r\nRateLimit: "${name}";r=`,
      between: `\r\nX-RateLimit-Limit: ${capacity}\r\nX-RateLimit-Remaining: `,
    };
    if (prepared.size === preparedMax) prepared.clear();
    prepared.set(policy, headers);
    return headers;
  });
}

/** The limit a verdict speaks of, undefined when it speaks of none. */
export function limitOfVerdict(
  { limitIndex: index }: Pick<Verdict, 'limitIndex'>,
  tokenLimits: readonly LimitHeaders[],
  tenantLimits: readonly LimitHeaders[],
): LimitHeaders | undefined {
  return index < tokenLimits.length ? tokenLimits[index] : tenantLimits[index - tokenLimits.length];
}

/** What of a verdict the headers tell. */
export type LimitState = Pick<Verdict, 'remaining' | 'resetMs' | 'retryMs'>;

/**
 * The five rate-limit fields, and `Retry-After` (at least 1 s) on a refusal, each begun by CR LF. Seconds are whole,
 * rounded up, so that who waits them is not too early.
 */
export function rateFields(limit: LimitHeaders, verdict: LimitState): string {
  const { remaining, retryMs } = verdict;
  const resetS = Math.ceil(verdict.resetMs / 1000);
  const fields = `${limit.before}${remaining};t=${resetS}${limit.between}${remaining}\r\nX-RateLimit-Reset: ${resetS}`;
  return retryMs > 0 ? `${fields}\r\nRetry-After: ${retryAfterS(retryMs)}` : fields;
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
