/** Redis killed, frozen, slow, cut off or empty: what callers see, how fast it ends, and that nothing is lost. */
import { afterEach, describe, expect, test } from 'vitest';
import { changesChannel } from '../../src/redis/keys.js';
import { until } from '../support/until.js';
import { expectNoCrash, startFaultRig, type FaultRig } from './fault-rig.js';
import type { Call } from './history.js';

let rig: FaultRig;

afterEach(() => rig.stop());

/** The deadline is 100 ms; the rest is room for the sidecar on a busy machine. */
const inTimeMs = 600;

/** Each is 503 `store-unavailable` with Retry-After, in time. */
function expectRefusals(calls: readonly Call[]): void {
  for (const { status, slug, retryAfter, error, waitedMs } of calls) {
    expect([status, slug, retryAfter, error]).toEqual([503, 'store-unavailable', '1', '']);
    expect(waitedMs).toBeLessThan(inTimeMs);
  }
}

describe('Redis', () => {
  test('killed under load: 503 at once, public routes go on, 200 within a second after its return; nothing is lost', async () => {
    rig = await startFaultRig({ redis: { appendonly: true }, sidecars: 2 });
    const { redis } = rig.installation;
    await rig.burst(200, '/files/a', 16);
    const load = rig.keepSending(16);
    await redis.kill();
    expectRefusals(await rig.burst(40));
    expect((await rig.send('/open/a')).status).toBe(200);
    await until(async () => (await rig.readiness()).status === 503);
    expect(await rig.metrics()).toMatch(/^tollkeeper_breaker_open 1$/m);
    // Readiness is looked at once in a while: an outage that is over before is not logged.
    await rig.sidecars[0]?.logged(({ msg }) => msg === 'not ready');
    await redis.restart({ keepData: true });
    expect(await rig.untilAnswered(200)).toBeLessThan(1000);
    await until(async () => (await rig.readiness()).status === 200);
    await load.stop();
    expect(Object.keys(rig.history.outcomes()).sort()).toEqual(['ok', 'store-unavailable']);
    expect(await rig.metrics()).toMatch(/tollkeeper_store_errors_total\{kind="connection"\} [1-9]/);
    await rig.check();
  });

  test('frozen: 503 within the deadline, then at once by the breaker, and 200 within a second when it goes on', async () => {
    rig = await startFaultRig();
    const { redis } = rig.installation;
    await rig.burst(50, '/files/a', 8);
    redis.freeze();
    expectRefusals(await rig.burst(20));
    expectRefusals(await rig.burst(20));
    expect(await rig.metrics()).toMatch(/^tollkeeper_breaker_open 1$/m);
    expect((await rig.send('/open/a')).status).toBe(200);
    redis.thaw();
    expect(await rig.untilAnswered(200)).toBeLessThan(1000);
    await rig.check();
  });

  test('slower than the deadline, half open, resetting or cutting connections: 503 in time, nothing twice, and it recovers by itself', async () => {
    rig = await startFaultRig();
    await rig.burst(20, '/files/a', 8);
    rig.redisLink.fail({ kind: 'latency', ms: 400 });
    expectRefusals(await rig.burst(20));
    await until(async () => {
      expectRefusals(await rig.burst(4));
      return /^tollkeeper_breaker_open 1$/m.test(await rig.metrics());
    });
    rig.redisLink.fail({ kind: 'none' });
    await rig.untilAnswered(200);

    rig.redisLink.fail({ kind: 'stalled' });
    expectRefusals(await rig.burst(20));
    rig.redisLink.fail({ kind: 'none' });
    await rig.untilAnswered(200);

    for (const fault of [
      { kind: 'reset' },
      { kind: 'cut-after', bytes: 3 },
      { kind: 'cut-after-request' },
      { kind: 'slow', bytesPerSecond: 50 },
    ] as const) {
      rig.redisLink.fail(fault);
      expectRefusals(await rig.burst(20));
      rig.redisLink.fail({ kind: 'none' });
      await rig.untilAnswered(200);
    }
    await rig.check();
  });

  test('that came back empty: 503 and not 401, /readyz says so; with its data back, 200', async () => {
    rig = await startFaultRig({ redis: { appendonly: true } });
    const { redis } = rig.installation;
    await rig.untilAnswered(200);
    await until(async () => /^tollkeeper_log_queue_entries 0$/m.test(await rig.metrics()));
    const keeper = redis.client();
    const everything = new Map<string, Buffer>();
    for (const key of await keeper.keys('*')) everything.set(key, await keeper.dumpBuffer(key));
    keeper.disconnect();
    await redis.restart({ keepData: false });
    // From the first answer after its return on: never 401.
    const statuses = new Set<number>();
    await until(async () => {
      statuses.add((await rig.send()).status);
      const { status, text } = await rig.readiness();
      return status === 503 && text.includes('empty');
    });
    expect([...statuses]).toEqual([503]);
    expectRefusals(await rig.burst(20));
    const unknown = 'tk_live_AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA4JDAeT';
    expect((await rig.send('/files/a', { token: unknown })).status).not.toBe(200);
    expect((await rig.send('/open/a')).status).toBe(200);

    const restorer = redis.client();
    for (const [key, value] of everything) {
      // The log of the refusals is there already: an entry of before must not replace it.
      if (!key.startsWith('log')) await restorer.restore(key, 0, value, 'REPLACE');
    }
    restorer.disconnect();
    await rig.untilAnswered(200);
    await until(async () => (await rig.readiness()).status === 200);
    // What was in the log went with the data: there is nothing to add up.
  });

  test('away at the start: the sidecar starts, is not ready, answers 503, and recovers by itself', async () => {
    rig = await startFaultRig({ redis: { appendonly: true }, sidecars: 0 });
    const { redis } = rig.installation;
    await redis.kill();
    await rig.another();
    expectRefusals([await rig.send()]);
    expect((await rig.readiness()).status).toBe(503);
    await redis.restart({ keepData: true });
    await rig.untilAnswered(200);
    await rig.check();
  });

  test('busy in a script of its own: 503 in time, and nothing is lost', async () => {
    rig = await startFaultRig({ redis: { args: ['--busy-reply-threshold', '50'] } });
    const client = rig.installation.redis.client();
    await rig.burst(20, '/files/a', 8);
    const killer = rig.installation.redis.client();
    await killer.ping();
    client.call('EVAL', 'while true do end', '0').catch(() => {});
    await until(async () => (await rig.send()).status === 503);
    expectRefusals(await rig.burst(20));
    await until(async () => (await killer.script('KILL').catch(() => '')) === 'OK');
    await rig.untilAnswered(200);
    await rig.check();
  });

  test('lost again while a subscription is taken up: the process lives, and hears of changes when it is back', async () => {
    rig = await startFaultRig({ env: { TOLLKEEPER_REDIS_COMMAND_TIMEOUT_MS: '20000' } });
    const client = rig.installation.redis.client();
    const listeners = async (): Promise<unknown> => (await client.pubsub('NUMSUB', changesChannel))[1];
    await until(async () => (await listeners()) === 1);
    for (let lost = 0; lost < 5; lost += 1) {
      rig.redisLink.swallowReplies(1, 'subscribe');
      rig.redisLink.fail({ kind: 'reset' });
      rig.redisLink.fail({ kind: 'none' });
      await until(() => {
        expectNoCrash(rig.sidecars);
        return rig.redisLink.swallowed === lost + 1;
      });
    }
    await rig.untilAnswered(200);
    await until(async () => (await listeners()) === 1);
    await rig.check();
  });

  test('losing its scripts again and again is not noticed', async () => {
    rig = await startFaultRig({ env: { TOLLKEEPER_REDIS_COMMAND_TIMEOUT_MS: '20000' } });
    const client = rig.installation.redis.client();
    const load = rig.keepSending(16);
    for (let flush = 0; flush < 20; flush += 1) {
      await client.script('FLUSH');
      await rig.burst(10);
    }
    await load.stop();
    expect(rig.history.outcomes()).toEqual({ ok: rig.history.calls.length });
    await rig.check();
  });
});

