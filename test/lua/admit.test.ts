import { afterAll, beforeAll, beforeEach, describe, expect, test } from 'vitest';
import { AdmitRig, initialise, installation, nameOf, writeRecord } from './admit-rig.js';
import type { RateLimit } from '../../src/admission/limit.js';
import { keys } from '../../src/redis/keys.js';
import { type RedisServer, startRedis } from '../support/redis.js';

const perMinute = (limit: number): RateLimit => ({ limit, window: 60, algorithm: 'sliding-window' });
const now = Date.UTC(2026, 4, 17, 12) * 1000;
const nowMs = now / 1000;
const token = keys.token('tokenA');
const other = keys.token('tokenB');
const tenant = keys.tenant('shop');

let server: RedisServer;
let rig: AdmitRig;

beforeAll(async () => {
  server = await startRedis();
  rig = new AdmitRig(server.client());
});
afterAll(() => server.stop());
beforeEach(async () => {
  await rig.redis.flushall();
  await initialise(rig.redis);
  await writeRecord(rig.redis, token, [perMinute(3)]);
  await writeRecord(rig.redis, other, [perMinute(3)]);
  await writeRecord(rig.redis, tenant, []);
});

const counters = async (key: string): Promise<string | null> => rig.redis.hget(key, 'counters');
const codes = async (...args: Parameters<AdmitRig['batch']>): Promise<string[]> =>
  (await rig.batch(...args)).map((verdict) => nameOf(verdict.code));

