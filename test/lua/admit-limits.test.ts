import { readFileSync } from 'node:fs';
import fc from 'fast-check';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import type { Limit } from '../../src/admission/limit.js';
import { keys } from '../../src/redis/keys.js';
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

/** One line of a table: seconds since the start, cost, and the verdict as `code remaining reset/retry`. */
type Line = readonly [atS: number, cost: number, expected: string];
interface Change {
  readonly limits: readonly Limit[];
}

const minute = Date.UTC(2026, 0, 1, 12, 0, 0);

async function play(limits: readonly Limit[], lines: readonly (Line | Change)[], startMs = minute): Promise<void> {
  fresh += 1;
  const tokenKey = keys.token(`table${fresh}`);
  await writeRecord(rig.redis, tokenKey, limits);
  const told: unknown[] = [];
  const expected: unknown[] = [];
  for (const line of lines) {
    if ('limits' in line) {
      await writeRecord(rig.redis, tokenKey, line.limits);
      continue;
    }
    const [atS, cost, text] = line;
    const verdict = await rig.one({ tokenKey, cost }, startMs * 1000 + Math.round(atS * 1e6));
    const times = `${verdict.resetMs}${verdict.retryMs > 0 ? `/${verdict.retryMs}` : ''}`;
    told.push([atS, cost, `${nameOf(verdict.code)} ${verdict.remaining} ${times}`]);
    expected.push([atS, cost, text]);
  }
  expect(told).toEqual(expected);
}

describe('sliding-window', () => {
  const limit = (limit: number, window = 60): Limit => ({ limit, window, algorithm: 'sliding-window' });

  test('a burst comes back exactly one window later, all of it', () =>
    play(
      [limit(60)],
      [
        [0, 60, 'admitted 0 60000'],
        [0.001, 1, 'limited 0 59999/59999'],
        [59.999, 1, 'limited 0 1/1'],
        [60, 60, 'admitted 0 60000'],
      ],
    ));

  test('calls farther apart than a cell come back one by one, on time', () =>
    play(
      [limit(20)],
      [
        [0, 18, 'admitted 2 60000'],
        [10, 1, 'admitted 1 50000'],
        [20, 1, 'admitted 0 40000'],
        [60, 19, 'limited 18 10000/10000'],
        [60, 18, 'admitted 0 10000'],
        [70, 1, 'admitted 0 10000'],
        [80, 1, 'admitted 0 40000'],
      ],
    ));

  test('calls of one cell come back together with the last of them', () =>
    play(
      [limit(20)],
      [
        [0, 10, 'admitted 10 60000'],
        [3, 10, 'admitted 0 60000'],
        [60, 1, 'limited 0 3000/3000'],
        [63, 20, 'admitted 0 60000'],
      ],
    ));

  test('a limit of up to 16 units is exact to the millisecond', () =>
    play(
      [limit(2)],
      [
        [0, 1, 'admitted 1 60000'],
        [0.003, 1, 'admitted 0 59997'],
        [60, 1, 'admitted 0 3'],
        [60.002, 1, 'limited 0 1/1'],
        [60.003, 1, 'admitted 0 59997'],
      ],
    ));

  test('a raised limit counts from the next request and forgets nothing', () =>
    play(
      [limit(2)],
      [
        [0, 2, 'admitted 0 60000'],
        [1, 1, 'limited 0 59000/59000'],
        { limits: [limit(3)] },
        [1, 1, 'admitted 0 59000'],
        [1, 1, 'limited 0 59000/59000'],
      ],
    ));

  test('a limit lowered below its use leaves nothing until enough has come back', () =>
    play(
      [limit(4)],
      [
        [0, 2, 'admitted 2 60000'],
        [10, 2, 'admitted 0 50000'],
        { limits: [limit(1)] },
        [10, 1, 'limited 0 60000/60000'],
        [60, 1, 'limited 0 10000/10000'],
        [70, 1, 'admitted 0 60000'],
      ],
    ));

  test('a clock that jumps back an hour frees everything one window later', () =>
    play(
      [limit(3)],
      [
        [3600, 3, 'admitted 0 60000'],
        [0, 1, 'limited 0 60000/60000'],
        [59.999, 1, 'limited 0 1/1'],
        [60, 3, 'admitted 0 60000'],
      ],
    ));
});

describe('fixed-window', () => {
  const limit = (limit: number, window = 60): Limit => ({ limit, window, algorithm: 'fixed-window' });

  test('windows are aligned to the epoch', () =>
    play(
      [limit(2)],
      [
        [45, 1, 'admitted 1 15000'],
        [59.999, 1, 'admitted 0 1'],
        [59.999, 1, 'limited 0 1/1'],
        [60, 2, 'admitted 0 60000'],
        [61, 3, 'limited 0 59000/60000'],
      ],
    ));

  test('a clock that jumps back carries the count into the present window only', () =>
    play(
      [limit(2)],
      [
        [600, 2, 'admitted 0 60000'],
        [30, 1, 'limited 0 30000/30000'],
        [60, 2, 'admitted 0 60000'],
        [120, 2, 'admitted 0 60000'],
      ],
    ));
});

