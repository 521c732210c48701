/** `onStoreOutage: serve-known`: who is served while Redis is away, within which limits, and who never is. */
import { createHash, createHmac } from 'node:crypto';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { until } from '../support/until.js';
import { startFaultRig, type FaultRig } from './fault-rig.js';

let rig: FaultRig;

afterEach(() => rig.stop());

async function away(): Promise<void> {
  await rig.installation.redis.kill();
  await until(async () => (await rig.readiness()).status === 503);
}

describe('a route that serves known tokens, while Redis is away,', () => {
  const limit = 20;

  beforeEach(async () => {
    // A killed Redis is known at once: the deadline is not the matter here.
    rig = await startFaultRig({
      env: { TOLLKEEPER_REDIS_COMMAND_TIMEOUT_MS: '20000' },
      redis: { appendonly: true },
      token: ['--limit', String(limit), '--window', '3600'],
    });
  });

  test('serves what is left of the limit and no more, and other routes are 503', async () => {
    for (let count = 0; count < 5; count += 1) expect((await rig.send('/known/a')).status).toBe(200);
    await away();
    const calls = await rig.burst(40, '/known/a', 8);
    expect(calls.filter(({ status }) => status === 200)).toHaveLength(limit - 5);
    const refused = calls.filter(({ status }) => status !== 200);
    expect(new Set(refused.map(({ status, slug }) => `${status} ${slug}`))).toEqual(
      new Set(['429 rate-limit-exceeded']),
    );
    expect(refused.every(({ retryAfter }) => Number(retryAfter) >= 1)).toBe(true);
    expect((await rig.send('/files/a')).slug).toBe('store-unavailable');
    expect(await rig.metrics()).toMatch(/tollkeeper_outage_requests_total\{result="served"\} 15/);
    await rig.installation.redis.restart({ keepData: true });
    await rig.untilAnswered(200, '/files/a');
    await rig.check();
  });

  test('serves nobody that Redis has not admitted before, no wrong secret, no lacking scope and no signature', async () => {
    const { installation, token } = rig;
    const stranger = await installation.token('acme', '--scopes', 'files');
    const signer = await installation.token('acme', '--scopes', 'files', '--mode', 'hmac');
    const signed = (): Record<string, string> => {
      const timestamp = String(Math.floor(Date.now() / 1000));
      const body = createHash('sha256').update('').digest('hex');
      const text = ['GET', '/known/a', timestamp, body].join('\n');
      return {
        'x-tollkeeper-token': signer.id,
        'x-tollkeeper-timestamp': timestamp,
        'x-tollkeeper-signature': createHmac('sha256', signer.secret).update(text).digest('hex'),
      };
    };
    const before = signed();
    expect((await rig.send('/known/a')).status).toBe(200);
    expect((await rig.history.call(rig.pool(), '/known/a', { headers: before })).status).toBe(200);
    await away();
    expect((await rig.send('/known/a')).status).toBe(200);
    // The same signature again, and a fresh one: only Redis knows which was used.
    expect((await rig.history.call(rig.pool(), '/known/a', { headers: before })).slug).toBe('store-unavailable');
    const fresh = signed();
    expect((await rig.history.call(rig.pool(), '/known/a', { headers: fresh })).slug).toBe('store-unavailable');
    expect((await rig.send('/known/a', { token: stranger.secret })).slug).toBe('store-unavailable');
    expect((await rig.send('/secrets/a')).slug).toBe('store-unavailable');
    // A well-formed token with this id and another secret.
    const forged = stranger.secret.replace(stranger.id, token.id);
    expect((await rig.send('/known/a', { token: forged })).status).not.toBe(200);
    await rig.installation.redis.restart({ keepData: true });
    await rig.untilAnswered(200, '/files/a');
    await rig.check();
  });

  test('keeps what it heard: a token revoked before is served no more', async () => {
    const { installation, token } = rig;
    expect((await rig.send('/known/a')).status).toBe(200);
    await installation.command('token', 'revoke', token.id);
    await away();
    expect((await rig.send('/known/a')).slug).toBe('store-unavailable');
    await installation.redis.restart({ keepData: true });
    await until(async () => (await rig.send('/known/a')).slug === 'token-revoked');
    await rig.check();
  });

  test('grants no second budget when Redis comes and goes', async () => {
    expect((await rig.send('/known/a')).status).toBe(200);
    for (let outage = 0; outage < 3; outage += 1) {
      await away();
      await rig.burst(15, '/known/a', 4);
      await rig.installation.redis.restart({ keepData: true });
      await until(async () => (await rig.readiness()).status === 200);
      await rig.send('/known/a');
    }
    const admittedByRedis = 1 + 3;
    const ok = rig.history.calls.filter(({ status }) => status === 200).length;
    expect(ok).toBeLessThanOrEqual(limit + admittedByRedis);
    await rig.check();
  });
});

test('a leased token that is called while Redis goes away is served its limit and no more', async () => {
  const limit = 4000;
  rig = await startFaultRig({
    env: { TOLLKEEPER_REDIS_COMMAND_TIMEOUT_MS: '20000' },
    redis: { appendonly: true },
    token: ['--lease', '--limit', String(limit), '--window', '86400'],
  });
  const counted = async (metric: string): Promise<number> =>
    Number(new RegExp(`^${metric} (\\d+)$`, 'm').exec(await rig.metrics())?.[1]);
  const load = rig.keepSending(16, '/known/a');
  await until(async () => (await counted('tollkeeper_leased_requests_total')) > 500);
  await rig.installation.redis.kill();
  await until(async () => (await counted('tollkeeper_outage_requests_total\\{result="limited"\\}')) > 0);
  const calls = await load.stop();
  expect(await counted('tollkeeper_outage_requests_total\\{result="served"\\}')).toBeGreaterThan(0);
  expect(calls.filter(({ status }) => status === 200).length).toBeLessThanOrEqual(limit);
  await rig.installation.redis.restart({ keepData: true });
  await rig.untilAnswered(200, '/files/a');
  await rig.check();
});

test('frozen, Redis delays a known token by its deadline at most, and by nothing once the breaker is open', async () => {
  rig = await startFaultRig({ env: { TOLLKEEPER_ON_STORE_OUTAGE: 'serve-known' } });
  await rig.untilAnswered(200);
  rig.installation.redis.freeze();
  const calls = await rig.burst(200, '/files/a', 8);
  expect(new Set(calls.map(({ status }) => status))).toEqual(new Set([200]));
  expect(calls.filter(({ waitedMs }) => waitedMs > 600)).toEqual([]);
  rig.installation.redis.thaw();
  // Nobody asks, and yet it becomes ready again.
  await until(async () => (await rig.readiness()).status === 200);
  await rig.check();
});
