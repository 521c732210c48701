/** Leases as lua/admit.lua sees them: what is charged in advance, given back late, twice, never, or by another clock. */
import * as fc from 'fast-check';
import { afterAll, beforeAll, beforeEach, describe, expect, test } from 'vitest';
import { type LeaseGrant, type LeaseQuestion, leaseMaxMs } from '../../src/admission/ticket.js';
import type { Limit } from '../../src/admission/limit.js';
import { keys } from '../../src/redis/keys.js';
import { type RedisServer, startRedis } from '../support/redis.js';
import { AdmitRig, initialise, nameOf, type TicketFields, writeRecord } from './admit-rig.js';

/** A Thursday, 12:00 UTC, in the middle of its minute. */
const startMs = Date.UTC(2026, 0, 15, 12, 0, 30);
const tenantKey = keys.tenant('leasing');
const perSecond: Limit = { limit: 1000, window: 1, algorithm: 'sliding-window' };

let server: RedisServer;
let rig: AdmitRig;
let tokens = 0;
let tokenKey: string;

beforeAll(async () => {
  server = await startRedis();
  rig = new AdmitRig(server.client());
});
afterAll(() => server.stop());
beforeEach(async () => {
  await rig.redis.flushall();
  await initialise(rig.redis);
  await freshRecords([perSecond], []);
});

async function freshRecords(limits: readonly Limit[], ofTenant: readonly Limit[]): Promise<void> {
  tokenKey = keys.token(`leased${(tokens += 1)}`);
  await rig.redis.del(tenantKey);
  await writeRecord(rig.redis, tokenKey, limits);
  await writeRecord(rig.redis, tenantKey, ofTenant);
}

const ticket = (fields: Partial<TicketFields> = {}): TicketFields => ({
  tokenKey,
  tenantKey,
  tenantVersion: 1,
  ...fields,
});
const asking = (units: number): LeaseQuestion => ({ units, datedMs: 0, marks: Buffer.alloc(16) });
const returning = (grant: LeaseGrant, units: number): LeaseQuestion => ({ ...grant, units });

async function ask(units: number, atMs: number): Promise<LeaseGrant | null> {
  return (await rig.one(ticket({ lease: asking(units) }), atMs * 1000)).lease;
}
async function mustLease(units: number, atMs: number): Promise<LeaseGrant> {
  const grant = await ask(units, atMs);
  if (grant === null) throw new Error('no lease was granted');
  return grant;
}
const giveBack = (grant: LeaseGrant, units: number, atMs: number) =>
  rig.one(ticket({ cost: 0, lease: returning(grant, units) }), atMs * 1000);
const remaining = async (atMs: number): Promise<number> => (await rig.one(ticket({ cost: 0 }), atMs * 1000)).remaining;

