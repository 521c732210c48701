import { createHash } from 'node:crypto';
import type { Redis } from 'ioredis';
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import { OperatorError } from '../../src/core/failure.js';
import { changesChannel, keys } from '../../src/redis/keys.js';
import { parseServerState } from '../../src/redis/copies.js';
import { NotConfirmedError, StoreUnavailableError } from '../../src/redis/store.js';
import { parseTenantDraft } from '../../src/tenant/draft.js';
import { ConflictError, NotFoundError } from '../../src/tenant/refusal.js';
import { parseTokenChanges } from '../../src/token/draft.js';
import { hashPlaintext, parseToken } from '../../src/token/format.js';
import { type RedisServer, startRedis } from '../support/redis.js';
import { importDraft, openRepositories, type Repositories, tokenDraft } from '../support/repositories.js';
import { until } from '../support/until.js';

const nowMs = Date.UTC(2026, 10, 22);
const sealSecret = (plaintext: string, id: string): string =>
  `sealed-${createHash('sha256')
    .update(plaintext + id)
    .digest('hex')}`;

let server: RedisServer;
let opened: Repositories[];
let repositories: Repositories;

beforeAll(async () => {
  server = await startRedis();
});
afterAll(() => server.stop());
beforeEach(async () => {
  opened = [];
  repositories = await open({ now: () => nowMs, sealSecret });
  await repositories.redis.flushall();
  await repositories.tenants.create(parseTenantDraft({ slug: 'acme', name: 'Acme' }));
});
afterEach(() => Promise.all(opened.map(({ store }) => store.close())));

async function open(options: Parameters<typeof openRepositories>[1] = {}): Promise<Repositories> {
  const one = await openRepositories(server.url, options);
  opened.push(one);
  return one;
}

const openMany = (count: number): Promise<Repositories[]> => Promise.all(Array.from({ length: count }, () => open()));

/** Everything that Redis holds, as one text. */
async function dump(redis: Redis): Promise<string> {
  const parts: string[] = [];
  for (const key of await redis.keys('*')) {
    const type = await redis.type(key);
    const value =
      type === 'hash'
        ? await redis.hgetall(key)
        : type === 'zset'
          ? await redis.zrange(key, 0, '-1')
          : await redis.get(key);
    parts.push(key, JSON.stringify(value));
  }
  return parts.join('\n');
}

