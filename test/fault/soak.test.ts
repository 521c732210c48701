/** Twelve seconds of `npm run soak`: each of its faults once under a mixed load. Too short for a memory slope. */
import { expect, test } from 'vitest';
import { faults } from './soak-faults.js';
import { runSoak } from './soak-run.js';

test('a mixed load through every fault in turn: nothing lost, nothing twice', async () => {
  const report = await runSoak({ seconds: 12, rate: 100, workers: 1 });
  expect(report.requests).toBeGreaterThan(300);
  expect(Object.keys(report.outcomes)).toEqual(expect.arrayContaining(['ok', 'store-unavailable', 'token-revoked']));
  expect(report.faults).toHaveLength(faults.length);
  expect(report.judged[0]).toMatchObject({ verdict: 'met', found: 'they do' });
});