describe('token-bucket', () => {
  const limit = (limit: number, burst?: number): Limit => ({ limit, window: 60, algorithm: 'token-bucket', burst });

  test('holds a burst and earns one unit every interval', () =>
    play(
      [limit(60, 3)],
      [
        [0, 3, 'admitted 0 1000'],
        [0.5, 1, 'limited 0 500/500'],
        [1, 1, 'admitted 0 1000'],
        [3, 2, 'admitted 0 1000'],
        [3, 2, 'limited 0 1000/2000'],
        [3, 4, 'limited 0 1000/3000'],
        [10, 0, 'confirmed 3 0'],
      ],
    ));

  test('a raised limit keeps the units that are used and earns faster from then on', () =>
    play(
      [limit(60, 10)],
      [
        [0, 10, 'admitted 0 1000'],
        { limits: [limit(120, 10)] },
        [0, 1, 'limited 0 500/500'],
        [0.5, 1, 'admitted 0 500'],
        { limits: [limit(120, 12)] },
        [0.5, 2, 'admitted 0 500'],
      ],
    ));

  test('a clock that jumps back leaves an empty bucket at worst', () =>
    play(
      [limit(60, 3)],
      [
        [3600, 3, 'admitted 0 1000'],
        [0, 1, 'limited 0 1000/1000'],
        [1, 1, 'admitted 0 1000'],
      ],
    ));
});

describe('quotas', () => {
  test('a day ends at midnight UTC', () =>
    play(
      [{ limit: 2, period: 'day' }],
      [
        [0, 2, 'admitted 0 43200000'],
        [1, 1, 'quotaExceeded 0 43199000/43199000'],
        [12 * 3600, 1, 'admitted 1 86400000'],
      ],
    ));

  test('a month ends with its last day, leap years included', () =>
    play(
      [{ limit: 1, period: 'month' }],
      [
        [0, 1, `admitted 0 ${29 * 86_400_000}`],
        [29 * 86_400 - 1, 1, 'quotaExceeded 0 1000/1000'],
        [29 * 86_400, 1, `admitted 0 ${31 * 86_400_000}`],
      ],
      Date.UTC(2028, 1, 1),
    ));
});

describe('several limits', () => {
  test('the headers speak of the one nearest to its end, a refusal of the one with the longest wait', () =>
    play(
      [
        { limit: 2, window: 1, algorithm: 'sliding-window' },
        { limit: 3, window: 60, algorithm: 'sliding-window' },
        { limit: 100, period: 'month' },
      ],
      [
        [0, 1, 'admitted 1 1000'],
        [0, 1, 'admitted 0 1000'],
        [0.5, 1, 'limited 0 500/500'],
        [1, 1, 'admitted 0 59000'],
        [1, 1, 'limited 0 59000/59000'],
      ],
    ));

  test('a limit that is taken away is forgotten, and begins anew when it comes back', () =>
    play(
      [
        { limit: 2, window: 60, algorithm: 'sliding-window' },
        { limit: 2, period: 'day' },
      ],
      [
        [0, 2, 'admitted 0 60000'],
        { limits: [{ limit: 5, window: 60, algorithm: 'sliding-window' }] },
        [0, 1, 'admitted 2 60000'],
        {
          limits: [
            { limit: 2, period: 'day' },
            { limit: 5, window: 60, algorithm: 'sliding-window' },
          ],
        },
        [0, 1, 'admitted 1 60000'],
        [0, 1, 'admitted 0 43200000'],
      ],
    ));
});

test('the calendar agrees with JavaScript’s for any day from 1970 to 2400', async () => {
  const calendar = readFileSync(new URL('../../lua/lib/calendar.lua', import.meta.url), 'utf8');
  const script = `${calendar}
    local found = {}
    for at = 1, #ARGV do
      local day, day_ends = day_period(tonumber(ARGV[at]))
      local month, month_ends = month_period(tonumber(ARGV[at]))
      found[at] = day .. ' ' .. string.format('%.0f', day_ends) .. ' ' .. month .. ' ' .. string.format('%.0f', month_ends)
    end
    return found`;
  const times = fc.array(fc.integer({ min: 0, max: Date.UTC(2400, 11, 31) }), { minLength: 200, maxLength: 400 });
  const edges = Array.from({ length: 12 * 431 }, (_, month) => Date.UTC(1970, month, 1));
  const check = async (asked: readonly number[]): Promise<void> => {
    const found = await rig.redis.eval(script, 0, ...asked);
    expect(found).toEqual(
      asked.map((ms) => {
        const date = new Date(ms);
        const [year, month, day] = [date.getUTCFullYear(), date.getUTCMonth(), date.getUTCDate()];
        const dayEnds = Date.UTC(year, month, day + 1);
        return `${Math.floor(ms / 86_400_000)} ${dayEnds} ${year * 12 + month} ${Date.UTC(year, month + 1)}`;
      }),
    );
  };
  await check(edges);
  await check(edges.slice(1).map((ms) => ms - 1));
  await fc.assert(fc.asyncProperty(times, check), { numRuns: 20 });
});