describe('records', () => {
  test('a current token is admitted, charged and told what remains', async () => {
    const verdict = await rig.one({ tokenKey: token }, now);
    expect(verdict).toMatchObject({ code: 1, limitIndex: 0, remaining: 2, resetMs: 60_000, retryMs: 0, nowMs });
  });

  test('a token nobody knows is unknown', async () => {
    expect(await codes([{ tokenKey: keys.token('nobody'), tokenVersion: 0 }])).toEqual(['unknown']);
    expect(await codes([{ tokenKey: keys.token('nobody'), tokenVersion: 7 }])).toEqual(['unknown']);
  });

  test('a moved token brings its record and is charged nothing', async () => {
    const [verdict] = await rig.batch([{ tokenKey: token, tokenVersion: 0 }], now);
    expect(verdict).toMatchObject({ code: 3, limitIndex: -1, tokenRecord: '{"version":1}', tenantRecord: null });
    expect(await counters(token)).toBeNull();
  });

  test('a moved tenant brings its record and the token is charged nothing', async () => {
    const [verdict] = await rig.batch([{ tokenKey: token, tenantKey: tenant, tenantVersion: 9 }], now);
    expect(verdict).toMatchObject({ code: 3, tokenRecord: null, tenantRecord: '{"version":1}' });
    expect(await counters(token)).toBeNull();
  });

  test('token and tenant moved come together, each record once a batch', async () => {
    const ticket = { tokenKey: token, tokenVersion: 0, tenantKey: tenant, tenantVersion: 0 };
    const verdicts = await rig.batch([ticket, ticket, { tokenKey: other, tenantKey: tenant }], now);
    expect(verdicts.map((verdict) => nameOf(verdict.code))).toEqual(['moved', 'moved', 'moved']);
    expect(verdicts[1]).toMatchObject({ tokenRecord: '{"version":1}', tenantRecord: '{"version":1}' });
    expect(verdicts[2]).toMatchObject({ tokenRecord: null, tenantRecord: '{"version":1}' });
  });

  test.each([
    ['before', [0, 1, 1, 0, 1, 1]],
    ['behind', [1, 1, 0, 1, 0, 1]],
  ])('requests that know a record are decided as ever %s others in their batch that do not', async (_, versions) => {
    await writeRecord(rig.redis, tenant, [perMinute(3)]);
    await rig.one({ tokenKey: token, tenantKey: tenant, tenantVersion: 1 }, now);
    const verdicts = await rig.batch(
      versions.map((version) => ({
        tokenKey: token,
        tokenVersion: version,
        tenantKey: tenant,
        tenantVersion: version,
      })),
      now,
    );
    const expected: string[] = versions.map((version) => (version === 0 ? 'moved' : 'admitted'));
    // Two of three units were left.
    expected[expected.lastIndexOf('admitted', -2)] = 'limited';
    expected[expected.length - 1] = 'limited';
    expect(verdicts.map((verdict) => nameOf(verdict.code))).toEqual(expected);
    const whole = { tokenRecord: '{"version":1}', tenantRecord: '{"version":1}' };
    for (const [index, version] of versions.entries()) if (version === 0) expect(verdicts[index]).toMatchObject(whole);
  });

  test('a token without its tenant is damage, never an unknown token', async () => {
    expect(await codes([{ tokenKey: token, tenantKey: keys.tenant('gone'), tenantVersion: 1 }])).toEqual([
      'unreadable',
    ]);
  });

  test('a moved token is decided again even when its tenant is gone', async () => {
    const ticket = { tokenKey: token, tokenVersion: 4, tenantKey: keys.tenant('gone'), tenantVersion: 1 };
    expect(await codes([ticket])).toEqual(['moved']);
  });

  test('a tenant that is not known yet is not asked for', async () => {
    expect(await codes([{ tokenKey: token, tenantKey: '' }])).toEqual(['admitted']);
  });

  test('the limit of a tenant holds over all its tokens and is counted after the token’s', async () => {
    await writeRecord(rig.redis, tenant, [perMinute(4)]);
    const ask = (tokenKey: string) => rig.one({ tokenKey, tenantKey: tenant, tenantVersion: 1 }, now);
    expect([await ask(token), await ask(token), await ask(other)].map((verdict) => nameOf(verdict.code))).toEqual([
      'admitted',
      'admitted',
      'admitted',
    ]);
    expect(await ask(other)).toMatchObject({ code: 1, limitIndex: 1, remaining: 0 });
    expect(await ask(other)).toMatchObject({ code: 9, limitIndex: 1, remaining: 0, retryMs: 60_000 });
    expect((await rig.one({ tokenKey: other, cost: 0 }, now)).remaining).toBe(1);
  });

  test('a record without limits is admitted without a word about limits', async () => {
    await writeRecord(rig.redis, token, []);
    expect(await rig.one({ tokenKey: token })).toMatchObject({ code: 1, limitIndex: -1, remaining: 0, resetMs: 0 });
    expect(await counters(token)).toBeNull();
  });

  test('a record that cannot be decoded fails alone, not its batch', async () => {
    await rig.redis.hset(token, 'limits', 'garbage');
    await rig.redis.set(keys.token('string'), 'not a hash');
    expect(await codes([{ tokenKey: token }, { tokenKey: other }, { tokenKey: keys.token('string') }])).toEqual([
      'unreadable',
      'admitted',
      'unreadable',
    ]);
    expect(await counters(token)).toBeNull();
  });
});

describe('installation', () => {
  test('a token missing from an empty Redis is an outage, not an unknown token', async () => {
    await rig.redis.flushall();
    expect(await codes([{ tokenKey: token }])).toEqual(['storeEmpty']);
    expect(await codes([{ tokenKey: token }], undefined, '')).toEqual(['storeEmpty']);
  });

  test('a token missing from another installation is an outage too', async () => {
    const ticket = { tokenKey: keys.token('nobody') };
    expect(await codes([ticket], undefined, 'another')).toEqual(['storeEmpty']);
    expect(await codes([ticket], undefined, installation)).toEqual(['unknown']);
    expect(await codes([ticket], undefined, '')).toEqual(['unknown']);
  });
});

