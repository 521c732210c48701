/** 50,000 requests leave 50,000 log entries, whatever happens to Redis in between. */
import type { Pool } from 'undici';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { type Installation, type IssuedToken, startInstallation } from '../support/installation.js';
import { clientPool, hit } from '../support/load.js';
import type { Sidecar } from '../support/sidecar.js';

const requests = 50_000;
const callers = 64;

let installation: Installation;
let sidecar: Sidecar;
let pool: Pool;
let token: IssuedToken;

beforeAll(async () => {
  installation = await startInstallation({ redis: { appendonly: true } });
  await installation.tenant('acme');
  token = await installation.token('acme', '--limit', '1000000', '--window', '60');
  sidecar = await installation.sidecar();
  pool = clientPool(sidecar.dataUrl, callers);
});

afterAll(async () => {
  await pool.close();
  await installation.stop();
});

test('as many entries as answers, none lost or doubled by SCRIPT FLUSH and a restart of Redis; kept 30 days', async () => {
  const day = new Date().toISOString().slice(0, 10);
  const byStatus = new Map<number, number>();
  let started = 0;
  const disturb = new Map<number, () => Promise<unknown>>([
    [
      15_000,
      async () => {
        const client = installation.redis.client();
        await client.script('FLUSH');
        client.disconnect();
      },
    ],
    [30_000, () => installation.redis.restart({ keepData: true })],
  ]);
  // Refusals are quick: without an end to them there might be no request left when Redis is back.
  const withoutRedisMax = 5000;
  let disturbances: Promise<unknown> = Promise.resolve();
  let disturbedAt = 0;
  await Promise.all(
    Array.from({ length: callers }, async () => {
      while (started < requests) {
        started += 1;
        const disturbance = disturb.get(started);
        if (disturbance !== undefined) {
          disturbances = Promise.all([disturbances, disturbance()]);
          disturbedAt = started;
        }
        if (started > disturbedAt + withoutRedisMax) await disturbances;
        const { status } = await hit(pool, '/api/v1/products', token.secret);
        byStatus.set(status, (byStatus.get(status) ?? 0) + 1);
      }
    }),
  );
  expect(await sidecar.stop()).toBe(0);

  // While Redis restarts the answer is 503, never 401.
  expect([...byStatus.keys()].filter((status) => status !== 200 && status !== 503)).toEqual([]);
  expect([...byStatus.values()].reduce((sum, count) => sum + count, 0)).toBe(requests);

  const client = installation.redis.client();
  const streams = await client.keys('log:*');
  const lengths = await Promise.all(streams.map((stream) => client.xlen(stream)));
  // Requests that Redis could not decide belong to no tenant yet; all are logged.
  expect(lengths.reduce((sum, length) => sum + length, 0)).toBe(requests);
  const ids = new Set<string>();
  for (const stream of streams) {
    for (const [, fields] of await client.xrange(stream, '-', '+')) {
      ids.add(fields[fields.indexOf('requestId') + 1] as string);
    }
  }
  expect(ids.size).toBe(requests);

  const endOfDayS = Date.parse(`${day}T00:00:00Z`) / 1000 + 86_400;
  expect(await client.call('EXPIRETIME', `log:{acme}:${day}`)).toBe(endOfDayS + 30 * 86_400);
  client.disconnect();
}, 240_000);
