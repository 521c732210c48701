/** The slope of a noisy series, and how sure it is. */

export interface Trend {
  /** Units of the second value for one of the first. */
  readonly slope: number;
  /** The slope lies between these with a confidence of 95 %. */
  readonly low: number;
  readonly high: number;
}

/**
 * The median of the slopes between all pairs of points (Theil-Sen): up to 29 % of the points may be anything. The
 * interval is by ranks (Sen 1968), so it supposes nothing of how the noise is spread. Undefined below 8 points.
 */
export function trendOf(points: readonly (readonly [x: number, y: number])[]): Trend | undefined {
  const count = points.length;
  if (count < 8) return undefined;
  const slopes = points
    .flatMap(([x, y], at) => points.slice(at + 1).map(([laterX, laterY]) => (laterY - y) / (laterX - x)))
    .sort((one, other) => one - other);
  const at = (rank: number): number => slopes[Math.max(0, Math.min(slopes.length - 1, Math.round(rank)))] as number;
  const spread = 1.96 * Math.sqrt((count * (count - 1) * (2 * count + 5)) / 18);
  return {
    slope: at((slopes.length - 1) / 2),
    low: at((slopes.length - spread) / 2 - 1),
    high: at((slopes.length + spread) / 2),
  };
}