describe('time window', () => {
  test.each([
    ['before it begins', nowMs + 1, 0, 'tooEarly'],
    ['at its first millisecond', nowMs, nowMs + 1, 'admitted'],
    ['at its end', 0, nowMs, 'tooLate'],
    ['after its end', 0, nowMs - 1, 'tooLate'],
    ['without bounds', 0, 0, 'admitted'],
    ['with an end that is no time', 0, Number.NaN, 'tooLate'],
    ['with an end before 1970', 0, -5, 'tooLate'],
  ])('%s', async (_, notBeforeMs, notAfterMs, expected) => {
    expect(await codes([{ tokenKey: token, notBeforeMs, notAfterMs }], now)).toEqual([expected]);
    expect((await rig.one({ tokenKey: token, cost: 0 }, now)).remaining).toBe(expected === 'admitted' ? 2 : 3);
  });
});

describe('claims', () => {
  const claimKey = keys.replay('tokenA', nowMs + 5000);
  const claimed = { tokenKey: token, claim: 'c0'.repeat(32), claimKey, claimUntilMs: nowMs + 5000 };
  const another = { ...claimed, claim: 'be'.repeat(32) };
  const later = { ...another, claimKey: keys.replay('tokenA', nowMs + 6000), claimUntilMs: nowMs + 6000 };

  test('a claim is good once, is charged once and expires when it should', async () => {
    expect(await codes([claimed], now)).toEqual(['admitted']);
    expect(await codes([claimed], now)).toEqual(['replayed']);
    expect((await rig.one({ tokenKey: token, cost: 0 }, now)).remaining).toBe(2);
    const ttl = await rig.redis.pttl(claimKey);
    expect(ttl).toBeGreaterThan(4000);
    expect(ttl).toBeLessThanOrEqual(5000);
  });

  test('the same claim twice in one batch is admitted once', async () => {
    expect(await codes([claimed, another, claimed, another], now)).toEqual([
      'admitted',
      'admitted',
      'replayed',
      'replayed',
    ]);
  });

  test('an old claim beside new ones is found', async () => {
    await codes([claimed], now);
    expect(await codes([another, claimed], now)).toEqual(['admitted', 'replayed']);
    expect(await rig.redis.scard(claimKey)).toBe(2);
  });

  test('claims that are kept until other times are told apart, and each set expires at its own', async () => {
    await codes([claimed], now);
    expect(await codes([later, claimed, another, later], now)).toEqual([
      'admitted',
      'replayed',
      'admitted',
      'replayed',
    ]);
    expect([await rig.redis.scard(claimKey), await rig.redis.scard(later.claimKey)]).toEqual([2, 1]);
    const [ttl, laterTtl] = [await rig.redis.pttl(claimKey), await rig.redis.pttl(later.claimKey)];
    expect(laterTtl - ttl).toBeGreaterThan(500);
    expect(laterTtl - ttl).toBeLessThan(1500);
  });

  test('a key that is no set is an error, and nothing is charged', async () => {
    await rig.redis.set(claimKey, '');
    await expect(codes([claimed], now)).rejects.toThrow('WRONGTYPE');
    expect((await rig.one({ tokenKey: token, cost: 0 }, now)).remaining).toBe(3);
  });

  test('a refused request keeps its claim for the next try', async () => {
    await codes([{ tokenKey: token, cost: 3 }], now);
    expect(await codes([claimed], now)).toEqual(['limited']);
    expect(await codes([{ ...claimed, notAfterMs: 1 }], now)).toEqual(['tooLate']);
    expect(await codes([{ ...claimed, tokenVersion: 8 }], now)).toEqual(['moved']);
    expect(await rig.redis.exists(claimKey)).toBe(0);
    expect(await codes([claimed], now + 60e6)).toEqual(['admitted']);
  });

  test('a request that costs nothing can be replayed no more than any other', async () => {
    expect(await codes([{ ...claimed, cost: 0 }], now)).toEqual(['confirmed']);
    expect(await codes([{ ...claimed, cost: 0 }], now)).toEqual(['replayed']);
  });
});

