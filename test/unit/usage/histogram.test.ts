import * as fc from 'fast-check';
import { expect, test } from 'vitest';
import { bucketMax, bucketMs, bucketOf, quantilesMs, relativeErrorMax } from '../../../src/usage/histogram.js';

const usMin = 64;
const usMax = usMin * 2 ** 21;

test('the stated error is 4.4 %', () => {
  expect(relativeErrorMax).toBeCloseTo(0.0433, 4);
});

test('any duration in the range is answered within the stated error', () => {
  fc.assert(
    fc.property(fc.integer({ min: usMin + 1, max: usMax }), (us) => {
      const answeredUs = bucketMs(bucketOf(us)) * 1000;
      expect(Math.abs(answeredUs - us) / us).toBeLessThanOrEqual(relativeErrorMax + 1e-9);
    }),
  );
});

test('what lies outside of the range is in its first or last bucket', () => {
  expect([0, -1, Number.NaN, 1, usMin].map(bucketOf)).toEqual([0, 0, 0, 0, 0]);
  expect([usMax, usMax + 1, Number.MAX_VALUE, Number.POSITIVE_INFINITY].map(bucketOf)).toEqual(
    Array.from({ length: 4 }, () => bucketMax),
  );
});

test('every percentile of any calls is within the stated error of the true one', () => {
  const quantiles = [0, 0.5, 0.95, 0.99, 1];
  fc.assert(
    fc.property(fc.array(fc.integer({ min: usMin + 1, max: usMax }), { minLength: 1, maxLength: 400 }), (durations) => {
      const counts = new Map<number, number>();
      for (const us of durations) counts.set(bucketOf(us), (counts.get(bucketOf(us)) ?? 0) + 1);
      const sorted = durations.toSorted((a, b) => a - b);
      for (const [place, answered] of quantilesMs(counts, quantiles).entries()) {
        const rank = Math.max(1, Math.ceil((quantiles[place] as number) * sorted.length));
        const trueMs = (sorted[rank - 1] as number) / 1000;
        expect(Math.abs((answered as number) - trueMs) / trueMs).toBeLessThanOrEqual(relativeErrorMax + 1e-9);
      }
    }),
  );
});

test('without calls there is no percentile', () => {
  expect(quantilesMs(new Map(), [0.5, 0.99])).toEqual([null, null]);
});
