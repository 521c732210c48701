/**
 * What a limit is and the compiled form the admission script reads.
 *
 * A limit has an identity (`key`): algorithm and window, or period. Its state in Redis hangs on that identity and
 * not on the number, so that a raised limit counts from the next request and nothing used is forgotten.
 */
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

/** Bytes of one limit in the compiled form. */
const compiledSize = 25;
/** A bucket takes at most 142 years to fill: beyond, the microseconds of a time are not exact in Lua's numbers. */
const bucketDepthMaxUs = 2 ** 52;

/**
 * The form of `recordFields.limits` that lua/admit.lua reads, little-endian, 25 bytes a limit in the order given: kind
 * (1 byte), then limit, window in ms, emission interval in microseconds and burst (6 bytes each; quotas have 0 in the
 * last three). The interval is rounded up, so that rounding never admits more. Fixed sizes because Redis decodes them
 * on every admission: a sixth of the cost of msgpack.
 * @throws RangeError for a number that is negative, not finite or above 2^48 - 1: validation comes before.
 */
export function compileLimits(limits: readonly Limit[]): Buffer {
  const compiled = Buffer.alloc(limits.length * compiledSize);
  limits.forEach((limit, index) => {
    const at = index * compiledSize;
    compiled.writeUIntLE(limit.limit, at + 1, 6);
    if (isQuota(limit)) {
      compiled.writeUInt8(kinds[limit.period], at);
      return;
    }
    compiled.writeUInt8(kinds[limit.algorithm], at);
    compiled.writeUIntLE(limit.window * 1000, at + 7, 6);
    const intervalUs = emissionIntervalUs(limit);
    const burst = Math.min(limit.burst ?? limit.limit, Math.max(1, Math.floor(bucketDepthMaxUs / intervalUs)));
    compiled.writeUIntLE(intervalUs, at + 13, 6);
    compiled.writeUIntLE(burst, at + 19, 6);
  });
  return compiled;
}

/** GCRA's emission interval: microseconds in which a token bucket earns one unit, rounded up. */
function emissionIntervalUs(limit: RateLimit): number {
  return Math.ceil((limit.window * 1e6) / limit.limit);
}