describe('charging', () => {
  test('a batch decides in its order, as if each had come alone', async () => {
    const cost = (units: number) => ({ tokenKey: token, cost: units });
    const verdicts = await rig.batch([cost(2), cost(2), cost(1), cost(1), cost(0)], now);
    expect(verdicts.map((verdict) => [nameOf(verdict.code), verdict.remaining])).toEqual([
      ['admitted', 1],
      ['limited', 1],
      ['admitted', 0],
      ['limited', 0],
      ['confirmed', 0],
    ]);
  });

  test('a refused request is charged nothing by any of its limits', async () => {
    await writeRecord(rig.redis, token, [perMinute(10), { limit: 1, period: 'day' }]);
    expect(await codes([{ tokenKey: token }, { tokenKey: token }, { tokenKey: token }], now)).toEqual([
      'admitted',
      'quotaExceeded',
      'quotaExceeded',
    ]);
    await writeRecord(rig.redis, token, [perMinute(10)]);
    expect((await rig.one({ tokenKey: token, cost: 0 }, now)).remaining).toBe(9);
  });

  test('a cost above the limit itself waits a whole window', async () => {
    expect(await rig.one({ tokenKey: token, cost: 4 }, now)).toMatchObject({ code: 9, remaining: 3, retryMs: 60_000 });
    expect(await rig.one({ tokenKey: token, cost: Number.NaN }, now)).toMatchObject({ code: 9 });
  });

  test('a confirmation writes nothing', async () => {
    expect(await rig.one({ tokenKey: token, cost: 0 }, now)).toMatchObject({ code: 2, remaining: 3, resetMs: 0 });
    expect(await counters(token)).toBeNull();
  });

  test('a full batch of 128 tokens and as many tenants fits', async () => {
    const tickets = Array.from({ length: 128 }, (_, index) => ({
      tokenKey: keys.token(`many${index}`),
      tenantKey: keys.tenant(`many${index}`),
      tenantVersion: 1,
      claim: 'aa'.repeat(32),
      claimKey: keys.replay(`many${index}`, nowMs + index),
      claimUntilMs: nowMs + 1000,
    }));
    for (const ticket of tickets) {
      await writeRecord(rig.redis, ticket.tokenKey, [perMinute(1)]);
      await writeRecord(rig.redis, ticket.tenantKey, [perMinute(5)]);
    }
    expect(new Set(await codes(tickets, now))).toEqual(new Set(['admitted']));
    expect(new Set(await codes(tickets, now))).toEqual(new Set(['replayed']));
  });
});

describe('faults of Redis', () => {
  test('SCRIPT FLUSH half way loses no count', async () => {
    await codes([{ tokenKey: token }], now);
    await rig.redis.script('FLUSH');
    expect(await codes([{ tokenKey: token, cost: 2 }, { tokenKey: token }], now)).toEqual(['admitted', 'limited']);
  });

  test('out of memory does not lock anybody out, and still counts', async () => {
    await rig.redis.config('SET', 'maxmemory-policy', 'noeviction');
    await rig.redis.config('SET', 'maxmemory', '1');
    try {
      await expect(rig.redis.set('anything', 'else')).rejects.toThrow('OOM');
      const claimUntilMs = nowMs + 60_000;
      const claim = { claim: 'aa'.repeat(32), claimKey: keys.replay('tokenA', claimUntilMs), claimUntilMs };
      expect(await codes([{ tokenKey: token, ...claim }], now)).toEqual(['admitted']);
      expect(await codes([{ tokenKey: token, ...claim }], now)).toEqual(['replayed']);
      expect(await codes([{ tokenKey: token, cost: 2 }, { tokenKey: token }], now)).toEqual(['admitted', 'limited']);
    } finally {
      await rig.redis.config('SET', 'maxmemory', '0');
    }
  });

  test('without a clock given it is Redis’ own', async () => {
    const before = Date.now();
    const { nowMs: told } = await rig.one({ tokenKey: token });
    expect(told).toBeGreaterThanOrEqual(before - 1);
    expect(told).toBeLessThanOrEqual(Date.now() + 1);
  });
});
