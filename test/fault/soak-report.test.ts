/** That the soak's verdicts can fail, and that they say so when a run cannot tell. */
import { describe, expect, test } from 'vitest';
import { randomFrom } from '../fuzz/mutate.js';
import type { Call } from './history.js';
import {
  type Growth,
  growthOf,
  type Judged,
  judgeAnswers,
  judgeGrowth,
  judgeIdentities,
  judgeLoop,
  outcomeOf,
  type Verdict,
  warmUpS,
} from './soak-report.js';
import { trendOf } from './trend.js';

const random = randomFrom(7);
/**
 * Samples every 20 s for 30 minutes: memory that grows so many MiB an hour, with some noise, in MiB, after a steep start,
 * and by so many MiB at once at each of some seconds.
 */
function grown(perHour: number, noise: number, stepMiB = 0, stepsAtS: readonly number[] = []): Growth {
  const samples = Array.from({ length: 90 }, (_, at) => {
    const atS = at * 20;
    const warmingUp = Math.min(atS, 500) / 20;
    const steps = stepMiB * stepsAtS.filter((stepAtS) => atS >= stepAtS).length;
    const residentBytes = (100 + warmingUp + steps + (perHour * atS) / 3600 + noise * (random() - 0.5)) * 2 ** 20;
    return {
      atS,
      residentBytes: 2 * residentBytes,
      heapBytes: residentBytes / 3,
      outsideBytes: (2 * residentBytes) / 3,
    };
  });
  return growthOf({ pid: 1, role: 'worker', samples }, warmUpS(1800));
}

describe('the slope of memory', () => {
  test('is that of the points, whatever a quarter of them are', () => {
    const points = Array.from({ length: 40 }, (_, x) => [x, x % 4 === 0 ? 1000 * random() : 3 * x + 5] as const);
    const trend = trendOf(points);
    expect(trend?.slope).toBeCloseTo(3, 0);
    expect(trend?.low).toBeLessThanOrEqual(3);
    expect(trend?.high).toBeGreaterThanOrEqual(3);
    expect(trendOf(points.slice(0, 7))).toBeUndefined();
  });

  test('misses the target when memory grows, meets it when it does not, and leaves out the warm-up', () => {
    expect(judgeGrowth(grown(0, 1), 900).verdict).toBe('met');
    expect(judgeGrowth(grown(0.5, 0.2), 900).verdict).toBe('met');
    expect(judgeGrowth(grown(5, 1), 900).verdict).toBe('missed');
    expect(judgeGrowth(grown(1.5, 0.1), 900).verdict).toBe('missed');
  });

  test('misses the target by what is lost with each fault, and not by one height that is reached once', () => {
    expect(judgeGrowth(grown(0, 0.3, 2, [1200]), 900)).toMatchObject({ verdict: 'met' });
    expect(Math.abs(grown(0, 0.3, 2, [1200]).step[0] - 1200)).toBeLessThanOrEqual(20);
    expect(grown(1.5, 0.1).step).toEqual([900, 0]);
    expect(judgeGrowth(grown(0, 0.3, 0.5, [950, 1250, 1550]), 900).verdict).toBe('missed');
    expect(judgeGrowth(grown(1.5, 0.1, 2, [1400]), 900).verdict).toBe('missed');
  });

  test('is not judged by a run that is too short', () => {
    expect(judgeGrowth(grown(5, 1), 800).verdict).toBe('not judged');
  });
});

test('an unexpected answer misses the target unless something else stood still just then, and is never passed over', () => {
  const call = { status: 503, startedAtMs: 1000, tookMs: 100 } as Call;
  const still = (fromMs: number, toMs: number) => ({
    what: 'redis' as const,
    fromMs: performance.timeOrigin + fromMs,
    toMs: performance.timeOrigin + toMs,
  });
  expect(judgeAnswers([], []).judged.verdict).toBe('met');
  expect(judgeAnswers([call], []).judged.verdict).toBe('missed');
  expect(judgeAnswers([call], [still(-900, -100)]).judged.verdict).toBe('missed');
  expect(judgeAnswers([call], [still(1200, 1300)]).judged.verdict).toBe('missed');
  // The breaker may be open for a while.
  expect(judgeAnswers([call], [still(0, 900)]).judged.verdict).toBe('not judged');
  expect(judgeAnswers([call], [still(1050, 1090)]).judged.verdict).toBe('not judged');
  expect(judgeAnswers([call, { ...call, startedAtMs: 5000 }], [still(1050, 1090)])).toMatchObject({
    unexplained: [{ startedAtMs: 5000 }],
    judged: { verdict: 'missed' },
  });
});

test('a history that does not add up misses the target, and what is wrong with it is told', async () => {
  expect(await judgeIdentities(() => Promise.resolve())).toMatchObject({ verdict: 'met' });
  expect(await judgeIdentities(() => Promise.reject(new Error('1 answer is not in the log')))).toMatchObject({
    verdict: 'missed',
    found: 'Error: 1 answer is not in the log',
  });
});

test('an event loop that is late misses the target, unless one that does nothing is late too', () => {
  expect(judgeLoop({ pid: 1, p99Ms: 19.9, maxMs: 100 }, 11).verdict).toBe('met');
  expect(judgeLoop({ pid: 1, p99Ms: 20, maxMs: 20 }, 11).verdict).toBe('missed');
  expect(judgeLoop({ pid: 1, p99Ms: 60, maxMs: 90 }, 50).verdict).toBe('not judged');
});

test('a run is met only when every target is: what could not be judged has an exit code of its own', () => {
  const judged = (...verdicts: Verdict[]): Judged[] => verdicts.map((verdict) => ({ target: '', verdict, found: '' }));
  expect(outcomeOf(judged('met', 'met'))).toMatchObject({ exitCode: 0, text: expect.stringMatching(/^met: of 2/) });
  expect(outcomeOf(judged('met', 'not judged')).text).toBe('not judged: of 2 targets 1 met, 0 missed, 1 not judged');
  expect(outcomeOf(judged('met', 'not judged')).exitCode).toBe(2);
  expect(outcomeOf(judged('not judged', 'missed')).exitCode).toBe(1);
  expect(outcomeOf([]).exitCode).toBe(2);
});
