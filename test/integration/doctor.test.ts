import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { createServer, type Server } from 'node:net';
import { once } from 'node:events';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, expect, test } from 'vitest';
import type { Check } from '../../src/cli/doctor-check.js';
import { examine } from '../../src/cli/doctor.js';
import { checkDescriptors } from '../../src/cli/doctor-local.js';
import { loadConfig } from '../../src/config/load.js';
import { initialise } from '../../src/redis/meta.js';
import { Store } from '../../src/redis/store.js';
import { type RedisServer, startRedis } from '../support/redis.js';

let sound: RedisServer;
let upstream: Server;
let upstreamUrl: string;
const folder = mkdtempSync(join(tmpdir(), 'tk-doctor-'));
const policyFile = join(folder, 'policy.yaml');

beforeAll(async () => {
  writeFileSync(policyFile, 'default: deny\nroutes:\n  - { methods: [GET], path: /status, public: true }\n');
  sound = await startRedis({ tcp: true, appendonly: true, args: ['--maxmemory', '1gb'] });
  upstream = createServer((socket) => socket.destroy()).listen(0, '127.0.0.1');
  await once(upstream, 'listening');
  upstreamUrl = `http://127.0.0.1:${(upstream.address() as { port: number }).port}`;
});
afterAll(async () => {
  upstream.close();
  rmSync(folder, { recursive: true, force: true });
  await sound.stop();
});

async function doctor(env: Record<string, string>): Promise<Map<string, Check>> {
  const checks = await examine({
    env: { TOLLKEEPER_UPSTREAM: upstreamUrl, TOLLKEEPER_POLICY: policyFile, ...env },
  });
  return new Map(checks.map((check) => [check.check, check]));
}

function statuses(checks: ReadonlyMap<string, Check>): Record<string, string> {
  return Object.fromEntries([...checks].map(([name, { status }]) => [name, status]));
}

test('a sound system passes every check, and a Redis that was never used gets a warning', async () => {
  const fresh = await doctor({ TOLLKEEPER_REDIS_URL: sound.url });
  expect(fresh.get('tollkeeper data')).toMatchObject({ status: 'warn', found: 'none' });
  await initialise(new Store(sound.client(), { redisMinReplicas: 0 }), Date.now());
  const checks = await doctor({ TOLLKEEPER_REDIS_URL: sound.url, TOLLKEEPER_LOG_REDIS_URL: sound.url });
  checks.delete('descriptor limit');
  expect(statuses(checks)).toEqual({
    configuration: 'ok',
    policy: 'ok',
    redis: 'ok',
    'redis version': 'ok',
    'redis scripts': 'ok',
    'redis persistence': 'ok',
    'redis eviction': 'ok',
    'redis freeing': 'ok',
    'redis replicas': 'ok',
    'redis clock': 'ok',
    'tollkeeper data': 'ok',
    masterKey: 'ok',
    'log redis': 'ok',
    'log redis version': 'ok',
    upstream: 'ok',
  });
});

test('a user without CONFIG permission gets a warning that says what to allow', async () => {
  await sound.client().acl('SETUSER', 'limited', 'on', '>pw', '~*', '&*', '+@all', '-config');
  const checks = await doctor({ TOLLKEEPER_REDIS_URL: sound.url.replace('//', '//limited:pw@') });
  expect(checks.get('redis persistence')).toMatchObject({ status: 'warn' });
  expect(checks.get('redis persistence')?.todo).toContain('+config|get');
  expect([...checks.values()].filter(({ status }) => status === 'fail')).toEqual([]);
});

test('a user that may do nearly nothing gets one line a check, and its password is in none', async () => {
  await sound.client().acl('SETUSER', 'poor', 'on', '>CANARYpw', '+ping', '+info', '-info');
  const checks = await doctor({ TOLLKEEPER_REDIS_URL: sound.url.replace('//', '//poor:CANARYpw@') });
  expect(statuses(checks)).toMatchObject({
    redis: 'ok',
    'redis version': 'warn',
    'redis persistence': 'warn',
    'redis eviction': 'warn',
    'redis scripts': 'fail',
    'redis clock': 'warn',
    'tollkeeper data': 'fail',
  });
  expect(JSON.stringify([...checks])).not.toContain('CANARY');
});

test('a wrong password fails without being shown', async () => {
  const checks = await doctor({ TOLLKEEPER_REDIS_URL: sound.url.replace('//', '//nobody:CANARYpw@') });
  expect(checks.get('redis')).toMatchObject({ status: 'fail' });
  expect(JSON.stringify([...checks])).not.toContain('CANARY');
});

test('a Redis that evicts, forgets and lost a part of its data fails each of these checks', async () => {
  const redis = await startRedis({
    args: ['--maxmemory', '50mb', '--maxmemory-policy', 'allkeys-lru', '--lazyfree-lazy-expire', 'no'],
  });
  try {
    await initialise(new Store(redis.client(), { redisMinReplicas: 0 }), Date.now());
    await redis.client().del('tk:meta:{2a}');
    const checks = await doctor({ TOLLKEEPER_REDIS_URL: redis.url, TOLLKEEPER_REDIS_MIN_REPLICAS: '1' });
    expect(statuses(checks)).toMatchObject({
      'redis persistence': 'fail',
      'redis eviction': 'fail',
      'redis freeing': 'warn',
      'redis replicas': 'fail',
      'tollkeeper data': 'fail',
    });
    expect(checks.get('redis eviction')?.found).toBe('allkeys-lru');
  } finally {
    await redis.stop();
  }
});

