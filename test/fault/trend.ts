/** The slope of a noisy series, and how sure it is. */

export interface Trend {
  /** Units of the second value for one of the first. */
  readonly slope: number;
  /** The slope lies between these with a confidence of 95 %. */
  readonly low: number;
  readonly high: number;
}

export interface Step {
  /** The first of the second values after it is here. */
  readonly at: number;
  readonly height: number;
}

type Series = readonly (readonly [x: number, y: number])[];

/** Points on each side whose median tells the level there. */
const levelPoints = 3;
/** What is less than so many times the usual difference between two points is no step. */
const stepMin = 5;

/**
 * The series with its largest step taken out, and that step; of height 0 where there is none that stands out from the
 * noise. What grows all the time has none.
 */
export function withoutLargestStep(points: Series): { readonly points: Series; readonly step: Step } {
  let step: Step = { at: 0, height: 0 };
  for (let at = levelPoints; at + levelPoints <= points.length; at += 1) {
    const height = level(points.slice(at, at + levelPoints)) - level(points.slice(at - levelPoints, at));
    if (Math.abs(height) > Math.abs(step.height)) step = { at, height };
  }
  const differences = points
    .slice(1)
    .map(([, y], index) => Math.abs(y - (points[index] as readonly [number, number])[1]));
  if (Math.abs(step.height) < stepMin * median(differences)) step = { at: 0, height: 0 };
  const { at, height } = step;
  return { step, points: points.map(([x, y], index) => [x, index < at ? y : y - height] as const) };
}

function level(points: Series): number {
  return median(points.map(([, y]) => y));
}

function median(values: readonly number[]): number {
  return values.toSorted((one, other) => one - other)[Math.floor(values.length / 2)] ?? 0;
}

/**
 * The median of the slopes between all pairs of points (Theil-Sen): up to 29 % of the points may be anything. The
 * interval is by ranks (Sen 1968), so it supposes nothing of how the noise is spread. Undefined below 8 points.
 */
export function trendOf(points: Series): Trend | undefined {
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
