/** Leases as a process holds them: over a real Redis, with its replies lost, frozen or late, and its records changed. */
import { setTimeout as delay } from 'node:timers/promises';
import type { Redis } from 'ioredis';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { serverCarrier } from '../../src/admission/admit.js';
import { leaseMaxMs, type Verdict } from '../../src/admission/ticket.js';
import { Admission } from '../../src/admission/batcher.js';
import type { Limit } from '../../src/admission/limit.js';
import { connect } from '../../src/redis/connect.js';
import { keys } from '../../src/redis/keys.js';
import { Store } from '../../src/redis/store.js';
import { initialise, installation, nameOf, type TicketFields, ticketOf, writeRecord } from '../lua/admit-rig.js';
import { startFaultProxy } from '../support/fault-proxy.js';
import { type RedisServer, startRedis } from '../support/redis.js';
import { until } from '../support/until.js';

const token = keys.token('leased');
const tenant = keys.tenant('leased');

let server: RedisServer;
let control: Redis;
const opened: { admission: Admission; redis: ReturnType<typeof connect> }[] = [];

/** One sidecar's admission; a deadline that only a fault can miss. */
async function sidecar(url = server.url, commandTimeoutMs = 20_000): Promise<Admission> {
  const redis = connect({ url, commandTimeoutMs }, 'admission');
  const admission = new Admission({
    carrier: serverCarrier(redis),
    queueMax: 100_000,
    commandTimeoutMs,
    observer: { batchAnswered: () => {}, storeFailed: () => {}, deniedLocally: () => {} },
  });
  admission.installation = installation;
  opened.push({ admission, redis });
  await new Promise<void>((resolve) => {
    redis.once('ready', () => resolve());
  });
  return admission;
}

beforeEach(async () => {
  server = await startRedis({ tcp: true });
  control = server.client();
  await initialise(control);
  await setLimit(1_000_000);
});
afterEach(async () => {
  for (const { admission, redis } of opened.splice(0)) {
    admission.close();
    admission.leases.close();
    redis.disconnect();
  }
  await server.stop();
});

async function setLimit(limit: number, window = 3600): Promise<void> {
  const limits: Limit[] = [{ limit, window, algorithm: 'sliding-window' }];
  await writeRecord(control, token, limits);
  await writeRecord(control, tenant, []);
}

const ask = (admission: Admission, fields: Partial<TicketFields> = {}): Promise<Verdict> =>
  new Promise((resolve) => {
    const ticket = { tokenKey: token, tenantKey: tenant, tenantVersion: 1, leasable: true, ...fields };
    admission.submit(ticketOf(ticket, (verdict) => resolve({ ...verdict })));
  });
const isLeased = (verdict: Verdict): boolean => nameOf(verdict.code) === 'admitted' && verdict.nowMs === 0;

/** Calls one after the other until a lease has admitted one; answers how many were admitted. */
async function untilLeased(admission: Admission, fields: Partial<TicketFields> = {}): Promise<number> {
  for (let admitted = 1; ; admitted += 1) {
    const verdict = await ask(admission, fields);
    expect(nameOf(verdict.code)).toBe('admitted');
    if (isLeased(verdict)) return admitted;
  }
}

/** Units that are charged now. */
async function charged(limit = 1_000_000): Promise<number> {
  const other = opened[0]?.admission as Admission;
  return limit - (await ask(other, { cost: 0, leasable: false })).remaining;
}

async function scriptCalls(): Promise<number> {
  const stats = await control.info('commandstats');
  const lines = stats.matchAll(/cmdstat_eval(?:sha)?:calls=(\d+)\S*failed_calls=(\d+)/g);
  // NOSCRIPT fails: nothing has run.
  return [...lines].reduce((sum, [, calls, failed]) => sum + Number(calls) - Number(failed), 0);
}