describe('creating a token', () => {
  it('answers a secret that parses to the id, and keeps only its SHA-256', async () => {
    const { record, secret } = await repositories.tokens.create('acme', tokenDraft({ scopes: ['a'] }));
    expect(parseToken(secret, 'tk_live')).toEqual({ id: record.id });
    expect(record).toMatchObject({ tenant: 'acme', state: 'active', version: 1, createdAt: nowMs });
    expect(await repositories.tokens.get(record.id)).toEqual(record);
    expect(record.secretSha256).toBe(hashPlaintext(secret));
  });

  it('leaves no plaintext anywhere in Redis, of no mode and no rotation', async () => {
    const { tokens, redis } = repositories;
    const bearer = await tokens.create('acme', tokenDraft());
    const hmac = await tokens.create('acme', tokenDraft({ mode: 'hmac' }));
    const secrets = [bearer.secret, hmac.secret];
    secrets.push((await tokens.rotate(bearer.record.id, { graceSeconds: 60 })).secret);
    secrets.push((await tokens.rotate(hmac.record.id, { graceSeconds: 60 })).secret);
    const held = await dump(redis);
    expect(held).toContain(bearer.record.id);
    // Neither the whole nor its secret part: id and prefix may be there.
    for (const secret of secrets) expect(held).not.toContain(secret.slice(21, 53));
  });

  it.each([2, 20])(
    'gives the 25th place to exactly one of %i that race for it over connections of their own',
    async (count) => {
      const { tokens } = repositories;
      await Promise.all(Array.from({ length: 24 }, () => tokens.create('acme', tokenDraft())));
      const racers = await openMany(count);
      const results = await Promise.allSettled(racers.map((racer) => racer.tokens.create('acme', tokenDraft())));
      expect(results.filter(({ status }) => status === 'fulfilled')).toHaveLength(1);
      for (const result of results)
        if (result.status === 'rejected') expect(result.reason).toBeInstanceOf(ConflictError);
      expect((await tokens.list('acme', { page: 1, perPage: 100 })).total).toBe(25);
    },
  );

  it('has a place again after one was deleted or the tenant was given more', async () => {
    const { tokens, tenants } = repositories;
    await tenants.update('acme', { maxTokens: 1 });
    const { record } = await tokens.create('acme', tokenDraft());
    await expect(tokens.create('acme', tokenDraft())).rejects.toThrow(/no place/);
    await tokens.delete(record.id);
    await tokens.create('acme', tokenDraft());
    await tenants.update('acme', { maxTokens: 2 });
    await tokens.create('acme', tokenDraft());
  });

  it('needs its tenant', async () => {
    await expect(repositories.tokens.create('nobody', tokenDraft())).rejects.toBeInstanceOf(NotFoundError);
    await expect(repositories.tokens.create('No body}', tokenDraft())).rejects.toBeInstanceOf(NotFoundError);
  });

  it('of mode hmac seals the secret, and without a master key says which setting is missing', async () => {
    const { record, secret } = await repositories.tokens.create('acme', tokenDraft({ mode: 'hmac' }));
    expect(record).toMatchObject({ secretSha256: '', sealedSecret: sealSecret(secret, record.id) });
    const { tokens } = await open();
    await expect(tokens.create('acme', tokenDraft({ mode: 'hmac' }))).rejects.toThrow(/TOLLKEEPER_MASTER_KEY/);
    expect((await tokens.list('acme', { page: 1, perPage: 10 })).total).toBe(1);
  });
});

describe('listing tokens', () => {
  it('goes by creation, page by page', async () => {
    let clock = nowMs;
    const { tokens } = await open({ now: () => (clock += 1000) });
    const created: string[] = [];
    for (let i = 0; i < 5; i++) created.push((await tokens.create('acme', tokenDraft())).record.id);
    const pages = await Promise.all([1, 2, 3, 4].map((page) => tokens.list('acme', { page, perPage: 2 })));
    expect(pages.flatMap(({ records }) => records.map(({ id }) => id))).toEqual(created);
    expect(pages.map(({ records, total }) => [records.length, total])).toEqual([
      [2, 5],
      [2, 5],
      [1, 5],
      [0, 5],
    ]);
  });

  it('passes over ids whose record is gone', async () => {
    const { tokens, redis } = repositories;
    const { record } = await tokens.create('acme', tokenDraft());
    await redis.zadd(keys.tenantTokens('acme'), 1, 'ghostghost12');
    expect(await tokens.list('acme', { page: 1, perPage: 10 })).toEqual({ records: [record], total: 1 });
  });
});

