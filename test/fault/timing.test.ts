import { expect, test } from 'vitest';
import { timing } from './timing-figures.js';

test('the time to a refusal does not tell whether the id of a token exists', async () => {
  const found = await timing(1500);
  console.log(JSON.stringify(found));
  const [, known = 0] = found['known id, wrong secret'];
  const [, unknown = 0] = found['unknown id'];
  // Both are asked in turn, so a busy machine slows both. Work for one of them alone, a call of Redis say, would be a
  // third more and nearly every pair; 0.5 and 0.04 are what chance leaves of 1500 (three standard deviations).
  expect(Math.abs(known - unknown) / unknown).toBeLessThan(0.15);
  expect(Math.abs(found['known slower'] - 0.5)).toBeLessThan(0.15);
});
