/**
 * Response times in buckets that grow by a fixed factor, so that histograms of any hours, tokens and processes add up
 * bucket by bucket, and a percentile of the sum is as exact as one of its parts.
 *
 * Bucket 0 holds everything up to 0.064 ms; bucket i holds what is above 0.064 ms * g^(i-1) and up to 0.064 ms * g^i,
 * with g = 2^(1/8); the last one (from about 2.3 min) also holds everything above. A percentile is answered as the value
 * whose relative distance to both ends of its bucket is the same, (g-1)/(g+1): within 4.4 % of the true one (as in
 * DDSketch, Masson et al., VLDB 2019), or within 0.064 ms below that.
 */

const perDoubling = 8;
const smallestUs = 64;
/** 64 us * 2^21 = 134 s. */
export const bucketMax = 21 * perDoubling;

/** Largest relative error of a percentile between 0.064 ms and 2.2 min. */
export const relativeErrorMax = (2 ** (1 / perDoubling) - 1) / (2 ** (1 / perDoubling) + 1);

/** The bucket of a duration in microseconds. */
export function bucketOf(us: number): number {
  if (!(us > smallestUs)) return 0;
  const bucket = Math.ceil(Math.log2(us / smallestUs) * perDoubling);
  return bucket < bucketMax ? bucket : bucketMax;
}

/** What a percentile that falls into the bucket is answered as, ms. */
export function bucketMs(bucket: number): number {
  const upperMs = (smallestUs / 1000) * 2 ** (bucket / perDoubling);
  return bucket === 0 ? upperMs : upperMs * (1 - relativeErrorMax);
}

/**
 * The value at each of `quantiles` (ascending, 0 to 1), ms, by nearest rank; null for each when nothing was counted.
 * `counts` by bucket.
 */
export function quantilesMs(
  counts: ReadonlyMap<number, number>,
  quantiles: readonly number[],
): readonly (number | null)[] {
  const buckets = [...counts].sort(([a], [b]) => a - b);
  let total = 0;
  for (const [, count] of buckets) total += count;
  if (total === 0) return quantiles.map(() => null);
  let place = 0;
  let seen = 0;
  return quantiles.map((quantile) => {
    const rank = Math.max(1, Math.ceil(quantile * total));
    while (seen + (buckets[place]?.[1] ?? 0) < rank) {
      seen += buckets[place]?.[1] ?? 0;
      place += 1;
    }
    return bucketMs(buckets[place]?.[0] ?? 0);
  });
}
