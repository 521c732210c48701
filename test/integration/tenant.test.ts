import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import { allShards, keys, shardOf } from '../../src/redis/keys.js';
import { initialise, readInstallation, requireInstallation, schemaVersion } from '../../src/redis/meta.js';
import { parseTenantChanges, parseTenantDraft } from '../../src/tenant/draft.js';
import { ConflictError, NotFoundError } from '../../src/tenant/refusal.js';
import { hashPlaintext } from '../../src/token/format.js';
import { removeTenant } from '../../src/token/tenant-removal.js';
import { type CommandResult, runCommand, runJson } from '../support/cli.js';
import { type RedisServer, startRedis } from '../support/redis.js';
import { importDraft, openRepositories, type Repositories, tokenDraft } from '../support/repositories.js';

let server: RedisServer;
let opened: Repositories[];
let repositories: Repositories;

beforeAll(async () => {
  server = await startRedis();
});
afterAll(() => server.stop());
beforeEach(async () => {
  opened = [];
  repositories = await open();
  await repositories.redis.flushall();
});
afterEach(() => Promise.all(opened.map(({ store }) => store.close())));

async function open(): Promise<Repositories> {
  const one = await openRepositories(server.url);
  opened.push(one);
  return one;
}

const draftOf = (slug: string, fields: object = {}) => parseTenantDraft({ slug, name: slug, ...fields });

describe('the installation', () => {
  it('is written to all 64 shards by the first tenant and stays the same with the next', async () => {
    const { tenants, redis } = repositories;
    expect(await readInstallation(redis)).toBeNull();
    await tenants.create(draftOf('acme'));
    const installation = await requireInstallation(redis);
    expect(installation.schema).toBe(schemaVersion);
    for (const shard of allShards) {
      expect(await redis.hget(keys.meta(shard), 'installation')).toBe(installation.installation);
    }
    await tenants.create(draftOf('other'));
    expect(await readInstallation(redis)).toEqual(installation);
  });

  it('is one, also when 10 initialise at once', async () => {
    const many = await Promise.all(Array.from({ length: 10 }, open));
    const results = await Promise.all(many.map(({ store }, i) => initialise(store, 1000 + i)));
    expect(new Set(results.map(({ installation }) => installation)).size).toBe(1);
    expect(await readInstallation(repositories.redis)).toEqual(results[0]);
  });

  it('is brought to its end when an initialisation was cut short', async () => {
    const { redis, store } = repositories;
    await redis.hset(keys.meta('00'), { installation: 'begun', createdAt: 5 });
    await redis.hset(keys.meta('1f'), { installation: 'begun', schema: schemaVersion });
    expect(await readInstallation(redis)).toBeNull();
    expect(await initialise(store, 9)).toEqual({ schema: schemaVersion, installation: 'begun', createdAt: 5 });
    expect(await readInstallation(redis)).toMatchObject({ installation: 'begun' });
  });

  it('that lost a part is reported, never repaired in silence', async () => {
    const { tenants, redis } = repositories;
    await tenants.create(draftOf('acme'));
    for (const shard of ['00', '3f']) {
      const held = await redis.hgetall(keys.meta(shard));
      await redis.del(keys.meta(shard));
      await expect(readInstallation(redis)).rejects.toThrow(/lost a part/);
      await expect(tenants.create(draftOf('other'))).rejects.toThrow(/lost a part/);
      await redis.hset(keys.meta(shard), held);
    }
  });

  it('of a newer Tollkeeper is left alone', async () => {
    const { tenants, redis } = repositories;
    await tenants.create(draftOf('acme'));
    await redis.hset(keys.meta('00'), 'schema', schemaVersion + 1);
    await expect(requireInstallation(redis)).rejects.toThrow(/newer Tollkeeper/);
    await expect(tenants.create(draftOf('other'))).rejects.toThrow(/newer Tollkeeper/);
  });

  it('is missing from an empty Redis, which the error says with what to do', async () => {
    await expect(requireInstallation(repositories.redis)).rejects.toThrow(/tenant create/);
  });
});