test('a reply that is lost costs one unit at most, is answered 503, and the request does not reach the upstream', async () => {
  // A connection that is cut is known at once: the deadline is not the matter here.
  rig = await startFaultRig({
    env: { TOLLKEEPER_REDIS_COMMAND_TIMEOUT_MS: '20000' },
    token: ['--limit', '30', '--window', '3600'],
  });
  expect((await rig.send()).status).toBe(200);
  for (let lost = 0; lost < 5; lost += 1) {
    // The access log is written by a script too: its reply is not the one to lose.
    await until(async () => /^tollkeeper_log_queue_entries 0$/m.test(await rig.metrics()));
    rig.redisLink.swallowReplies(1, 'evalsha');
    expectRefusals([await rig.send()]);
    await until(async () => rig.redisLink.swallowed === lost + 1);
    rig.redisLink.swallowReplies(0, '');
    await rig.untilAnswered(200);
  }
  await rig.burst(60, '/files/a', 4);
  const { ok = 0, 'rate-limit-exceeded': limited = 0 } = rig.history.outcomes();
  expect(limited).toBeGreaterThan(0);
  // Each lost reply may have been charged: never more than the limit, and never more lost than replies.
  expect(ok).toBeLessThanOrEqual(30);
  expect(ok).toBeGreaterThanOrEqual(30 - 5);
  await rig.check();
});
