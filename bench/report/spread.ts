/** Median, least and most of several runs. */

export interface Spread {
  readonly median: number;
  readonly min: number;
  readonly max: number;
}

/** Of one value at least. */
export function spreadOf(values: readonly number[]): Spread {
  const sorted = [...values].sort((left, right) => left - right);
  const at = (index: number): number => sorted[index] ?? 0;
  const half = sorted.length >> 1;
  const median = sorted.length % 2 === 1 ? at(half) : (at(half - 1) + at(half)) / 2;
  return { median, min: at(0), max: at(sorted.length - 1) };
}

/** Median, and behind it the least and the most when they differ. */
export function spreadText({ median, min, max }: Spread, digits: number): string {
  if (min === max) return median.toFixed(digits);
  return `${median.toFixed(digits)} (${min.toFixed(digits)}-${max.toFixed(digits)})`;
}