describe('tenants', () => {
  it('are listed by creation, page by page', async () => {
    const { tenants } = repositories;
    const slugs = ['zebra', 'acme', 'mid'];
    for (const slug of slugs) await tenants.create(draftOf(slug));
    const { records, total } = await tenants.list({ page: 1, perPage: 2 });
    expect([records.map(({ slug }) => slug), total]).toEqual([['zebra', 'acme'], 3]);
    expect((await tenants.list({ page: 2, perPage: 2 })).records.map(({ slug }) => slug)).toEqual(['mid']);
  });

  it('pass over a slug that is listed without a record', async () => {
    const { tenants, redis } = repositories;
    const record = await tenants.create(draftOf('acme'));
    await redis.zadd(keys.tenants(), 1, 'ghost');
    expect(await tenants.list({ page: 1, perPage: 10 })).toEqual({ records: [record], total: 1 });
  });

  it('have a slug once, also when 10 ask for it at once', async () => {
    const many = await Promise.all(Array.from({ length: 10 }, open));
    const results = await Promise.allSettled(many.map(({ tenants }) => tenants.create(draftOf('acme'))));
    expect(results.filter(({ status }) => status === 'fulfilled')).toHaveLength(1);
    for (const result of results) if (result.status === 'rejected') expect(result.reason).toBeInstanceOf(ConflictError);
  });

  it('change without losing what their limit has counted', async () => {
    const { tenants, redis } = repositories;
    const record = await tenants.create(draftOf('acme', { rateLimit: { limit: 5 } }));
    await redis.hset(keys.tenant('acme'), 'counters', 'counted');
    const changes = parseTenantChanges({ maxTokens: 3, requireHttps: true, rateLimit: { limit: 9 } });
    const changed = await tenants.update('acme', changes);
    const rateLimit = { limit: 9, window: 60, algorithm: 'sliding-window' };
    expect(changed).toEqual({ ...record, maxTokens: 3, requireHttps: true, rateLimit, version: record.version + 1 });
    expect(await redis.hmget(keys.tenant('acme'), 'counters', 'maxTokens')).toEqual(['counted', '3']);
  });

  it('that do not exist are said not to', async () => {
    const { tenants } = repositories;
    await tenants.create(draftOf('acme'));
    for (const slug of ['nobody', '', 'a:b', '{x}', 'x'.repeat(100)]) {
      await expect(tenants.get(slug)).rejects.toBeInstanceOf(NotFoundError);
      await expect(tenants.update(slug, {})).rejects.toBeInstanceOf(NotFoundError);
      await expect(tenants.delete(slug)).rejects.toBeInstanceOf(NotFoundError);
    }
  });
});

describe('deleting a tenant', () => {
  it('is refused while it has tokens, unless forced', async () => {
    const { tenants, tokens, redis } = repositories;
    await tenants.create(draftOf('acme'));
    const { record } = await tokens.create('acme', tokenDraft());
    const sha256 = hashPlaintext('foreign');
    await tokens.import('acme', importDraft(sha256));
    await expect(removeTenant(tenants, tokens, 'acme', { force: false })).rejects.toThrow(/2 tokens/);
    expect((await tenants.get('acme')).state).toBe('active');
    await removeTenant(tenants, tokens, 'acme', { force: true });
    expect(await tenants.find('acme')).toBeNull();
    const left = [keys.token(record.id), keys.tenantTokens('acme'), keys.foreign(sha256), keys.tenants()];
    expect(await redis.exists(...left)).toBe(0);
  });

  it('leaves no token behind when tokens are created at the same time', async () => {
    const { tenants, tokens, redis } = repositories;
    await tenants.create(draftOf('acme'));
    const others = await Promise.all(Array.from({ length: 5 }, open));
    const creations = Promise.allSettled(
      others.flatMap((other) => Array.from({ length: 4 }, () => other.tokens.create('acme', tokenDraft()))),
    );
    await removeTenant(tenants, tokens, 'acme', { force: true });
    await creations;
    expect(await redis.keys('tk:token*')).toEqual([]);
  });

  it('that was cut short blocks new tokens and is taken up again', async () => {
    const { tenants, tokens } = repositories;
    await tenants.create(draftOf('acme'));
    await tokens.create('acme', tokenDraft());
    await tenants.beginDeletion('acme');
    await expect(tokens.create('acme', tokenDraft())).rejects.toThrow(/being deleted/);
    await expect(tenants.create(draftOf('acme'))).rejects.toThrow(/--force/);
    await expect(tenants.update('acme', {})).rejects.toThrow(/--force/);
    await removeTenant(tenants, tokens, 'acme', { force: true });
    expect(await tenants.find('acme')).toBeNull();
  });

  it('frees the slug, and its next tenant has a higher version than the last', async () => {
    const { tenants, redis } = repositories;
    await tenants.create(draftOf('acme'));
    const last = await tenants.update('acme', parseTenantChanges({ name: 'Acme' }));
    await tenants.delete('acme');
    expect(await redis.hget(keys.meta(shardOf('acme')), 'tenantVersion')).toBe(String(last.version));
    const next = await tenants.create(draftOf('acme'));
    expect(next.version).toBeGreaterThan(last.version);
    expect((await tenants.list({ page: 1, perPage: 10 })).records).toEqual([next]);
  });
});

