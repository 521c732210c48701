import { describe, expect, test } from 'vitest';
import { loadConfig } from '../../../src/config/load.js';
import { logRedisSettings, minReplicas, redisSettings } from '../../../src/config/require.js';
import { addressVariable, displayTarget } from '../../../src/redis/target.js';

const load = (env: Record<string, string>) => loadConfig({ env });
const problem = (env: Record<string, string>): string => {
  try {
    load(env);
  } catch (error) {
    return (error as Error).message;
  }
  return '';
};
const cluster = { TOLLKEEPER_REDIS_CLUSTER: '10.0.0.1:6379, [fd00::1]:6380' };
const sentinel = { TOLLKEEPER_REDIS_SENTINELS: 's1:26379,s2:26379', TOLLKEEPER_REDIS_SENTINEL_NAME: 'main' };

describe('the Redis of the tokens', () => {
  test('is one server, the primary of Sentinels, or a Cluster, with what opens it', () => {
    expect(redisSettings(load({ TOLLKEEPER_REDIS_URL: 'redis://u:p@h:1/2' }))).toMatchObject({
      kind: 'server',
      url: 'redis://u:p@h:1/2',
    });
    const access = { TOLLKEEPER_REDIS_USER: 'u', TOLLKEEPER_REDIS_PASSWORD: 'p@ss', TOLLKEEPER_REDIS_TLS: 'true' };
    expect(redisSettings(load({ ...cluster, ...access }))).toMatchObject({
      kind: 'cluster',
      nodes: [
        { host: '10.0.0.1', port: 6379 },
        { host: 'fd00::1', port: 6380 },
      ],
      username: 'u',
      password: 'p@ss',
      useTls: true,
    });
    expect(redisSettings(load({ ...sentinel, TOLLKEEPER_REDIS_SENTINEL_PASSWORD: 's' }))).toMatchObject({
      kind: 'sentinel',
      sentinels: [
        { host: 's1', port: 26379 },
        { host: 's2', port: 26379 },
      ],
      name: 'main',
      sentinelPassword: 's',
      useTls: false,
    });
    expect(() => redisSettings(load({}))).toThrow(/TOLLKEEPER_REDIS_CLUSTER .* TOLLKEEPER_REDIS_SENTINELS/);
  });

  test('is named in messages without what opens it', () => {
    const settings = redisSettings(load({ ...cluster, TOLLKEEPER_REDIS_PASSWORD: 'hidden' }));
    expect(displayTarget(settings)).toBe('the cluster of 10.0.0.1:6379, [fd00::1]:6380');
    expect(addressVariable(settings)).toBe('TOLLKEEPER_REDIS_CLUSTER');
    expect(displayTarget(redisSettings(load(sentinel)))).toBe('the primary "main" of the Sentinels s1:26379, s2:26379');
  });

  test('confirms a change by one replica at least where a failover is expected', () => {
    expect(minReplicas(load({ TOLLKEEPER_REDIS_URL: 'redis://h' }))).toBe(0);
    expect([minReplicas(load(cluster)), minReplicas(load(sentinel))]).toEqual([1, 1]);
    expect(minReplicas(load({ ...cluster, TOLLKEEPER_REDIS_MIN_REPLICAS: '0' }))).toBe(0);
  });

  test('need not be that of the log', () => {
    const config = load({ ...cluster, TOLLKEEPER_LOG_REDIS_URL: 'redis://log' });
    expect(logRedisSettings(config)).toMatchObject({ kind: 'server', url: 'redis://log' });
    expect(logRedisSettings(load(cluster)).kind).toBe('cluster');
  });
});

test.each([
  [
    { ...cluster, TOLLKEEPER_REDIS_URL: 'redis://u:secret@h' },
    /^redisCluster: set, and redisUrl too \(TOLLKEEPER_REDIS_URL\); tokens lie in one Redis, so keep one of them/,
  ],
  [{ ...cluster, ...sentinel }, /^redisSentinels: set, and redisCluster too/],
  [{ TOLLKEEPER_REDIS_SENTINELS: 's:1' }, /^redisSentinels: set without redisSentinelName; set both or neither/],
  [{ TOLLKEEPER_REDIS_SENTINEL_NAME: 'main' }, /^redisSentinelName: set without redisSentinels/],
  [
    { TOLLKEEPER_REDIS_URL: 'redis://h', TOLLKEEPER_REDIS_PASSWORD: 'secret' },
    /^redisPassword: set, but redisUrl is used, and user, password and TLS stand in it/,
  ],
  [{ TOLLKEEPER_REDIS_TLS: 'true' }, /^redisTls: set, but neither redisCluster nor redisSentinels is set/],
  [
    { ...cluster, TOLLKEEPER_REDIS_SENTINEL_PASSWORD: 'secret' },
    /^redisSentinelPassword: set, but redisSentinels is not set/,
  ],
  [
    { ...cluster, TOLLKEEPER_REDIS_TLS_CA: '/ca.pem' },
    /^redisTlsCa: set, but Redis is reached without TLS; set redisTls or remove it/,
  ],
  [{ TOLLKEEPER_REDIS_CLUSTER: 'redis://h:1' }, /^redisCluster: found .*, allowed is a list of host:port/],
  [{ TOLLKEEPER_REDIS_CLUSTER: 'h:0' }, /^redisCluster: found .*, allowed is a list of host:port/],
])('%j is refused, and no secret is told', (env, message) => {
  expect(problem(env)).toMatch(message);
  expect(problem(env)).not.toContain('secret');
});