describe('changing a token', () => {
  it('keeps secret, creation and counters, and raises the version', async () => {
    const { tokens, redis } = repositories;
    const { record } = await tokens.create('acme', tokenDraft());
    await redis.hset(keys.token(record.id), 'counters', 'counted');
    const limits = await redis.hgetBuffer(keys.token(record.id), 'limits');
    const changes = parseTokenChanges({ name: 'other', rateLimit: { limit: 7 } }, nowMs);
    const changed = await tokens.update(record.id, changes);
    expect(changed).toEqual({ ...record, name: 'other', rateLimit: { ...record.rateLimit, limit: 7 }, version: 2 });
    expect(await redis.hmget(keys.token(record.id), 'version', 'counters')).toEqual(['2', 'counted']);
    expect(limits?.equals((await redis.hgetBuffer(keys.token(record.id), 'limits')) as Buffer)).toBe(false);
  });

  it('loses nothing when 20 change it at once over connections of their own', async () => {
    const { record } = await repositories.tokens.create('acme', tokenDraft());
    const writers = await openMany(20);
    await Promise.all(
      writers.map(({ tokens }, i) =>
        tokens.update(record.id, parseTokenChanges({ metadata: { [`k${i}`]: `${i}` } }, nowMs)),
      ),
    );
    const after = await repositories.tokens.get(record.id);
    expect(after.metadata).toEqual(Object.fromEntries(writers.map((_, i) => [`k${i}`, `${i}`])));
    expect(after.version).toBe(21);
  });

  it('cannot bring back a token that is revoked at the same moment', async () => {
    for (let round = 0; round < 10; round++) {
      const { record } = await repositories.tokens.create('acme', tokenDraft());
      const [one, two, three] = (await openMany(3)) as [Repositories, Repositories, Repositories];
      await Promise.allSettled([
        one.tokens.activate(record.id),
        two.tokens.revoke(record.id),
        three.tokens.update(record.id, parseTokenChanges({ name: 'x' }, nowMs)),
      ]);
      expect((await repositories.tokens.get(record.id)).state).toBe('revoked');
    }
  });

  it('keeps a restriction that a newer Tollkeeper wrote', async () => {
    const { tokens, redis } = repositories;
    const { record } = await tokens.create('acme', tokenDraft());
    await redis.hset(keys.token(record.id), 'record', JSON.stringify({ ...record, allowedMethods: ['GET'] }));
    await tokens.deactivate(record.id);
    const json = (await redis.hget(keys.token(record.id), 'record')) as string;
    expect(JSON.parse(json)).toMatchObject({ state: 'inactive', allowedMethods: ['GET'] });
  });

  it('announces every change on the channel', async () => {
    const { tokens } = repositories;
    const listener = server.client();
    const heard: string[] = [];
    await listener.subscribe(changesChannel);
    listener.on('message', (_, message) => heard.push(message));
    const { record } = await tokens.create('acme', tokenDraft());
    await tokens.rotate(record.id, { graceSeconds: 0 });
    await tokens.revoke(record.id);
    await tokens.delete(record.id);
    await expect.poll(() => heard).toEqual(Array(4).fill(`token:${record.id}`));
  });

  it('says so when there is no such token, whatever is done', async () => {
    const { tokens } = repositories;
    for (const id of ['aaaaaaaaaaaa', '', '../../etc', 'a'.repeat(5000), 'a{b}c:d']) {
      await expect(tokens.get(id)).rejects.toBeInstanceOf(NotFoundError);
      await expect(tokens.update(id, {})).rejects.toBeInstanceOf(NotFoundError);
      await expect(tokens.rotate(id, { graceSeconds: 0 })).rejects.toBeInstanceOf(NotFoundError);
      await expect(tokens.revoke(id)).rejects.toBeInstanceOf(NotFoundError);
      await expect(tokens.delete(id)).rejects.toBeInstanceOf(NotFoundError);
    }
  });
});

describe('rotating a secret', () => {
  it('makes the old one invalid at once unless grace was asked for', async () => {
    const { tokens } = repositories;
    const { record } = await tokens.create('acme', tokenDraft({ scopes: ['a'] }));
    const rotated = await tokens.rotate(record.id, { graceSeconds: 0 });
    expect(parseToken(rotated.secret, 'tk_live')).toEqual({ id: record.id });
    expect(rotated.record).toEqual({
      ...record,
      secretSha256: hashPlaintext(rotated.secret),
      rotatedAt: nowMs,
      version: 2,
    });
  });

  it('keeps the old one for the grace, and a rotation without grace ends that too', async () => {
    const { tokens } = repositories;
    const { record } = await tokens.create('acme', tokenDraft());
    const first = await tokens.rotate(record.id, { graceSeconds: 90 });
    expect(first.record).toMatchObject({ previousSha256: record.secretSha256, previousUntil: nowMs + 90_000 });
    const second = await tokens.rotate(record.id, { graceSeconds: 0 });
    expect(second.record).toMatchObject({ previousSha256: null, previousUntil: null });
  });

  it('of mode hmac keeps the old one sealed for the grace', async () => {
    const { tokens } = repositories;
    const { record } = await tokens.create('acme', tokenDraft({ mode: 'hmac' }));
    const { record: rotated, secret } = await tokens.rotate(record.id, { graceSeconds: 90 });
    expect(rotated).toMatchObject({
      sealedSecret: sealSecret(secret, record.id),
      previousSealedSecret: record.sealedSecret,
      previousSha256: null,
    });
  });
});