describe('a lease', () => {
  test('is charged to every limit of token and tenant before it is granted, at most an eighth of what is free', async () => {
    await freshRecords(
      [perSecond, { limit: 500, period: 'day' }],
      [{ limit: 401, window: 60, algorithm: 'sliding-window' }],
    );
    const grant = await mustLease(1000, startMs);
    // One unit was the request's own: 400 / 8.
    expect(grant).toMatchObject({ units: 50, remaining: 350, limitIndex: 2, nowMs: startMs, datedMs: startMs + 100 });
    expect((await rig.one(ticket({ cost: 351 }), startMs * 1000)).code).not.toBe(1);
    expect((await rig.one(ticket({ cost: 350 }), startMs * 1000)).code).toBe(1);
  });

  test('waits behind the requests of its batch', async () => {
    const [first, second] = await rig.batch(
      [ticket({ cost: 100, lease: asking(500) }), ticket({ cost: 892 })],
      startMs * 1000,
    );
    expect([first?.code, second?.code]).toEqual([1, 1]);
    expect(first?.lease).toBeNull();
  });

  test.each<[string, Limit, number]>([
    ['a token bucket', { limit: 1000, window: 1, algorithm: 'token-bucket' }, startMs],
    ['a window that is about to end', { limit: 1000, window: 10, algorithm: 'fixed-window' }, startMs + 9_900],
    ['a day that is about to end', { limit: 1000, period: 'day' }, Date.UTC(2026, 0, 16) - 100],
    ['a month that is about to end', { limit: 1000, period: 'month' }, Date.UTC(2026, 1, 1) - 100],
    ['a limit that is nearly used up', { limit: 16, window: 60, algorithm: 'sliding-window' }, startMs],
  ])('is not granted for %s', async (_, limit, atMs) => {
    await freshRecords([limit], []);
    expect(await ask(100, atMs)).toBeNull();
    await freshRecords([perSecond], [limit]);
    expect(await ask(100, atMs)).toBeNull();
    expect(await rig.redis.hexists(tokenKey, 'leased')).toBe(0);
  });

  test('is not granted to a request that is not admitted', async () => {
    const verdicts = await rig.batch(
      [
        ticket({ tokenVersion: 2, lease: asking(10) }),
        ticket({ cost: 1001, lease: asking(10) }),
        ticket({ notAfterMs: startMs, lease: asking(10) }),
        ticket({ cost: 0, lease: asking(10) }),
        ticket({ tokenKey: keys.token('nobody'), lease: asking(10) }),
      ],
      startMs * 1000,
    );
    expect(verdicts.map(({ code }) => nameOf(code))).toEqual(['moved', 'limited', 'tooLate', 'confirmed', 'unknown']);
    expect(verdicts.map(({ lease }) => lease)).toEqual([null, null, null, null, null]);
    expect(await remaining(startMs)).toBe(1000);
  });

  test('counts until one window after its end, for it may be used as late as that', async () => {
    const { units } = await mustLease(100, startMs);
    expect(await remaining(startMs + 999)).toBe(1000 - units - 1);
    // The request's own unit was charged with it.
    expect(await remaining(startMs + 1000 + leaseMaxMs - 1)).toBe(1000 - units - 1);
    expect(await remaining(startMs + 1000 + leaseMaxMs)).toBe(1000);
  });

  test('marks token and tenant, so that whoever changes them knows', async () => {
    await mustLease(10, startMs);
    expect(await rig.redis.hexists(tokenKey, 'leased')).toBe(1);
    expect(await rig.redis.hexists(tenantKey, 'leased')).toBe(1);
  });
});

describe('what is given back', () => {
  test('is free again at once, and nothing more than that', async () => {
    await freshRecords(
      [perSecond, { limit: 500, period: 'day' }, { limit: 700, window: 60, algorithm: 'fixed-window' }],
      [],
    );
    const { units, ...grant } = await mustLease(40, startMs);
    expect(units).toBe(40);
    await giveBack({ units, ...grant }, 30, startMs + 80);
    // 500 for the day, less the request and the ten that were used.
    expect(await remaining(startMs + 80)).toBe(489);
  });

  test('comes out of the lease and of nothing that was charged after it', async () => {
    const grant = await mustLease(50, startMs);
    await rig.one(ticket({ cost: 20 }), (startMs + 400) * 1000);
    await giveBack(grant, 50, startMs + 450);
    expect(await remaining(startMs + 450)).toBe(979);
    // The lease's window is over, the twenty of 400 ms are not.
    expect(await remaining(startMs + 1200)).toBe(980);
    expect(await remaining(startMs + 1400)).toBe(1000);
  });

  test('is nothing once the window of the lease is over', async () => {
    const grant = await mustLease(50, startMs);
    await rig.one(ticket({ cost: 200 }), (startMs + 1050) * 1000);
    await giveBack(grant, 50, startMs + 1100);
    expect(await remaining(startMs + 1100)).toBe(800);
    await freshRecords([{ limit: 1000, window: 10, algorithm: 'fixed-window' }], []);
    const inWindow = await mustLease(50, startMs + 9_800);
    await rig.one(ticket({ cost: 200 }), (startMs + 10_010) * 1000);
    await giveBack(inWindow, 50, startMs + 10_020);
    expect(await remaining(startMs + 10_020)).toBe(800);
  });

  test('is nothing when token or tenant changed meanwhile', async () => {
    const grant = await mustLease(50, startMs);
    await rig.redis.hset(tokenKey, 'version', 2);
    expect((await giveBack(grant, 50, startMs + 50)).code).toBe(3);
    await rig.redis.hset(tokenKey, 'version', 1);
    await rig.redis.hset(tenantKey, 'version', 2);
    expect((await giveBack(grant, 50, startMs + 50)).code).toBe(3);
    await rig.redis.hset(tenantKey, 'version', 1);
    expect(await remaining(startMs + 50)).toBe(949);
  });

  test('is nothing when the counters are not those it was charged to', async () => {
    const grant = await mustLease(50, startMs);
    await rig.redis.hdel(tokenKey, 'counters', 'leased');
    await mustLease(60, startMs + 10);
    const before = await remaining(startMs + 20);
    await giveBack(grant, 50, startMs + 20);
    expect(await remaining(startMs + 20)).toBe(before);
  });

  test('is nothing after the clock jumped back, for what was charged was dated anew', async () => {
    const grant = await mustLease(50, startMs);
    await giveBack(grant, 50, startMs - 500);
    expect(await remaining(startMs - 500)).toBe(949);
    await rig.one(ticket({ cost: 100 }), (startMs + 100) * 1000);
    await giveBack(grant, 50, startMs + 150);
    expect(await remaining(startMs + 150)).toBe(849);
  });
});

