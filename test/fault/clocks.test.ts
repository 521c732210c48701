/** Clocks that are wrong or jump, under load: who is let in, and how much. */
import { expect, test } from 'vitest';
import { clockJumps, clockSkew } from './clock-figures.js';

test('a sidecar whose clock is wrong by 301 s decides about signatures on the clock of Redis', async () => {
  const seen = await clockSkew({ requests: 1500, perSecond: 300 });
  expect(Object.keys(seen.bearer)).toEqual(['200']);
  expect(seen.signatures).toBeGreaterThan(100);
  expect(seen['signatures judged wrongly']).toBe(0);
});

test('a jump of Redis’ clock by an hour, back and forth, ends a window early at most, and freezes nothing', async () => {
  const seen = await clockJumps(100, 20, 2, ['-3600s', '+0']);
  expect(seen.outcomes).toEqual(['200', '429 rate-limit-exceeded']);
  // The jump forth ends the window that runs.
  expect(seen['most admitted in a window']).toBeLessThanOrEqual(2 * seen.limit);
});
