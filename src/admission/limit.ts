/**
 * What a limit is and the compiled form the admission script reads.
 *
 * A limit has an identity (`key`): algorithm and window, or period. Its state in Redis hangs on that identity and
 * not on the number, so that a raised limit counts from the next request and nothing used is forgotten.
 */
import { pack } from 'msgpackr';

export const algorithms = ['sliding-window', 'fixed-window', 'token-bucket'] as const;
export type Algorithm = (typeof algorithms)[number];
export const periods = ['day', 'month'] as const;
export type Period = (typeof periods)[number];

/** At most `limit` calls in `window` seconds. `burst` (token-bucket only): calls that may come at once. */
export interface RateLimit {
  readonly limit: number;
  readonly window: number;
  readonly algorithm: Algorithm;
  readonly burst?: number | undefined;
}

/** At most `limit` calls in a UTC calendar day or month. */
export interface Quota {
  readonly limit: number;
  readonly period: Period;
}

export type Limit = RateLimit | Quota;

/** Kinds as lua/admit.lua knows them. */
const kinds = { 'sliding-window': 1, 'fixed-window': 2, 'token-bucket': 3, day: 4, month: 5 } as const;

/** Limits one token or tenant may carry at once. */
export const limitsMax = 8;

export function isQuota(limit: Limit): limit is Quota {
  return 'period' in limit;
}

/** Identity of a limit: two limits with the same key on one token are a contradiction. */
export function limitKey(limit: Limit): string {
  if (isQuota(limit)) return limit.period;
  const letter = { 'sliding-window': 's', 'fixed-window': 'f', 'token-bucket': 'b' }[limit.algorithm];
  return `${letter}${limit.window}`;
}

/**
 * The msgpack form of `recordFields.limits`: an array of `[kind, key, limit, windowMs, intervalUs, burst]`.
 * `intervalUs` is GCRA's emission interval, rounded up, so that rounding never admits more.
 */
export function compileLimits(limits: readonly Limit[]): Buffer {
  return pack(
    limits.map((limit) =>
      isQuota(limit)
        ? [kinds[limit.period], limitKey(limit), limit.limit, 0, 0, 0]
        : [
            kinds[limit.algorithm],
            limitKey(limit),
            limit.limit,
            limit.window * 1000,
            Math.ceil((limit.window * 1e6) / limit.limit),
            limit.burst ?? limit.limit,
          ],
    ),
  );
}