describe('the states of a token', () => {
  it('switch between active and inactive', async () => {
    const { tokens } = repositories;
    const { record } = await tokens.create('acme', tokenDraft());
    expect((await tokens.deactivate(record.id)).state).toBe('inactive');
    expect((await tokens.activate(record.id)).state).toBe('active');
  });

  it('end with revoked, for ever: nothing leads out of it, and revoking again is no error', async () => {
    const { tokens } = repositories;
    const { record } = await tokens.create('acme', tokenDraft());
    await tokens.revoke(record.id);
    await expect(tokens.activate(record.id)).rejects.toBeInstanceOf(ConflictError);
    await expect(tokens.deactivate(record.id)).rejects.toBeInstanceOf(ConflictError);
    await expect(tokens.rotate(record.id, { graceSeconds: 0 })).rejects.toBeInstanceOf(ConflictError);
    await tokens.revoke(record.id);
    expect((await tokens.get(record.id)).state).toBe('revoked');
  });
});

describe('a foreign token', () => {
  const sha256 = hashPlaintext('sk_live_of_another_system');

  it('is found by its SHA-256 and gives it back when it is deleted', async () => {
    const { tokens, redis } = repositories;
    const record = await tokens.import('acme', importDraft(sha256));
    expect(record).toMatchObject({ foreign: true, secretSha256: sha256, mode: 'bearer' });
    expect(await redis.get(keys.foreign(sha256))).toBe(record.id);
    expect(await redis.pttl(keys.foreign(sha256))).toBe(-1);
    await tokens.delete(record.id);
    expect(await redis.exists(keys.foreign(sha256))).toBe(0);
  });

  it('is imported once, also when 10 try at once', async () => {
    const importers = await openMany(10);
    const results = await Promise.allSettled(importers.map(({ tokens }) => tokens.import('acme', importDraft(sha256))));
    const done = results.filter((result) => result.status === 'fulfilled');
    expect(done).toHaveLength(1);
    const { records } = await repositories.tokens.list('acme', { page: 1, perPage: 100 });
    expect(records.map(({ id }) => id)).toEqual([done[0]?.value.id]);
    await expect(repositories.tokens.import('acme', importDraft(sha256))).rejects.toThrow(/already imported/);
  });

  it('may be imported again when the token of its mapping is gone', async () => {
    const { tokens, redis } = repositories;
    await redis.set(keys.foreign(sha256), 'ghostghost12');
    const record = await tokens.import('acme', importDraft(sha256));
    expect(await redis.get(keys.foreign(sha256))).toBe(record.id);
  });

  it('is not claimed by an import that is refused', async () => {
    const { tokens, tenants, redis } = repositories;
    await tenants.update('acme', { maxTokens: 0 });
    await expect(tokens.import('acme', importDraft(sha256))).rejects.toBeInstanceOf(ConflictError);
    await expect(tokens.import('nobody', importDraft(sha256))).rejects.toBeInstanceOf(NotFoundError);
    expect(await redis.exists(keys.foreign(sha256))).toBe(0);
  });

  it('gives its SHA-256 back with the rotation that ends it: at once, or the one after its grace', async () => {
    const { tokens, redis } = repositories;
    const first = await tokens.import('acme', importDraft(sha256));
    expect((await tokens.rotate(first.id, { graceSeconds: 60 })).record.foreign).toBe(true);
    expect(await redis.get(keys.foreign(sha256))).toBe(first.id);
    expect((await tokens.rotate(first.id, { graceSeconds: 60 })).record.foreign).toBe(false);
    expect(await redis.exists(keys.foreign(sha256))).toBe(0);
    const second = await tokens.import('acme', importDraft(sha256));
    expect((await tokens.rotate(second.id, { graceSeconds: 0 })).record.foreign).toBe(false);
    expect(await redis.exists(keys.foreign(sha256))).toBe(0);
  });
});