test('a Redis that may grow until the kernel ends it, and one that is nearly full, get a warning that says what to set', async () => {
  const redis = await startRedis({ appendonly: true });
  try {
    const unbounded = (await doctor({ TOLLKEEPER_REDIS_URL: redis.url })).get('redis eviction');
    expect(unbounded).toMatchObject({ status: 'warn', found: 'noeviction, but no maxmemory' });
    expect(unbounded?.todo).toContain('Set "maxmemory"');
    await redis.client().config('SET', 'maxmemory', '1kb');
    const full = (await doctor({ TOLLKEEPER_REDIS_URL: redis.url })).get('redis eviction');
    expect(full).toMatchObject({ status: 'warn', found: expect.stringMatching(/^noeviction, memory \d+ % used$/) });
    expect(full?.todo).toContain('requests go on');
  } finally {
    await redis.stop();
  }
});

test('replicas: a primary is warned about lost changes, a replica is refused', async () => {
  const primary = await startRedis({ tcp: true, args: ['--repl-diskless-sync-delay', '0'] });
  const replica = await startRedis({ tcp: true, args: ['--replicaof', '127.0.0.1', String(primary.port)] });
  try {
    const client = primary.client();
    while ((await client.wait(1, 200)) < 1) await client.set('written', '1');
    const ofPrimary = await doctor({ TOLLKEEPER_REDIS_URL: primary.url, TOLLKEEPER_REDIS_MIN_REPLICAS: '1' });
    expect(ofPrimary.get('redis replicas')).toMatchObject({
      status: 'warn',
      found: '1 connected, min-replicas-to-write 0',
    });
    expect(ofPrimary.get('redis persistence')).toMatchObject({ status: 'warn', found: 'appendonly no, 1 replicas' });
    const ofReplica = await doctor({ TOLLKEEPER_REDIS_URL: replica.url });
    expect(ofReplica.get('redis replicas')).toMatchObject({ status: 'fail', found: 'this Redis is a replica' });
  } finally {
    await replica.stop();
    await primary.stop();
  }
});

test('without Redis and upstream both are named, and nothing is waited for', async () => {
  const checks = await doctor({
    TOLLKEEPER_REDIS_URL: 'redis://127.0.0.1:1',
    TOLLKEEPER_UPSTREAM: 'http://127.0.0.1:1',
  });
  expect(statuses(checks)).toMatchObject({ configuration: 'ok', redis: 'fail', upstream: 'fail' });
});

test('problems of the configuration are rows, and what they touch is not checked with a default', async () => {
  const checks = await doctor({ TOLLKEEPER_REDIS_URL: 'nowhere', TOLLKEEPER_UPSTREAM: 'nowhere' });
  expect(checks.get('configuration')).toMatchObject({ status: 'fail' });
  expect(checks.has('redis')).toBe(false);
  expect(checks.has('upstream')).toBe(false);
});

test('a certificate that cannot be read and settings that are rarely meant are named', async () => {
  const checks = await doctor({
    TOLLKEEPER_REDIS_URL: sound.url,
    TOLLKEEPER_TLS_CERT: '/no/such/cert',
    TOLLKEEPER_TLS_KEY: '/no/such/key',
    TOLLKEEPER_ADMIN_LISTEN: '0.0.0.0:9090',
    TOLLKEEPER_TRUSTED_PROXIES: '0.0.0.0/0',
  });
  expect(statuses(checks)).toMatchObject({
    tlsCert: 'fail',
    tlsKey: 'fail',
    adminListen: 'warn',
    trustedProxies: 'warn',
  });
});

test('a policy with a fault fails with its place, and none at all is a warning', async () => {
  const bad = join(folder, 'bad.yaml');
  writeFileSync(bad, 'default: maybe\nroutes: []\n');
  const checks = await doctor({ TOLLKEEPER_REDIS_URL: sound.url, TOLLKEEPER_POLICY: bad });
  expect(checks.get('policy')).toMatchObject({ status: 'fail' });
  expect(checks.get('policy')?.found).toContain(`${bad}:1`);
  const without = await doctor({ TOLLKEEPER_REDIS_URL: sound.url, TOLLKEEPER_POLICY: '' });
  expect(without.get('policy')).toMatchObject({ status: 'warn' });
});

test('the descriptor limit is judged by what the pool needs', () => {
  const config = loadConfig({ env: { TOLLKEEPER_UPSTREAM_CONNECTIONS_MAX: '2000' } });
  const limits = (soft: number | string) =>
    `Limit  Soft Limit\nMax open files            ${soft}     1048576      files\n`;
  expect(checkDescriptors(config, limits(1024)).status).toBe('fail');
  expect(checkDescriptors(config, limits(4096)).status).toBe('warn');
  expect(checkDescriptors(config, limits(65_536)).status).toBe('ok');
  expect(checkDescriptors(config, limits('unlimited')).status).toBe('ok');
  expect(checkDescriptors(config, '').status).toBe('warn');
});