type Step =
  | { readonly do: 'call'; readonly afterMs: number; readonly cost: number }
  | { readonly do: 'ask'; readonly afterMs: number; readonly units: number }
  | { readonly do: 'use'; readonly afterMs: number; readonly lease: number; readonly units: number }
  | { readonly do: 'return'; readonly afterMs: number; readonly lease: number }
  | { readonly do: 'jump'; readonly backMs: number };

const afterMs = fc.oneof({ weight: 5, arbitrary: fc.integer({ min: 0, max: 60 }) }, fc.integer({ min: 0, max: 900 }));
const lease = fc.nat({ max: 3 });
const call = fc.record({ do: fc.constant('call' as const), afterMs, cost: fc.integer({ min: 1, max: 20 }) });
const askFor = fc.record({ do: fc.constant('ask' as const), afterMs, units: fc.integer({ min: 2, max: 60 }) });
const use = fc.record({ do: fc.constant('use' as const), afterMs, lease, units: fc.integer({ min: 1, max: 30 }) });
const back = fc.record({ do: fc.constant('return' as const), afterMs, lease });
const jump = fc.record({ do: fc.constant('jump' as const), backMs: fc.integer({ min: 1, max: 2500 }) });

interface Held {
  readonly grant: LeaseGrant;
  readonly atMs: number;
  left: number;
}

/**
 * Several holders on one token: whatever they do, when what was used is looked at afterwards no window has more than the
 * limit. `atMs` is true time; Redis' clock may fall behind it. A return is sent once, or never; a holder may be killed.
 */
async function expectNeverMore(
  limit: Limit & { window: number },
  steps: readonly Step[],
  windowOf: (atMs: number) => readonly [fromMs: number, untilMs: number],
): Promise<void> {
  await freshRecords([limit], []);
  const used: { readonly atMs: number; readonly units: number }[] = [];
  const held: Held[] = [];
  let [atMs, behindMs] = [startMs, 0];
  // The newest four: what falls out was lost with its holder.
  const pick = (index: number): Held | undefined => held.at(-1 - index);
  for (const step of steps) {
    if (step.do === 'jump') {
      behindMs += step.backMs;
      continue;
    }
    atMs += step.afterMs;
    const clockMs = atMs - behindMs;
    if (step.do === 'call') {
      const verdict = await rig.one(ticket({ cost: step.cost }), clockMs * 1000);
      if (verdict.code === 1) used.push({ atMs, units: step.cost });
    } else if (step.do === 'ask') {
      const verdict = await rig.one(ticket({ lease: asking(step.units) }), clockMs * 1000);
      if (verdict.code === 1) used.push({ atMs, units: 1 });
      if (verdict.lease !== null) held.push({ grant: verdict.lease, atMs, left: verdict.lease.units });
    } else {
      const one = pick(step.lease);
      if (one === undefined || one.left === 0) continue;
      if (step.do === 'return') {
        await giveBack(one.grant, one.left, clockMs);
        one.left = 0;
      } else if (atMs <= one.atMs + leaseMaxMs) {
        const units = Math.min(step.units, one.left);
        one.left -= units;
        used.push({ atMs, units });
      }
    }
  }
  for (const { atMs: end } of used) {
    const [fromMs, untilMs] = windowOf(end);
    const inWindow = used.filter((one) => one.atMs > fromMs && one.atMs <= untilMs);
    expect(inWindow.reduce((sum, one) => sum + one.units, 0)).toBeLessThanOrEqual(limit.limit);
  }
}

