import fc from 'fast-check';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import type { Limit, Quota, RateLimit } from '../../src/admission/limit.js';
import { limitKey } from '../../src/admission/limit.js';
import { keys } from '../../src/redis/keys.js';
import { RecordModel } from '../support/limit-model.js';
import { type RedisServer, startRedis } from '../support/redis.js';
import { AdmitRig, initialise, nameOf, writeRecord } from './admit-rig.js';

let server: RedisServer;
let rig: AdmitRig;
let fresh = 0;

beforeAll(async () => {
  server = await startRedis();
  rig = new AdmitRig(server.client());
  await initialise(rig.redis);
});
afterAll(() => server.stop());

const startMs = Date.UTC(2026, 1, 27, 23, 59, 30);

async function freshRecord(limits: readonly Limit[]): Promise<string> {
  fresh += 1;
  const key = keys.token(`model${fresh}`);
  await writeRecord(rig.redis, key, limits);
  return key;
}

const window = fc.constantFrom(1, 3, 10, 60);
const anyLimit: fc.Arbitrary<Limit> = fc.oneof(
  fc.record<RateLimit>({
    limit: fc.integer({ min: 1, max: 60 }),
    window,
    algorithm: fc.constantFrom('sliding-window' as const, 'fixed-window' as const),
  }),
  fc.record<RateLimit>({
    limit: fc.integer({ min: 1, max: 60 }),
    window,
    algorithm: fc.constant('token-bucket' as const),
    burst: fc.option(fc.integer({ min: 1, max: 30 }), { nil: undefined }),
  }),
  fc.record<Quota>({
    limit: fc.integer({ min: 1, max: 60 }),
    period: fc.constantFrom('day' as const, 'month' as const),
  }),
);
const anyLimits = fc.uniqueArray(anyLimit, { minLength: 1, maxLength: 4, selector: limitKey });
/** Mostly short steps, sometimes hours, in microseconds. */
const forward = fc.oneof(
  { weight: 6, arbitrary: fc.integer({ min: 0, max: 900_000 }) },
  { weight: 3, arbitrary: fc.integer({ min: 0, max: 20_000_000 }) },
  { weight: 1, arbitrary: fc.integer({ min: 0, max: 40 * 3600 }).map((s) => s * 1_000_000) },
);
const cost = fc.oneof(
  { weight: 5, arbitrary: fc.constant(1) },
  { weight: 2, arbitrary: fc.integer({ min: 0, max: 20 }) },
);

type Step =
  | { readonly do: 'ask'; readonly afterUs: number; readonly costs: readonly number[] }
  | { readonly do: 'change'; readonly limits: readonly Limit[] };

const ask: fc.Arbitrary<Step> = fc.record({
  do: fc.constant('ask' as const),
  afterUs: forward,
  costs: fc.array(cost, { minLength: 1, maxLength: 6 }),
});
const askAnyTime: fc.Arbitrary<Step> = fc.record({
  do: fc.constant('ask' as const),
  afterUs: fc.oneof({ weight: 4, arbitrary: forward }, { weight: 1, arbitrary: forward.map((us) => -us) }),
  costs: fc.array(cost, { minLength: 1, maxLength: 6 }),
});
const change: fc.Arbitrary<Step> = fc.record({ do: fc.constant('change' as const), limits: anyLimits });

/** Runs the steps on Redis and on the model and expects the same verdicts throughout. */
async function expectModelled(limits: readonly Limit[], steps: readonly Step[]): Promise<void> {
  const tokenKey = await freshRecord(limits);
  const model = new RecordModel(limits);
  let clockUs = startMs * 1000;
  for (const step of steps) {
    if (step.do === 'change') {
      await writeRecord(rig.redis, tokenKey, step.limits);
      model.change(step.limits);
      continue;
    }
    clockUs += step.afterUs;
    const verdicts = await rig.batch(
      step.costs.map((units) => ({ tokenKey, cost: units })),
      clockUs,
    );
    const told = verdicts.map(({ code, limitIndex, remaining, resetMs, retryMs }) => {
      return { verdict: nameOf(code), limitIndex, remaining, resetMs, retryMs };
    });
    expect(told).toEqual(step.costs.map((units) => model.decide(units, clockUs)));
  }
}

describe('the script does what the reference model says', () => {
  test('for any limits, costs and times', async () => {
    await fc.assert(fc.asyncProperty(anyLimits, fc.array(ask, { minLength: 1, maxLength: 25 }), expectModelled), {
      numRuns: 150,
    });
  });

  test('for limits that change half way', async () => {
    const steps = fc.array(fc.oneof({ weight: 5, arbitrary: ask }, { weight: 1, arbitrary: change }), {
      maxLength: 30,
    });
    await fc.assert(fc.asyncProperty(anyLimits, steps, expectModelled), { numRuns: 150 });
  });

  test('for a clock that jumps both ways', async () => {
    const steps = fc.array(fc.oneof({ weight: 6, arbitrary: askAnyTime }, { weight: 1, arbitrary: change }), {
      maxLength: 30,
    });
    await fc.assert(fc.asyncProperty(anyLimits, steps, expectModelled), { numRuns: 150 });
  });
});

