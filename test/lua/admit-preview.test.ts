/** A preview decides as an admission does and leaves no trace. */
import * as fc from 'fast-check';
import { afterAll, beforeAll, beforeEach, describe, expect, test } from 'vitest';
import { verdictCodes } from '../../src/admission/ticket.js';
import type { Limit } from '../../src/admission/limit.js';
import { previewAdmission, type PreviewTicket } from '../../src/admission/preview.js';
import { keys } from '../../src/redis/keys.js';
import { type RedisServer, startRedis } from '../support/redis.js';
import { AdmitRig, initialise, installation, nameOf, writeRecord } from './admit-rig.js';

let server: RedisServer;
let rig: AdmitRig;
const tokenKey = keys.token('000000000001');
const tenantKey = keys.tenant('acme');
const claimUntilMs = Date.now() + 60_000;
const claimed = { claim: 'a'.repeat(64), claimKey: keys.replay('000000000001', claimUntilMs), claimUntilMs };

beforeAll(async () => {
  server = await startRedis();
  rig = new AdmitRig(server.client());
});
afterAll(() => server.stop());
beforeEach(async () => {
  await rig.redis.flushall();
  await initialise(rig.redis);
});

const perDay: Limit = { limit: 100, period: 'day' };
const perMinute: Limit = { limit: 10, window: 60, algorithm: 'sliding-window' };
// Earns a unit in a minute: none while a test runs.
const bucket: Limit = { limit: 60, window: 3600, algorithm: 'token-bucket', burst: 5 };

function ticket(fields: Partial<PreviewTicket> = {}): PreviewTicket {
  const versions = { tokenKey, tokenVersion: 1, tenantKey, tenantVersion: 1 };
  return { ...versions, cost: 1, notBeforeMs: 0, notAfterMs: 0, claim: '', claimKey: '', claimUntilMs: 0, ...fields };
}

const preview = (fields: Partial<PreviewTicket> = {}): ReturnType<typeof previewAdmission> =>
  previewAdmission(rig.redis, installation, ticket(fields));

async function everything(): Promise<unknown> {
  const names = (await rig.redis.keys('*')).sort();
  return Promise.all(names.map(async (name) => [name, await rig.redis.hgetallBuffer(name)]));
}

describe('a preview', () => {
  test('charges nothing, claims nothing and writes nothing, however often it is asked', async () => {
    await writeRecord(rig.redis, tokenKey, [perMinute, bucket, perDay]);
    await writeRecord(rig.redis, tenantKey, [perMinute]);
    await rig.one(ticket({ cost: 4 }));
    const before = await everything();
    for (let time = 0; time < 20; time++) {
      const { verdict } = await preview(claimed);
      expect(nameOf(verdict.code)).toBe('admitted');
    }
    expect(await everything()).toEqual(before);
  });

  test('tells every limit of token and tenant as it is before the charge', async () => {
    await writeRecord(rig.redis, tokenKey, [perMinute, perDay]);
    await writeRecord(rig.redis, tenantKey, [{ limit: 1000, window: 60, algorithm: 'fixed-window' }]);
    const fresh = await preview();
    expect(fresh.tokenLimits).toEqual([
      { remaining: 10, capacity: 10, resetMs: 0 },
      { remaining: 100, capacity: 100, resetMs: 0 },
    ]);
    await rig.one(ticket({ cost: 4 }));
    const { tokenLimits, tenantLimits, verdict } = await preview({ cost: 3 });
    expect(tokenLimits.map(({ remaining }) => remaining)).toEqual([6, 96]);
    expect(tenantLimits).toEqual([{ remaining: 996, capacity: 1000, resetMs: expect.any(Number) as number }]);
    expect(tokenLimits.every(({ resetMs }) => resetMs > 0)).toBe(true);
    expect(verdict).toMatchObject({ code: verdictCodes.admitted, remaining: 3 });
  });

  test('refuses what admission would refuse: a limit, a quota, a used signature, a time outside the window', async () => {
    await writeRecord(rig.redis, tokenKey, [perMinute]);
    await writeRecord(rig.redis, tenantKey, [perDay]);
    const until = Date.now() + 60_000;
    expect(nameOf((await preview({ cost: 11 })).verdict.code)).toBe('limited');
    expect(nameOf((await preview({ cost: 101 })).verdict.code)).toBe('quotaExceeded');
    await rig.one(ticket(claimed));
    expect(nameOf((await preview(claimed)).verdict.code)).toBe('replayed');
    const late = await preview({ notAfterMs: 1 });
    expect([nameOf(late.verdict.code), late.tokenLimits.length]).toEqual(['tooLate', 1]);
    expect(nameOf((await preview({ notBeforeMs: until * 2 })).verdict.code)).toBe('tooEarly');
  });

  test('of another version or of no record says so and tells no limit', async () => {
    expect(nameOf((await preview()).verdict.code)).toBe('unknown');
    await writeRecord(rig.redis, tokenKey, [perMinute], 7);
    await writeRecord(rig.redis, tenantKey, []);
    const moved = await preview();
    expect(nameOf(moved.verdict.code)).toBe('moved');
    expect([moved.tokenLimits, moved.tenantLimits]).toEqual([[], []]);
  });

  test('says what the next admission then says', async () => {
    const limits = fc.constantFrom<Limit[]>([perMinute], [perMinute, perDay], [bucket], [bucket, perMinute]);
    const costs = fc.array(fc.integer({ min: 1, max: 7 }), { minLength: 1, maxLength: 6 });
    await fc.assert(
      fc.asyncProperty(limits, limits, costs, async (own, shared, spent) => {
        await rig.redis.del(tokenKey, tenantKey);
        await writeRecord(rig.redis, tokenKey, own);
        await writeRecord(rig.redis, tenantKey, shared);
        for (const cost of spent) {
          const said = await preview({ cost });
          const done = await rig.one(ticket({ cost }));
          expect(nameOf(said.verdict.code)).toBe(nameOf(done.code));
          expect(said.verdict.limitIndex).toBe(done.limitIndex);
        }
      }),
      { numRuns: 60 },
    );
  });
});