describe('faults of Redis', () => {
  it('SCRIPT FLUSH in the middle of work is not noticed', async () => {
    const { tokens, redis } = repositories;
    const { record } = await tokens.create('acme', tokenDraft());
    await redis.script('FLUSH');
    await tokens.rotate(record.id, { graceSeconds: 0 });
    const flushing = Promise.all(Array.from({ length: 20 }, () => redis.script('FLUSH')));
    const work = Promise.all(
      Array.from({ length: 20 }, (_, i) =>
        tokens.update(record.id, parseTokenChanges({ metadata: { [`k${i}`]: '' } }, nowMs)),
      ),
    );
    await Promise.all([flushing, work]);
    expect(Object.keys((await tokens.get(record.id)).metadata)).toHaveLength(20);
  });

  it('out of memory refuses a creation, and revoking still works', async () => {
    const { tokens, redis } = repositories;
    const { record } = await tokens.create('acme', tokenDraft());
    await redis.config('SET', 'maxmemory', '1');
    try {
      await expect(tokens.create('acme', tokenDraft())).rejects.toThrow(/out of memory/);
      await expect(tokens.create('acme', tokenDraft())).rejects.toBeInstanceOf(StoreUnavailableError);
      expect((await tokens.revoke(record.id)).state).toBe('revoked');
    } finally {
      await redis.config('SET', 'maxmemory', '0');
    }
  });

  it('a frozen Redis makes a change not confirmed, and a reading unavailable', async () => {
    const frozen = await startRedis();
    try {
      const { tenants, tokens, store } = await openRepositories(frozen.url, { commandTimeoutMs: 500 });
      await tenants.create(parseTenantDraft({ slug: 'acme', name: 'Acme' }));
      const { record } = await tokens.create('acme', tokenDraft());
      frozen.freeze();
      const [change, reading] = await Promise.allSettled([tokens.revoke(record.id), tokens.get(record.id)]);
      frozen.thaw();
      expect((change as PromiseRejectedResult).reason).toBeInstanceOf(NotConfirmedError);
      expect((reading as PromiseRejectedResult).reason).toBeInstanceOf(StoreUnavailableError);
      await store.close();
    } finally {
      await frozen.stop();
    }
  });
});

