import type { Redis } from 'ioredis';
import { afterAll, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import { keys } from '../../src/redis/keys.js';
import { bindScript, loadScript } from '../../src/redis/scripts.js';
import { indexedCreateContract } from '../../src/user/repository.js';
import { type RedisServer, startRedis } from '../support/redis.js';

let server: RedisServer;
let redis: Redis;

beforeAll(async () => {
  server = await startRedis();
  redis = server.client();
});
afterAll(() => server.stop());
beforeEach(() => redis.flushall());

interface Creation {
  readonly name: string;
  readonly score?: number;
  readonly placesMax?: number;
  readonly ttlMs?: number;
}

function creator(connection: Redis) {
  const run = bindScript(connection, loadScript(indexedCreateContract));
  return ({ name, score = 1, placesMax = 10, ttlMs = 0 }: Creation): Promise<unknown> =>
    run([keys.users(), keys.user(name)], [name, score, placesMax, ttlMs, `{"name":"${name}"}`]);
}

describe('indexed-create', () => {
  it('creates a record at version 1 under a free name, and refuses the name from then on', async () => {
    const create = creator(redis);
    expect(await create({ name: 'ann', score: 7 })).toBe(1);
    expect(await redis.hgetall(keys.user('ann'))).toEqual({ version: '1', record: '{"name":"ann"}' });
    expect(await redis.zrange(keys.users(), 0, '-1', 'WITHSCORES')).toEqual(['ann', '7']);
    expect(await redis.ttl(keys.user('ann'))).toBe(-1);
    expect(await create({ name: 'ann', score: 8 })).toBe(0);
    expect(await redis.zscore(keys.users(), 'ann')).toBe('7');
  });

  it('gives every place once when all come at once, also after the scripts were flushed half way', async () => {
    const clients = Array.from({ length: 4 }, () => server.client());
    const replies = await Promise.all(
      clients.flatMap((client, number) => {
        const create = creator(client);
        return Array.from({ length: 10 }, async (_, round) => {
          if (number === 0 && round === 5) await redis.script('FLUSH');
          return create({ name: `user-${number}-${round}`, placesMax: 15 });
        });
      }),
    );
    expect(replies.filter((reply) => reply === 1)).toHaveLength(15);
    expect(replies.filter((reply) => reply === -1)).toHaveLength(25);
    expect(await redis.zcard(keys.users())).toBe(15);
    expect(await redis.keys(keys.user('*'))).toHaveLength(15);
    for (const client of clients) client.disconnect();
  });

  it('frees the places of what has expired, and lets nothing outlive its end', async () => {
    const create = creator(redis);
    const ttlMs = 60_000;
    // Scores are the ends of records; the two stand for some that ended before this one was made.
    await redis.zadd(keys.users(), 900, 'ended-1', 1000, 'ended-2');
    expect(await create({ name: 'new', score: 1000 + ttlMs, placesMax: 1, ttlMs })).toBe(1);
    expect(await redis.zrange(keys.users(), 0, '-1')).toEqual(['new']);
    for (const key of [keys.user('new'), keys.users()]) {
      const left = await redis.pttl(key);
      expect(left).toBeGreaterThan(0);
      expect(left).toBeLessThanOrEqual(ttlMs);
    }
    expect(await create({ name: 'another', score: 1001 + ttlMs, placesMax: 1, ttlMs })).toBe(-1);
    expect(await redis.exists(keys.user('another'))).toBe(0);
  });
});