describe('a hot token', () => {
  test('is admitted without a call to Redis, and in the end is charged exactly what was used', async () => {
    const admission = await sidecar();
    let admitted = 0;
    while (admission.leases.taken < 2000) {
      const { code, remaining, limitIndex } = await ask(admission);
      if (nameOf(code) === 'admitted') admitted += 1;
      expect([remaining <= 1_000_000 - admitted, limitIndex]).toEqual([true, 0]);
    }
    // The others asked Redis, a call each, and so did what was given back.
    const asked = admitted - admission.leases.taken;
    expect(await scriptCalls()).toBeLessThanOrEqual(2 * asked);
    await until(async () => (await charged()) === admitted);
  });

  test('is not leased unless it is set to it, and not for signatures', async () => {
    const admission = await sidecar();
    for (let turn = 0; turn < 200; turn += 1) await ask(admission, { leasable: false });
    expect(admission.leases.taken).toBe(0);
    expect(await scriptCalls()).toBe(200);
    expect(await control.hexists(token, 'leased')).toBe(0);
  });

  test('is not leased beyond its expiry, nor under another version', async () => {
    const admission = await sidecar();
    await untilLeased(admission);
    const notAfterMs = Date.now() + 50;
    expect(isLeased(await ask(admission, { notAfterMs }))).toBe(false);
    expect(nameOf((await ask(admission, { tokenVersion: 7 })).code)).toBe('moved');
    expect(nameOf((await ask(admission, { tenantVersion: 7 })).code)).toBe('moved');
    expect(nameOf((await ask(admission, { tenantKey: keys.tenant('other') })).code)).toBe('unreadable');
  });

  test('of which a process hears that it or its tenant changed asks Redis at once', async () => {
    const admission = await sidecar();
    await untilLeased(admission);
    admission.leases.forgetToken(token);
    expect(isLeased(await ask(admission))).toBe(false);
    await untilLeased(admission);
    admission.leases.forgetTenant(tenant);
    expect(isLeased(await ask(admission))).toBe(false);
  });
});

describe('never more than the limit', () => {
  test.each([1, 2, 4])('with %d sidecars, and all of it can be used', async (count) => {
    const limit = 3000;
    await setLimit(limit);
    const sidecars = await Promise.all(Array.from({ length: count }, () => sidecar()));
    let admitted = 0;
    let leased = 0;
    const call = async (admission: Admission): Promise<boolean> => {
      const verdict = await ask(admission);
      if (isLeased(verdict)) leased += 1;
      if (nameOf(verdict.code) !== 'admitted') return false;
      admitted += 1;
      return true;
    };
    // Until every one is refused, with a bound far above the limit.
    const exhaust = (admission: Admission) =>
      Promise.all(
        Array.from({ length: 8 }, async () => {
          for (let turn = 0; turn < limit && (await call(admission)); turn += 1);
        }),
      );
    await Promise.all(sidecars.map(exhaust));
    expect(admitted).toBeLessThanOrEqual(limit);
    expect(leased).toBeGreaterThan(0);
    await until(async () => {
      await Promise.all(sidecars.map((admission) => call(admission)));
      expect(admitted).toBeLessThanOrEqual(limit);
      return admitted === limit;
    });
    expect(await Promise.all(sidecars.map((admission) => call(admission)))).not.toContain(true);
  });

  test('in any second, over several windows', async () => {
    await setLimit(400, 1);
    const sidecars = await Promise.all(Array.from({ length: 3 }, () => sidecar()));
    const admitted: { fromMs: number; untilMs: number }[] = [];
    let leased = 0;
    await Promise.all(
      sidecars.map(async (admission) => {
        while (admitted.length < 1400) {
          const fromMs = Date.now();
          const verdict = await ask(admission);
          if (verdict.retryMs > 0) await delay(5);
          if (nameOf(verdict.code) !== 'admitted') continue;
          // Redis says when it decided; a lease decided some time between the question and the answer.
          const { nowMs } = verdict;
          admitted.push(nowMs > 0 ? { fromMs: nowMs, untilMs: nowMs } : { fromMs, untilMs: Date.now() });
          if (isLeased(verdict)) leased += 1;
        }
      }),
    );
    expect(leased).toBeGreaterThan(0);
    // All of them are on one machine and its clock; 2 ms for what it rounds.
    for (const { untilMs: end } of admitted) {
      const inWindow = admitted.filter((one) => one.fromMs > end - 998 && one.untilMs <= end);
      expect(inWindow.length).toBeLessThanOrEqual(400);
    }
  });
});

