import { afterEach, describe, expect, test } from 'vitest';
import type { Limit } from '../../src/admission/limit.js';
import { keys } from '../../src/redis/keys.js';
import { type RedisServer, startRedis } from '../support/redis.js';
import { AdmitRig, initialise, nameOf, writeRecord } from './admit-rig.js';

let server: RedisServer | undefined;
afterEach(() => server?.stop());

const cases: readonly (readonly [string, Limit])[] = [
  ['sliding-window', { limit: 250, window: 3600, algorithm: 'sliding-window' }],
  ['fixed-window', { limit: 250, window: 31_536_000, algorithm: 'fixed-window' }],
  ['token-bucket', { limit: 250, window: 360_000, algorithm: 'token-bucket' }],
  ['month', { limit: 250, period: 'month' }],
];

describe('clients at once, by Redis’ own clock', () => {
  test.each(cases)('%s: exactly the limit is admitted over four connections', async (_, limit) => {
    server = await startRedis();
    const redis = server.client();
    await initialise(redis);
    const token = keys.token('shared');
    const tenant = keys.tenant('shared');
    await writeRecord(redis, token, [limit]);
    await writeRecord(redis, tenant, [{ limit: 10_000, window: 3600, algorithm: 'sliding-window' }]);
    const rigs = Array.from({ length: 4 }, () => new AdmitRig((server as RedisServer).client()));
    const ticket = { tokenKey: token, tenantKey: tenant, tenantVersion: 1 };
    const clients = rigs.flatMap((rig, connection) =>
      Array.from({ length: 10 }, async (_, client) => {
        const told: string[] = [];
        for (let turn = 0; turn < 10; turn += 1) {
          const verdicts = await rig.batch(Array.from({ length: (client % 3) + 1 }, () => ticket));
          told.push(...verdicts.map((verdict) => nameOf(verdict.code)));
          if (turn === 5 && client === 0 && connection === 0) await rig.redis.script('FLUSH');
        }
        return told;
      }),
    );
    const told = (await Promise.all(clients)).flat();
    expect(told.length).toBeGreaterThan(700);
    expect(told.filter((name) => name === 'admitted').length).toBe(250);
    expect(new Set(told)).toEqual(new Set(['admitted', 'period' in limit ? 'quotaExceeded' : 'limited']));
    // What the token refused was not charged to the tenant.
    const [confirmed] = await (rigs[0] as AdmitRig).batch([{ ...ticket, tokenKey: tenant, tenantKey: '', cost: 0 }]);
    expect(confirmed).toMatchObject({ code: 2, remaining: 10_000 - 250 });
  });

  test('a claim is admitted once, whoever brings it', async () => {
    server = await startRedis();
    const redis = server.client();
    await initialise(redis);
    const token = keys.token('shared');
    await writeRecord(redis, token, []);
    const rigs = Array.from({ length: 4 }, () => new AdmitRig((server as RedisServer).client()));
    const claimUntilMs = Date.now() + 300_000;
    const claimKey = keys.replay('shared', claimUntilMs);
    const claims = Array.from({ length: 50 }, (_, claim) => claim.toString(16).padStart(64, '0'));
    const tries = rigs.flatMap((rig) =>
      Array.from({ length: 5 }, () =>
        rig.batch(claims.map((claim) => ({ tokenKey: token, claim, claimKey, claimUntilMs }))),
      ),
    );
    const verdicts = (await Promise.all(tries)).flat();
    expect(verdicts.filter((verdict) => verdict.code === 1).length).toBe(50);
    expect(verdicts.filter((verdict) => verdict.code === 8).length).toBe(19 * 50);
  });
});