describe('sliding window', () => {
  test('never admits more than its limit in any window, and gives units back at most a sixteenth late', async () => {
    const calls = fc.array(
      fc.record({ afterMs: fc.integer({ min: 0, max: 400 }), cost: fc.integer({ min: 1, max: 4 }) }),
      { minLength: 30, maxLength: 120 },
    );
    await fc.assert(
      fc.asyncProperty(fc.integer({ min: 4, max: 50 }), calls, async (limit, sequence) => {
        const windowMs = 3000;
        const tokenKey = await freshRecord([{ limit, window: 3, algorithm: 'sliding-window' }]);
        const admitted: { atMs: number; cost: number }[] = [];
        const used = (fromMs: number, untilMs: number): number =>
          admitted.reduce((sum, call) => (call.atMs > fromMs && call.atMs <= untilMs ? sum + call.cost : sum), 0);
        let atMs = startMs;
        for (const call of sequence) {
          atMs += call.afterMs;
          const verdict = await rig.one({ tokenKey, cost: call.cost }, atMs * 1000);
          if (verdict.code === 1) admitted.push({ atMs, cost: call.cost });
          else {
            // Exact up to 16 units; above, what left the window less than a cell ago may still count.
            const lateMs = limit > 16 ? windowMs / 16 : 0;
            expect(used(atMs - windowMs - lateMs, atMs) + call.cost).toBeGreaterThan(limit);
            expect(verdict.retryMs).toBeLessThanOrEqual(windowMs);
          }
        }
        for (const call of admitted) expect(used(call.atMs - windowMs, call.atMs)).toBeLessThanOrEqual(limit);
      }),
      { numRuns: 40 },
    );
  });

  test('keeps at most 33 pairs however it is used', async () => {
    const tokenKey = await freshRecord([{ limit: 16, window: 60, algorithm: 'sliding-window' }]);
    let largest = 0;
    for (let call = 0; call < 400; call += 1) {
      if (call === 16)
        await writeRecord(rig.redis, tokenKey, [{ limit: 1e9, window: 60, algorithm: 'sliding-window' }]);
      const stepMs = call < 16 ? 1 : 397;
      await rig.one({ tokenKey }, (startMs + call * stepMs) * 1000);
      largest = Math.max(largest, await rig.redis.hstrlen(tokenKey, 'counters'));
    }
    expect(largest).toBeLessThanOrEqual(8 + 6 + 33 * 12);
  });
});

describe('what a refusal tells', () => {
  test('its wait is exact: a millisecond before it is too early, at it the request is admitted', async () => {
    const steps = fc.array(fc.record({ afterUs: forward, cost: fc.integer({ min: 1, max: 10 }) }), { maxLength: 40 });
    await fc.assert(
      fc.asyncProperty(anyLimits, steps, async (limits, sequence) => {
        const tokenKey = await freshRecord(limits);
        const trial = `${tokenKey}:trial`;
        const smallest = Math.min(...limits.map((limit) => ('burst' in limit && limit.burst) || limit.limit));
        let clockUs = startMs * 1000;
        for (const step of sequence) {
          clockUs += step.afterUs;
          const verdict = await rig.one({ tokenKey, cost: step.cost }, clockUs);
          if (verdict.retryMs === 0) continue;
          expect(verdict.resetMs).toBeLessThanOrEqual(verdict.retryMs);
          if (step.cost > smallest) continue;
          const at = async (afterMs: number): Promise<boolean> => {
            await rig.redis.copy(tokenKey, trial, 'REPLACE');
            return (await rig.one({ tokenKey: trial, cost: step.cost }, clockUs + afterMs * 1000)).code === 1;
          };
          expect([await at(verdict.retryMs - 1), await at(verdict.retryMs)]).toEqual([false, true]);
        }
      }),
      { numRuns: 60 },
    );
  });
});

test('a batch decides exactly as single calls at the same time would', async () => {
  const sequence = fc.array(fc.record({ afterUs: forward, costs: fc.array(cost, { minLength: 2, maxLength: 8 }) }), {
    maxLength: 12,
  });
  await fc.assert(
    fc.asyncProperty(anyLimits, sequence, async (limits, turns) => {
      const [together, alone] = [await freshRecord(limits), await freshRecord(limits)];
      let clockUs = startMs * 1000;
      for (const turn of turns) {
        clockUs += turn.afterUs;
        const batch = await rig.batch(
          turn.costs.map((units) => ({ tokenKey: together, cost: units })),
          clockUs,
        );
        for (const [index, units] of turn.costs.entries()) {
          expect(await rig.one({ tokenKey: alone, cost: units }, clockUs)).toEqual(batch[index]);
        }
      }
    }),
    { numRuns: 60 },
  );
});
