/** The script of the benchmark's peer nginx-lua-redis is made of the sidecar's own sliding window. */
import { afterAll, beforeAll, expect, test } from 'vitest';
import { peerScript } from '../../bench/peers/nginx-lua-redis.js';
import { type RedisServer, startRedis } from '../support/redis.js';

let server: RedisServer;

beforeAll(async () => {
  server = await startRedis();
});
afterAll(() => server.stop());

test('admits as many as the limit allows, and knows and counts one token at a time', async () => {
  const redis = server.client();
  const token = { id: 'id', tenant: 'acme', scopes: 'products:read', active: '1', limit: 3, windowMs: 3_600_000 };
  await redis.hset('peer:token:a', token);
  await redis.hset('peer:token:off', { ...token, active: '0' });
  const ask = async (key: string): Promise<unknown[]> => (await redis.eval(peerScript(), 1, key)) as unknown[];
  const answers = [await ask('peer:token:a'), await ask('peer:token:a'), await ask('peer:token:a')];
  expect(answers.map(([code, , , , limit, remaining]) => [code, limit, remaining])).toEqual([
    [1, 3, 2],
    [1, 3, 1],
    [1, 3, 0],
  ]);
  const [code, , , , , , resetMs] = await ask('peer:token:a');
  expect(code).toBe(4);
  expect(resetMs).toBeGreaterThan(3_500_000);
  expect([await ask('peer:token:off'), await ask('peer:token:none')]).toEqual([[3], [2]]);
});
