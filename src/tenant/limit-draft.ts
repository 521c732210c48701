/** Limits as people write them: what is allowed, what is left out, and how a change meets what is there. */
import { z } from 'zod';
import {
  algorithms,
  isQuota,
  type Limit,
  limitKey,
  limitsMax,
  periods,
  type Quota,
  type RateLimit,
} from '../admission/limit.js';
import type { FieldFault } from './refusal.js';

const callsMax = 1e9;
/** 366 days. */
const windowMax = 31_622_400;
const rateLimitDefault: RateLimit = { limit: 60, window: 60, algorithm: 'sliding-window' };

const calls = z.int().min(1).max(callsMax);
const window = z.int().min(1).max(windowMax);

/** A rate limit of which every part may be left out: 60 calls in a sliding window of 60 s. */
export const rateLimitInput = z.strictObject({
  limit: calls.optional(),
  window: window.optional(),
  algorithm: z.enum(algorithms).optional(),
  burst: calls.optional(),
});

/** Calls in a UTC calendar day or month. */
export const quotaInput = z.strictObject({ limit: calls, period: z.enum(periods) });

/** A further limit: with `window` a rate limit, with `period` a quota. */
export const furtherLimitInput = z
  .strictObject({
    limit: calls,
    window: window.optional(),
    algorithm: z.enum(algorithms).optional(),
    burst: calls.optional(),
    period: z.enum(periods).optional(),
  })
  .refine(({ window: seconds, period }) => (seconds === undefined) !== (period === undefined), {
    error: 'needs either a window (seconds) or a period (day or month)',
  })
  .refine(({ period, algorithm, burst }) => period === undefined || (algorithm === undefined && burst === undefined), {
    error: 'cannot have an algorithm or a burst beside a period',
  });

type RateLimitInput = z.output<typeof rateLimitInput>;
type FurtherLimitInput = z.output<typeof furtherLimitInput>;

/** Completes a rate limit from what it was, or from the default. A burst goes when the algorithm has none. */
export function completeRateLimit(input: RateLimitInput, before: RateLimit = rateLimitDefault): RateLimit {
  const limit = input.limit ?? before.limit;
  const seconds = input.window ?? before.window;
  const algorithm = input.algorithm ?? before.algorithm;
  // A burst asked for stays, so that limitFaults can refuse it beside another algorithm.
  const burst = input.burst ?? (algorithm === 'token-bucket' ? before.burst : undefined);
  return burst === undefined ? { limit, window: seconds, algorithm } : { limit, window: seconds, algorithm, burst };
}

export function completeLimit(input: FurtherLimitInput): Limit {
  return input.period === undefined ? completeRateLimit(input) : { limit: input.limit, period: input.period };
}

interface NamedLimits {
  readonly rateLimit: RateLimit | null;
  readonly limits: readonly Limit[];
  readonly quota: Quota | null;
}

/** What is wrong with limits that apply together. */
export function limitFaults({ rateLimit, limits, quota }: NamedLimits): FieldFault[] {
  const named: (readonly [string, Limit | null])[] = [
    ['rateLimit', rateLimit],
    ...limits.map((limit, index) => [`limits.${index}`, limit] as const),
    ['quota', quota],
  ];
  const faults: FieldFault[] = [];
  const seen = new Map<string, string>();
  for (const [field, limit] of named) {
    if (limit === null) continue;
    if (!isQuota(limit) && limit.burst !== undefined && limit.algorithm !== 'token-bucket') {
      faults.push({ field: `${field}.burst`, message: 'goes with the algorithm token-bucket only' });
    }
    const earlier = seen.get(limitKey(limit));
    if (earlier === undefined) seen.set(limitKey(limit), field);
    else faults.push({ field, message: `has the same algorithm and window, or period, as ${earlier}` });
  }
  if (seen.size > limitsMax) faults.push({ field: 'limits', message: `are more than ${limitsMax} together` });
  return faults;
}