describe('the command line', () => {
  const tollkeeper = (...args: string[]): Promise<CommandResult> =>
    runCommand(args, {
      TOLLKEEPER_REDIS_URL: server.url,
      TOLLKEEPER_MASTER_KEY: Buffer.alloc(32, 7).toString('base64'),
    });
  const json = <T>(...args: string[]): Promise<T> => runJson<T>(args, { TOLLKEEPER_REDIS_URL: server.url });

  it('needs nothing but the address of Redis, and takes a tenant and its token through their lives', async () => {
    expect(await json('tenant', 'create', 'acme', '--name', 'Acme', '--limit', '1000')).toMatchObject({
      slug: 'acme',
      maxTokens: 25,
      rateLimit: { limit: 1000, window: 60 },
    });
    const settings =
      '--scopes a,b --limit 5 --window 1 --add-limit 60/1m --add-limit 5/10s:token-bucket --quota 100000/month ' +
      '--expires-at 30d --allow-ip 10.0.0.0/8,::1 --metadata k=v=w --subject u1';
    const create = ['token', 'create', '--tenant', 'acme', '--name', 'till', ...settings.split(' ')];
    const created = await json<{ token: { id: string }; secret: string }>(...create);
    const { id } = created.token;
    expect(created.secret).toContain(`tk_live_${id}_`);
    expect(created.token).toMatchObject({
      tenant: 'acme',
      name: 'till',
      mode: 'bearer',
      active: true,
      scopes: ['a', 'b'],
      rateLimit: { limit: 5, window: 1, algorithm: 'sliding-window' },
      limits: [
        { limit: 60, window: 60, algorithm: 'sliding-window' },
        { limit: 5, window: 10, algorithm: 'token-bucket' },
      ],
      quota: { limit: 100_000, period: 'month' },
      allowedIps: ['10.0.0.0/8', '::1'],
      metadata: { k: 'v=w' },
      subject: 'u1',
      lastUsedAt: null,
    });
    await repositories.redis.hset(keys.usage('acme', id), { calls: 3, lastUsedAt: Date.UTC(2026, 0, 2) });
    expect(await json('token', 'show', id)).toMatchObject({ id, lastUsedAt: '2026-01-02T00:00:00.000Z' });
    const changes = '--add-limit 90/60s --quota none --expires-at never --unset-metadata k --metadata x=y';
    const update = ['token', 'update', id, '--subject', '', '--allow-ip', '', ...changes.split(' ')];
    expect(await json(...update)).toMatchObject({
      limits: [{ limit: 5 }, { limit: 90, window: 60 }],
      quota: null,
      expiresAt: null,
      subject: null,
      allowedIps: [],
      metadata: { x: 'y' },
    });
    const rotated = await json<{ secret: string }>('token', 'rotate', id, '--grace', '60');
    expect(rotated.secret).not.toBe(created.secret);
    expect(await json('token', 'deactivate', id)).toMatchObject({ active: false, state: 'inactive' });
    expect(await json('token', 'activate', id)).toMatchObject({ active: true });
    expect(await json('token', 'revoke', id)).toMatchObject({ active: false, state: 'revoked' });
    expect(await json('token', 'list', '--tenant', 'acme')).toMatchObject({
      data: [{ id }],
      meta: { page: 1, total: 1, total_pages: 1 },
    });
    expect(await json('token', 'delete', id)).toEqual({ deleted: id });
    expect(await json('tenant', 'delete', 'acme')).toEqual({ deleted: 'acme' });
  });

  it('shows a secret once, and tables without any', async () => {
    await tollkeeper('tenant', 'create', 'acme', '--name', 'Acme');
    const created = await tollkeeper('token', 'create', '--tenant', 'acme', '--name', 'till', '--mode', 'hmac');
    expect(created.code).toBe(0);
    const secret = /^tk_live_\S+$/m.exec(created.stdout)?.[0] ?? '';
    expect(secret).not.toBe('');
    expect(created.stderr).toMatch(/shown this once/);
    const id = secret.split('_')[2] as string;
    const outputs = await Promise.all([
      tollkeeper('token', 'show', id),
      tollkeeper('token', 'list', '--tenant', 'acme'),
    ]);
    for (const { stdout } of outputs) {
      expect(stdout).toContain(id);
      expect(stdout).not.toContain(secret.slice(21));
      expect(stdout).not.toContain('v1.');
    }
  });

  it.each<[number, RegExp, string[]]>([
    [2, /unknown option '--bogus'/, ['token', 'list', '--tenant', 'acme', '--bogus']],
    [2, /--name/, ['tenant', 'create', 'acme']],
    [2, /scopes\.0/, ['token', 'create', '--tenant', 'acme', '--name', 'n', '--scopes', 'Not Allowed']],
    [2, /whole number/, ['token', 'create', '--tenant', 'acme', '--name', 'n', '--limit', 'many']],
    [2, /10\/1s/, ['token', 'create', '--tenant', 'acme', '--name', 'n', '--add-limit', '10/1y']],
    [1, /holds no Tollkeeper data/, ['token', 'show', 'aaaaaaaaaaaa']],
  ])('ends with %i and says %s: %j', async (code, message, args) => {
    const result = await tollkeeper(...args);
    expect(result).toMatchObject({ code, stdout: '' });
    expect(result.stderr).toMatch(message);
    expect(result.stderr).not.toMatch(/ {4}at /);
  });

  it('tells that Redis cannot be reached, without its password', async () => {
    const result = await runCommand(['tenant', 'list'], { TOLLKEEPER_REDIS_URL: 'redis://u:hunter2@127.0.0.1:1' });
    expect(result.code).toBe(1);
    expect(result.stderr).toMatch(/Redis at redis:\/\/127\.0\.0\.1:1 cannot be used/);
    expect(result.stderr).not.toContain('hunter2');
  });
});
