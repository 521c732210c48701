import * as fc from 'fast-check';
import type { Redis } from 'ioredis';
import { afterAll, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import { keys } from '../../src/redis/keys.js';
import { bindScript, loadScript } from '../../src/redis/scripts.js';
import { loginScripts } from '../../src/user/login-attempts.js';
import { type RedisServer, startRedis } from '../support/redis.js';

let server: RedisServer;
let redis: Redis;

beforeAll(async () => {
  server = await startRedis();
  redis = server.client();
});
afterAll(() => server.stop());
beforeEach(() => redis.flushall());

const hourMs = 3_600_000;
/** Small limits: 2 of a pair, 3 of an address, 4 of an account. */
const limits = [2, hourMs, 3, hourMs, 4, hourMs] as const;

function login(connection: Redis) {
  const charge = bindScript(connection, loadScript(loginScripts.charge));
  const succeeded = bindScript(connection, loadScript(loginScripts.succeeded));
  const namesOf = (account: string, place: string): string[] => [
    keys.loginAttempts('pair', `${account}-${place}`),
    keys.loginAttempts('address', place),
    keys.loginAttempts('account', account),
    keys.knownPlaces(account),
  ];
  return {
    charge: async (account: string, place: string): Promise<number> =>
      Number(await charge(namesOf(account, place), [place, 1000, ...limits])),
    succeeded: (account: string, place: string) => succeeded(namesOf(account, place), [place, 1000, hourMs, 2]),
  };
}

describe('login-charge and login-succeeded', () => {
  it('hold every order of attempts to the limits of the model, from any mix of accounts and addresses', async () => {
    const step = fc.record({
      account: fc.constantFrom('a', 'b'),
      place: fc.constantFrom('p', 'q', 'r', 's'),
      right: fc.boolean(),
    });
    const scripts = login(redis);
    await fc.assert(
      fc.asyncProperty(fc.array(step, { maxLength: 40 }), async (steps) => {
        await redis.flushall();
        const counts = new Map<string, number>();
        const known = new Map<string, string[]>();
        const count = (key: string): number => counts.get(key) ?? 0;
        for (const { account, place, right } of steps) {
          const isKnown = known.get(account)?.includes(place) === true;
          const counted = [`pair ${account} ${place}`, ...(isKnown ? [] : [`address ${place}`, `account ${account}`])];
          const isOpen = counted.every((key, index) => count(key) < ([2, 3, 4][index] as number));
          const waitMs = await scripts.charge(account, place);
          expect(waitMs === 0).toBe(isOpen);
          if (!isOpen) {
            expect(waitMs).toBeLessThanOrEqual(hourMs);
            continue;
          }
          for (const key of counted) counts.set(key, count(key) + 1);
          if (!right) continue;
          await scripts.succeeded(account, place);
          counts.delete(`pair ${account} ${place}`);
          for (const key of counted.slice(1)) counts.set(key, count(key) - 1);
          // Equal times: the set keeps the two that are last in the order of their names.
          known.set(
            account,
            [...new Set([...(known.get(account) ?? []), place])].toSorted((x, y) => (x < y ? -1 : 1)).slice(-2),
          );
        }
      }),
      { numRuns: 60 },
    );
  });

  it('let no more through when all come at once, also after the scripts were flushed half way', async () => {
    const clients = Array.from({ length: 4 }, () => login(server.client()));
    const first = clients.map((client) => client.charge('a', 'p'));
    await redis.script('FLUSH');
    const waits = await Promise.all([
      ...first,
      ...clients.flatMap((client) => [client.charge('a', 'p'), client.charge('a', 'p')]),
    ]);
    expect(waits.filter((waitMs) => waitMs === 0)).toHaveLength(2);
  });

  it('leave nothing that does not expire', async () => {
    const scripts = login(redis);
    await scripts.charge('a', 'p');
    await scripts.charge('a', 'q');
    await scripts.succeeded('a', 'q');
    for (const key of await redis.keys('*')) expect([key, (await redis.pttl(key)) > 0]).toEqual([key, true]);
  });
});