describe('with a replica', () => {
  let primary: RedisServer;
  let replica: RedisServer;
  let onPrimary: Repositories;

  beforeAll(async () => {
    primary = await startRedis({ tcp: true, args: ['--repl-diskless-sync-delay', '0'] });
    replica = await startRedis({ tcp: true, args: ['--replicaof', '127.0.0.1', String(primary.port)] });
    onPrimary = await openRepositories(primary.url, { confirmTimeoutMs: 20_000 });
    await until(async () => parseServerState(await onPrimary.redis.info('replication')).replicasOnline === 1);
    await onPrimary.tenants.create(parseTenantDraft({ slug: 'acme', name: 'Acme' }));
  });
  afterAll(async () => {
    await onPrimary.store.close();
    await Promise.all([primary.stop(), replica.stop()]);
  });

  it('an answered change is on the replica, every time', async () => {
    const { tokens } = onPrimary;
    const reader = replica.client();
    for (let i = 0; i < 20; i++) {
      const { record } = await tokens.create('acme', tokenDraft());
      await tokens.revoke(record.id);
      const json = (await reader.hget(keys.token(record.id), 'record')) as string;
      expect(JSON.parse(json)).toMatchObject({ state: 'revoked', version: 2 });
      await tokens.delete(record.id);
      expect(await reader.exists(keys.token(record.id))).toBe(0);
    }
  });

  it('a frozen replica makes a change not confirmed, and repeating it after the thaw confirms it', async () => {
    const { record } = await onPrimary.tokens.create('acme', tokenDraft());
    const { tokens, store } = await openRepositories(primary.url, { confirmTimeoutMs: 500 });
    replica.freeze();
    try {
      await expect(tokens.revoke(record.id)).rejects.toBeInstanceOf(NotConfirmedError);
      await expect(tokens.revoke(record.id)).rejects.toThrow(/0 of 1 replicas/);
      await expect(tokens.rotate(record.id, { graceSeconds: 0 })).rejects.toBeInstanceOf(ConflictError);
      const creation = tokens.create('acme', tokenDraft());
      await expect(creation).rejects.toThrow(/not confirmed.*token rotate/);
      await expect(creation).rejects.not.toThrow(/tk_live_/);
    } finally {
      replica.thaw();
      await store.close();
    }
    expect((await onPrimary.tokens.revoke(record.id)).state).toBe('revoked');
  });

  it('a connection that was lost between the write and WAIT confirms nothing', async () => {
    const { store, redis } = onPrimary;
    const killer = primary.client();
    const change = store.confirmed('a change', async () => {
      await redis.set('x', 1);
      const id = await redis.client('ID');
      const reconnected = new Promise<void>((resolve) => {
        redis.once('ready', resolve);
      });
      await killer.client('KILL', 'ID', id);
      await reconnected;
    });
    await expect(change).rejects.toThrow(/connection to Redis was lost/);
  });

  it('fewer replicas than redisMinReplicas confirm nothing', async () => {
    const strict = await openRepositories(primary.url, { confirmTimeoutMs: 100, redisMinReplicas: 2 });
    // The one there is may be slow to say so.
    await expect(strict.tokens.create('acme', tokenDraft())).rejects.toThrow(/[01] of 2 replicas/);
    await strict.store.close();
  });
});

describe('without a replica', () => {
  it('redisMinReplicas 1 confirms nothing, 0 everything', async () => {
    const strict = await open({ redisMinReplicas: 1, confirmTimeoutMs: 50 });
    await expect(strict.tokens.create('acme', tokenDraft())).rejects.toBeInstanceOf(NotConfirmedError);
    await repositories.tokens.create('acme', tokenDraft());
  });
});

describe('parseServerState', () => {
  it('counts replicas in service, and knows WAITAOF from 7.2 on', () => {
    const replicas =
      'slave0:ip=a,port=1,state=online,offset=5,lag=0\r\nslave1:ip=b,port=1,state=wait_bgsave,offset=0,lag=0\r\n';
    expect(parseServerState(`redis_version:7.0.15\r\n${replicas}aof_enabled:0\r\n`)).toEqual({
      replicasOnline: 1,
      aofEnabled: false,
      hasWaitAof: false,
      aofBytes: 0,
      aofHeldBytes: 0,
    });
    const ofFile = 'aof_enabled:1\r\naof_current_size:120\r\naof_base_size:80\r\naof_buffer_length:7\r\n';
    expect(parseServerState(ofFile)).toMatchObject({ aofEnabled: true, aofBytes: 120, aofHeldBytes: 7 });
    expect(parseServerState('redis_version:7.2.0\r\naof_enabled:1\r\n')).toMatchObject({
      aofEnabled: true,
      hasWaitAof: true,
    });
    expect(parseServerState('redis_version:8.0.1\r\n').hasWaitAof).toBe(true);
  });
});

it('every refusal is one sentence for a person, with an exit code', async () => {
  const { tokens } = repositories;
  const refusals = await Promise.allSettled([tokens.get('aaaaaaaaaaaa'), tokens.create('nobody', tokenDraft())]);
  for (const refusal of refusals) {
    const { reason } = refusal as PromiseRejectedResult;
    expect(reason).toBeInstanceOf(OperatorError);
    expect((reason as OperatorError).message).toMatch(/^[A-Z].*\.$/);
  }
});