describe('never more is used than the limit in any window', () => {
  const sizes = fc.oneof(fc.integer({ min: 16, max: 17 }), fc.integer({ min: 40, max: 400 }));
  const window = fc.integer({ min: 1, max: 3 });
  const forward = fc.array(fc.oneof(call, askFor, { weight: 2, arbitrary: use }, back), {
    minLength: 20,
    maxLength: 80,
  });

  test('sliding window', async () => {
    await fc.assert(
      fc.asyncProperty(sizes, window, forward, async (limit, seconds, steps) => {
        const sliding = { limit, window: seconds, algorithm: 'sliding-window' as const };
        await expectNeverMore(sliding, steps, (end) => [end - seconds * 1000, end]);
      }),
      { numRuns: 150 },
    );
  });

  test('sliding window, when Redis’ clock jumps back', async () => {
    const jumping = fc.array(
      fc.oneof(
        { weight: 2, arbitrary: call },
        { weight: 3, arbitrary: askFor },
        { weight: 4, arbitrary: use },
        { weight: 3, arbitrary: back },
        { weight: 1, arbitrary: jump },
      ),
      { minLength: 20, maxLength: 80 },
    );
    await fc.assert(
      fc.asyncProperty(sizes, window, jumping, async (limit, seconds, steps) => {
        const sliding = { limit, window: seconds, algorithm: 'sliding-window' as const };
        await expectNeverMore(sliding, steps, (end) => [end - seconds * 1000, end]);
      }),
      { numRuns: 150 },
    );
  });

  test('fixed window', async () => {
    await fc.assert(
      fc.asyncProperty(sizes, window, forward, async (limit, seconds, steps) => {
        const windowMs = seconds * 1000;
        await expectNeverMore({ limit, window: seconds, algorithm: 'fixed-window' }, steps, (end) => {
          const beginMs = Math.floor(end / windowMs) * windowMs;
          return [beginMs - 1, beginMs + windowMs - 1];
        });
      }),
      { numRuns: 100 },
    );
  });
});

test('leases that are given back leave exactly what was used, whoever else calls meanwhile', async () => {
  const turns = fc.array(
    fc.record({
      afterMs: fc.integer({ min: 1, max: 70 }),
      units: fc.integer({ min: 2, max: 90 }),
      used: fc.nat(),
      cost: fc.nat({ max: 9 }),
    }),
    { minLength: 1, maxLength: 12 },
  );
  await fc.assert(
    fc.asyncProperty(turns, async (sequence) => {
      await freshRecords(
        [
          { limit: 1000, window: 60, algorithm: 'sliding-window' },
          { limit: 1000, period: 'month' },
        ],
        [],
      );
      let [atMs, total] = [startMs, 0];
      for (const turn of sequence) {
        const grant = await mustLease(turn.units, atMs);
        total += 1 + (turn.used % (grant.units + 1)) + turn.cost;
        atMs += turn.afterMs;
        if (turn.cost > 0) await rig.one(ticket({ cost: turn.cost }), atMs * 1000);
        const left = grant.units - (turn.used % (grant.units + 1));
        if (left > 0) await giveBack(grant, left, atMs);
        expect(await remaining(atMs)).toBe(1000 - total);
      }
      // And they leave with their windows: what was given back does not come back twice.
      expect(await remaining(atMs + 30_000)).toBe(1000 - total);
    }),
    { numRuns: 60 },
  );
});
