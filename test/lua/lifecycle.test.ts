import * as fc from 'fast-check';
import type { Redis } from 'ioredis';
import { afterAll, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import { changesChannel, keys, shardOf } from '../../src/redis/keys.js';
import { bindScript, loadScript, type RunScript } from '../../src/redis/scripts.js';
import { recordUpdateContract } from '../../src/redis/store.js';
import { tenantScripts } from '../../src/tenant/repository.js';
import { foreignSettleContract } from '../../src/token/foreign.js';
import { tokenScripts } from '../../src/token/repository.js';
import { type RedisServer, startRedis } from '../support/redis.js';

let server: RedisServer;
let redis: Redis;

beforeAll(async () => {
  server = await startRedis();
  redis = server.client();
});
afterAll(() => server.stop());
beforeEach(() => redis.flushall());

/** The scripts of the life of tenants and tokens, by the names a reader would give them. */
function lifecycle(connection: Redis) {
  const run = (contract: Parameters<typeof loadScript>[0]): RunScript => bindScript(connection, loadScript(contract));
  const createTenant = run(tenantScripts.create);
  const deleteTenant = run(tenantScripts.delete);
  const createToken = run(tokenScripts.create);
  const deleteToken = run(tokenScripts.delete);
  const update = run(recordUpdateContract);
  const settle = run(foreignSettleContract);
  const meta = (slug: string): string => keys.meta(shardOf(slug));
  return {
    initialise: (slug: string) => connection.hset(meta(slug), 'installation', 'i1'),
    createTenant: (slug: string, places = 25, floor = '0') =>
      createTenant(
        [meta(slug), keys.tenant(slug)],
        [floor, Number(floor) + 1, '{}', Buffer.from([0x90]), places, changesChannel, `tenant:${slug}`],
      ),
    deleteTenant: (slug: string) =>
      deleteTenant([meta(slug), keys.tenant(slug), keys.tenantTokens(slug)], [changesChannel, `tenant:${slug}`]),
    createToken: (slug: string, id: string, createdAt = 1) =>
      createToken(
        [keys.tenant(slug), keys.tenantTokens(slug), keys.token(id)],
        [id, createdAt, '{"v":1}', Buffer.from([0x90]), changesChannel, `token:${id}`],
      ),
    deleteToken: (slug: string, id: string) =>
      deleteToken([keys.tenantTokens(slug), keys.token(id)], [id, changesChannel, `token:${id}`]),
    update: (key: string, expected: number | string, fields: readonly string[], message = 'x') =>
      update([key], [expected, changesChannel, message, ...fields]),
    settle: (sha: string, id: string, action: 'keep' | 'release') => settle([keys.foreign(sha)], [id, action]),
  };
}

type Lifecycle = ReturnType<typeof lifecycle>;

describe('tenant-create', () => {
  it('does nothing in a Redis that is not initialised, for instance one that came back empty', async () => {
    expect(await lifecycle(redis).createTenant('acme')).toBe(-1);
    expect(await redis.dbsize()).toBe(0);
  });

  it('writes an active tenant once', async () => {
    const scripts = lifecycle(redis);
    await scripts.initialise('acme');
    expect(await scripts.createTenant('acme', 7)).toBe(1);
    expect(await scripts.createTenant('acme', 9)).toBe(0);
    expect(await redis.hgetall(keys.tenant('acme'))).toMatchObject({ version: '1', maxTokens: '7', state: 'active' });
  });

  it('starts a slug that comes back above every version it had, so that no sidecar takes it for the old one', async () => {
    const scripts = lifecycle(redis);
    await scripts.initialise('acme');
    await scripts.createTenant('acme');
    await scripts.update(keys.tenant('acme'), 1, ['record', '{}']);
    expect(await scripts.deleteTenant('acme')).toBe(1);
    expect(await scripts.createTenant('acme', 25, '0')).toBe(-2);
    const floor = (await redis.hget(keys.meta(shardOf('acme')), 'tenantVersion')) as string;
    expect(floor).toBe('2');
    expect(await scripts.createTenant('acme', 25, floor)).toBe(1);
    expect(await redis.hget(keys.tenant('acme'), 'version')).toBe('3');
  });
});

describe('tenant-delete', () => {
  it('refuses while there are tokens and says how many', async () => {
    const scripts = lifecycle(redis);
    await scripts.initialise('acme');
    await scripts.createTenant('acme');
    await scripts.createToken('acme', 'aaaaaaaaaaaa');
    await scripts.createToken('acme', 'bbbbbbbbbbbb');
    expect(await scripts.deleteTenant('acme')).toBe(-2);
    await scripts.deleteToken('acme', 'aaaaaaaaaaaa');
    await scripts.deleteToken('acme', 'bbbbbbbbbbbb');
    expect(await scripts.deleteTenant('acme')).toBe(1);
    expect(await scripts.deleteTenant('acme')).toBe(0);
  });

  it('never lowers the version that later tenants start above', async () => {
    const scripts = lifecycle(redis);
    await scripts.initialise('acme');
    await redis.hset(keys.meta(shardOf('acme')), 'tenantVersion', '40');
    await redis.hset(keys.tenant('acme'), 'version', '3');
    await scripts.deleteTenant('acme');
    expect(await redis.hget(keys.meta(shardOf('acme')), 'tenantVersion')).toBe('40');
  });
});

describe('token-create', () => {
  it('needs a tenant that is active and has a place', async () => {
    const scripts = lifecycle(redis);
    await scripts.initialise('acme');
    expect(await scripts.createToken('acme', 'aaaaaaaaaaaa')).toBe(0);
    await scripts.createTenant('acme', 1);
    expect(await scripts.createToken('acme', 'aaaaaaaaaaaa')).toBe(1);
    expect(await scripts.createToken('acme', 'bbbbbbbbbbbb')).toBe(-2);
    await redis.hset(keys.tenant('acme'), 'maxTokens', '5');
    expect(await scripts.createToken('acme', 'aaaaaaaaaaaa')).toBe(-3);
    await redis.hset(keys.tenant('acme'), 'state', 'deleting');
    expect(await scripts.createToken('acme', 'bbbbbbbbbbbb')).toBe(-1);
    expect(await redis.zrange(keys.tenantTokens('acme'), 0, '-1')).toEqual(['aaaaaaaaaaaa']);
  });

  it('gives 25 places to 25 of 100 that come at once over 10 connections', async () => {
    await lifecycle(redis).initialise('acme');
    await lifecycle(redis).createTenant('acme');
    const connections = Array.from({ length: 10 }, () => lifecycle(server.client()));
    const replies = await Promise.all(
      Array.from({ length: 100 }, (_, i) =>
        (connections[i % 10] as Lifecycle).createToken('acme', `token${String(i).padStart(7, '0')}`),
      ),
    );
    expect(replies.filter((reply) => reply === 1)).toHaveLength(25);
    expect(replies.filter((reply) => reply === -2)).toHaveLength(75);
    expect(await redis.zcard(keys.tenantTokens('acme'))).toBe(25);
    expect(await redis.keys('tk:token:*')).toHaveLength(25);
  });

  it('leaves nothing half done when Redis is out of memory', async () => {
    const scripts = lifecycle(redis);
    await scripts.initialise('acme');
    await scripts.createTenant('acme');
    await scripts.createToken('acme', 'aaaaaaaaaaaa');
    await redis.config('SET', 'maxmemory', '1');
    await expect(scripts.createToken('acme', 'bbbbbbbbbbbb')).rejects.toThrow(/^OOM/);
    expect(await redis.exists(keys.token('bbbbbbbbbbbb'))).toBe(0);
    expect(await redis.zcard(keys.tenantTokens('acme'))).toBe(1);
    // What takes rights away must work all the same.
    expect(await scripts.update(keys.token('aaaaaaaaaaaa'), 1, ['record', '{"state":"revoked"}'])).toBe(1);
    expect(await scripts.deleteToken('acme', 'aaaaaaaaaaaa')).toBe(1);
    await redis.config('SET', 'maxmemory', '0');
  });
});

describe('record-update', () => {
  it('writes under the expected version alone and leaves the counters', async () => {
    const scripts = lifecycle(redis);
    const key = keys.token('aaaaaaaaaaaa');
    expect(await scripts.update(key, 1, ['record', 'a'])).toBe(-1);
    await redis.hset(key, { version: 1, record: 'a', counters: 'c' });
    expect(await scripts.update(key, 2, ['record', 'b'])).toBe(0);
    expect(await scripts.update(key, 1, ['record', 'b', 'limits', 'l'])).toBe(1);
    expect(await redis.hgetall(key)).toEqual({ version: '2', record: 'b', limits: 'l', counters: 'c' });
  });

  it('announces what it changed, and only that', async () => {
    const scripts = lifecycle(redis);
    const heard: string[] = [];
    const listener = server.client();
    await listener.subscribe(changesChannel);
    listener.on('message', (_, message) => heard.push(message));
    const key = keys.token('aaaaaaaaaaaa');
    await redis.hset(key, { version: 1 });
    await scripts.update(key, 9, ['record', 'b'], 'not this');
    await scripts.update(key, 1, ['record', 'b'], 'token:aaaaaaaaaaaa');
    await expect.poll(() => heard).toEqual(['token:aaaaaaaaaaaa']);
  });

  it('lets one of many through for each version, so that no change is lost', async () => {
    const key = keys.token('aaaaaaaaaaaa');
    await redis.hset(key, { version: 1, record: '' });
    const append = async (letter: string): Promise<void> => {
      const connection = server.client();
      const { update } = lifecycle(connection);
      for (;;) {
        const [record, version] = (await connection.hmget(key, 'record', 'version')) as [string, string];
        if ((await update(key, version, ['record', record + letter])) === 1) return;
      }
    };
    const letters = 'abcdefghijklmnopqrst'.split('');
    await Promise.all(letters.map(append));
    expect(((await redis.hget(key, 'record')) as string).split('').sort()).toEqual(letters);
    expect(await redis.hget(key, 'version')).toBe('21');
  });
});

describe('foreign-settle', () => {
  it('keeps or gives back a claim for its holder alone', async () => {
    const scripts = lifecycle(redis);
    await redis.set(keys.foreign('f'), 'a', 'PX', 60_000);
    expect(await scripts.settle('f', 'b', 'keep')).toBe(0);
    expect(await scripts.settle('f', 'b', 'release')).toBe(0);
    expect(await redis.pttl(keys.foreign('f'))).toBeGreaterThan(0);
    expect(await scripts.settle('f', 'a', 'keep')).toBe(1);
    expect(await redis.pttl(keys.foreign('f'))).toBe(-1);
    expect(await scripts.settle('f', 'a', 'release')).toBe(1);
    expect(await redis.exists(keys.foreign('f'))).toBe(0);
  });
});

describe('all of them together', () => {
  type Step =
    | { readonly kind: 'createTenant' | 'deleteTenant' | 'beginDeletion' | 'flushScripts' }
    | { readonly kind: 'createToken' | 'deleteToken'; readonly id: string }
    | { readonly kind: 'update'; readonly id: string; readonly stale: boolean };

  const ids = ['aaaaaaaaaaaa', 'bbbbbbbbbbbb', 'cccccccccccc', 'dddddddddddd'] as const;
  const id = fc.constantFrom(...ids);
  const step: fc.Arbitrary<Step> = fc.oneof(
    fc.record({ kind: fc.constantFrom('createTenant', 'deleteTenant', 'beginDeletion', 'flushScripts') }),
    fc.record({ kind: fc.constantFrom('createToken', 'createToken', 'deleteToken'), id }),
    fc.record({ kind: fc.constant('update'), id, stale: fc.boolean() }),
  );
  const places = 3;

  /** What the scripts should answer, in plain TypeScript. */
  class Model {
    tenant: { version: number; state: 'active' | 'deleting' } | null = null;
    floor = 0;
    readonly tokens = new Map<string, number>();

    answer(it: Step): number | null {
      switch (it.kind) {
        case 'createTenant':
          if (this.tenant !== null) return 0;
          this.tenant = { version: this.floor + 1, state: 'active' };
          return 1;
        case 'deleteTenant':
          if (this.tenant === null) return 0;
          if (this.tokens.size > 0) return -this.tokens.size;
          this.floor = Math.max(this.floor, this.tenant.version);
          this.tenant = null;
          return 1;
        case 'beginDeletion':
          if (this.tenant === null) return -1;
          this.tenant = { version: this.tenant.version + 1, state: 'deleting' };
          return 1;
        case 'createToken':
          if (this.tenant === null) return 0;
          if (this.tenant.state === 'deleting') return -1;
          if (this.tokens.size >= places) return -2;
          if (this.tokens.has(it.id)) return -3;
          this.tokens.set(it.id, 1);
          return 1;
        case 'deleteToken':
          return this.tokens.delete(it.id) ? 1 : 0;
        case 'update': {
          const version = this.tokens.get(it.id);
          if (version === undefined) return -1;
          if (it.stale) return 0;
          this.tokens.set(it.id, version + 1);
          return 1;
        }
        case 'flushScripts':
          return null;
      }
    }
  }

  it('answer as the model does for any sequence, also when the scripts are flushed in between', async () => {
    const scripts = lifecycle(redis);
    const really = async (it: Step, model: Model): Promise<unknown> => {
      switch (it.kind) {
        case 'createTenant':
          return scripts.createTenant('acme', places, String(model.floor));
        case 'deleteTenant':
          return scripts.deleteTenant('acme');
        case 'beginDeletion':
          return scripts.update(keys.tenant('acme'), model.tenant?.version ?? 1, ['state', 'deleting']);
        case 'createToken':
          return scripts.createToken('acme', it.id);
        case 'deleteToken':
          return scripts.deleteToken('acme', it.id);
        case 'update':
          return scripts.update(keys.token(it.id), (model.tokens.get(it.id) ?? 1) + (it.stale ? 7 : 0), [
            'record',
            '{}',
          ]);
        case 'flushScripts':
          await redis.script('FLUSH');
          return null;
      }
    };
    await fc.assert(
      fc.asyncProperty(fc.array(step, { maxLength: 40 }), async (steps) => {
        await redis.flushall();
        await scripts.initialise('acme');
        const model = new Model();
        for (const it of steps) {
          const reply = await really(it, model);
          expect(reply).toBe(model.answer(it));
        }
        expect((await redis.zrange(keys.tenantTokens('acme'), 0, '-1')).sort()).toEqual(
          [...model.tokens.keys()].sort(),
        );
        for (const token of ids) {
          const version = model.tokens.get(token);
          expect(await redis.hget(keys.token(token), 'version')).toBe(version === undefined ? null : String(version));
        }
      }),
      { numRuns: 60 },
    );
  });
});