describe('faults', () => {
  test('a frozen Redis is not asked: what was charged is used within its life, and nothing after it', async () => {
    const admission = await sidecar(server.url, 300);
    const before = await untilLeased(admission);
    server.freeze();
    const frozenAtMs = performance.now();
    let admitted = 0;
    let lastMs = 0;
    while (performance.now() < frozenAtMs + 1500) {
      const askedAtMs = performance.now();
      const verdict = await ask(admission);
      if (nameOf(verdict.code) === 'admitted') {
        expect(verdict.nowMs).toBe(0);
        admitted += 1;
        lastMs = askedAtMs;
      } else {
        await delay(20);
      }
    }
    server.thaw();
    expect(lastMs - frozenAtMs).toBeLessThan(leaseMaxMs);
    await until(async () => nameOf((await ask(admission, { leasable: false })).code) === 'admitted');
    expect(await charged()).toBeGreaterThanOrEqual(before + admitted);
  });

  test('a lost reply loses units and creates none, whether it granted them or took them back', async () => {
    const limit = 20_000;
    await setLimit(limit);
    const proxy = await startFaultProxy({ port: server.port });
    const steady = await sidecar();
    const troubled = await sidecar(`redis://127.0.0.1:${proxy.port}`);
    let admitted = 0;
    while (proxy.swallowed < 15) {
      proxy.swallowReplies(1, 'evalsha');
      for (let turn = 0; turn < 60; turn += 1) {
        for (const admission of [steady, troubled]) {
          if (nameOf((await ask(admission)).code) === 'admitted') admitted += 1;
        }
      }
      await delay(40);
    }
    // Every lease is over, and what was left of it given back.
    await delay(2 * leaseMaxMs);
    expect(await charged(limit)).toBeGreaterThanOrEqual(admitted);
    await proxy.stop();
  });
});

/** 200 in the suite; `npm run test:leases` runs thousands. */
const trials = Number(process.env.LEASE_TRIALS ?? 200);

describe('a change of a leased token', () => {
  test(`is answered when no lease of the record before is left: ${trials} trials on four sidecars that hear nothing`, async () => {
    const sidecars = await Promise.all(Array.from({ length: 4 }, () => sidecar()));
    const store = new Store(control, { redisMinReplicas: 0 });
    let leasedAfter = 0;
    let leasedBefore = 0;
    const lanes = Array.from({ length: 20 }, async (_, lane) => {
      for (let trial = lane; trial < trials; trial += 20) {
        const tokenKey = keys.token(`doomed${trial}`);
        await writeRecord(control, tokenKey, [{ limit: 1e9, window: 60, algorithm: 'sliding-window' }]);
        let isOver = false;
        let isAnswered = false;
        let askedAfter = 0;
        const call = async (admission: Admission): Promise<void> => {
          while (!isOver) {
            const wasAnswered = isAnswered;
            const verdict = await ask(admission, { tokenKey });
            if (wasAnswered) askedAfter += 1;
            if (!isLeased(verdict)) continue;
            if (wasAnswered) leasedAfter += 1;
            else leasedBefore += 1;
          }
        };
        await Promise.all(sidecars.map((admission) => untilLeased(admission, { tokenKey })));
        // In turn: leases that are being used and renewed all the time, and fresh ones that nobody uses up.
        const callers = trial % 2 === 0 ? sidecars.map(call) : [];
        await store.replaceRecord(tokenKey, 'token:x', (json) => ({ fields: { record: json }, result: true }));
        isAnswered = true;
        if (trial % 2 === 1) callers.push(...sidecars.map(call));
        await until(() => askedAfter >= 200);
        isOver = true;
        await Promise.all(callers);
      }
    });
    await Promise.all(lanes);
    expect(leasedBefore).toBeGreaterThan(trials);
    expect(leasedAfter).toBe(0);
  }, 600_000);
});
