import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { verifyAudit } from '../../src/audit/verify.js';
import type { Management } from '../../src/management/management.js';
import type { Operations } from '../../src/management/operations.js';
import { keys } from '../../src/redis/keys.js';
import { NotConfirmedError, StoreUnavailableError } from '../../src/redis/store.js';
import { ConflictError, ForbiddenError, NotFoundError, VersionConflictError } from '../../src/tenant/refusal.js';
import { openManagement, operator, ownerOf } from '../support/management.js';
import { type RedisServer, startRedis } from '../support/redis.js';

let redis: RedisServer;
let management: Management;
let all: Operations;

beforeEach(async () => {
  redis = await startRedis();
  management = await openManagement(redis.url);
  all = management.as(operator);
});
afterEach(async () => {
  await management.store.close();
  await redis.stop();
});

/** Action, target and result of every record, oldest first. */
async function trail(): Promise<string[]> {
  const { data } = await all.listAudit({}, { page: 1, perPage: 100 });
  return data.map(({ action, target, result }) => `${action} ${target} ${result}`).toReversed();
}

const page = { page: 1, perPage: 100 };

test('every change leaves an attempt and its outcome, and no secret', async () => {
  await all.createTenant({ slug: 'acme', name: 'Acme' });
  await all.updateTenant('acme', { revealSecrets: true });
  const { token, secret } = await all.createToken('acme', { name: 'one', mode: 'hmac', metadata: { k: 'canary' } });
  const rotated = await all.rotateToken({ id: token.id }, {});
  await all.updateToken({ id: token.id }, { scopes: ['a'] });
  await all.deactivateToken({ id: token.id });
  await all.activateToken({ id: token.id });
  expect((await all.revealToken({ id: token.id })).secret).toBe(rotated.secret);
  await all.revokeToken({ id: token.id });
  await all.deleteToken({ id: token.id });
  const imported = await all.importToken('acme', { name: 'old', sha256: 'ab'.repeat(32) });
  await all.deleteTenant('acme', { force: true });
  const verbs = ['create', 'rotate', 'update', 'deactivate', 'activate', 'reveal', 'revoke', 'delete'];
  const changes = [
    'tenant.create tenant:acme',
    'tenant.update tenant:acme',
    ...verbs.map((verb) => `token.${verb} token:${token.id}`),
    `token.import token:${imported.id}`,
    'tenant.delete tenant:acme',
  ];
  expect(await trail()).toEqual(changes.flatMap((change) => [`${change} attempted`, `${change} done`]));
  expect(await verifyAudit(management.store)).toMatchObject({ intact: true, openAttempts: 0 });
  const kept = JSON.stringify(await management.store.redis.xrange(keys.audit(), '-', '+'));
  for (const hidden of [secret, rotated.secret, 'canary', 'ab'.repeat(32)]) expect(kept).not.toContain(hidden);
});

describe('when something is away', () => {
  test('a change whose attempt cannot be recorded is not made', async () => {
    await all.createTenant({ slug: 'acme', name: 'Acme' });
    // As an ACL that lacks the stream would do it: appending fails, everything else works.
    await management.store.redis.del(keys.audit());
    await management.store.redis.set(keys.audit(), 'not a stream');
    await expect(all.createToken('acme', { name: 'one' })).rejects.toThrow(/WRONGTYPE/);
    expect((await all.listTokens('acme', page)).meta.total).toBe(0);
  });

  test('a change that is made and whose outcome cannot be recorded stands, and is told of', async () => {
    const lost: string[] = [];
    const other = await openManagement(redis.url, { outcomeLost: ({ action }) => lost.push(action) });
    await all.createTenant({ slug: 'acme', name: 'Acme' });
    await other.audited(operator, { action: 'x.y', tenant: '', target: 'x:' }, async () => {
      await other.store.redis.rename(keys.audit(), 'aside');
      await other.store.redis.set(keys.audit(), 'not a stream');
    });
    await other.store.redis.del(keys.audit());
    await other.store.redis.rename('aside', keys.audit());
    expect(lost).toEqual(['x.y']);
    expect(await verifyAudit(other.store)).toMatchObject({ intact: true, openAttempts: 1 });
    await other.store.close();
  });

  test('the outcome tells refused from failed from unconfirmed', async () => {
    const outcomes = [
      [new ConflictError('x'), 'refused'],
      [new StoreUnavailableError('x'), 'failed'],
      [new NotConfirmedError('x'), 'unconfirmed'],
      [new Error('a bug'), 'failed'],
    ] as const;
    for (const [error, result] of outcomes) {
      const change = { action: 'x.y', tenant: '', target: 'x:' };
      await expect(management.audited(operator, change, () => Promise.reject(error))).rejects.toBe(error);
      expect((await trail()).at(-1)).toBe(`x.y x: ${result}`);
    }
  });
});

describe('an owner', () => {
  test('does everything with the tokens of its tenant and nothing with those of another', async () => {
    for (const slug of ['acme', 'globex']) await all.createTenant({ slug, name: slug });
    const mine = ownerOf('acme');
    const own = management.as(mine);
    const foreign = (await all.createToken('globex', { name: 'theirs', mode: 'hmac' })).token;
    const { token } = await own.createToken('acme', { name: 'ours' });
    expect((await own.listTenants(page)).data.map(({ slug }) => slug)).toEqual(['acme']);
    expect((await own.showToken({ id: token.id })).name).toBe('ours');
    const before = await trail();
    const refusals = [
      () => own.showTenant('globex'),
      () => own.updateTenant('globex', { name: 'x' }),
      () => own.deleteTenant('globex', { force: true }),
      () => own.createToken('globex', { name: 'x' }),
      () => own.importToken('globex', { name: 'x', sha256: 'ab'.repeat(32) }),
      () => own.listTokens('globex', page),
      () => own.listAudit({ tenant: 'globex' }, page),
      ...[{ id: foreign.id }, { id: foreign.id, tenant: 'acme' }, { id: foreign.id, tenant: 'globex' }].flatMap(
        (name) => [
          () => own.showToken(name),
          () => own.updateToken(name, { name: 'x' }),
          () => own.rotateToken(name, {}),
          () => own.revokeToken(name),
          () => own.activateToken(name),
          () => own.deactivateToken(name),
          () => own.deleteToken(name),
          () => own.revealToken(name),
        ],
      ),
    ];
    for (const refused of refusals) await expect(refused()).rejects.toThrow(NotFoundError);
    expect(await trail()).toEqual(before);
    expect(await all.showToken({ id: foreign.id })).toMatchObject({ version: 1, state: 'active' });
  });

  test('is told the same of a tenant or token that exists and one that does not', async () => {
    for (const slug of ['acme', 'globex']) await all.createTenant({ slug, name: slug });
    const own = management.as(ownerOf('acme'));
    const { token } = await all.createToken('globex', { name: 'theirs' });
    const said = async (call: () => Promise<unknown>): Promise<string> =>
      call().then(
        () => 'answered',
        (error: Error) => `${error.constructor.name} ${error.message}`,
      );
    expect(await said(() => own.showTenant('globex'))).toBe(await said(() => own.showTenant('nobody')));
    const unknown = await said(() => own.showToken({ id: '000000000000' }));
    expect(await said(() => own.showToken({ id: token.id }))).toBe(unknown.replace('000000000000', token.id));
  });

  test('changes no tenant, and sees the records of its tenant without the addresses of operators', async () => {
    await all.createTenant({ slug: 'acme', name: 'Acme' });
    await all.createTenant({ slug: 'globex', name: 'Globex' });
    const own = management.as(ownerOf('acme'));
    for (const refused of [
      () => own.createTenant({ slug: 'third', name: 'x' }),
      () => own.updateTenant('acme', { maxTokens: 1000 }),
      () => own.deleteTenant('acme', { force: true }),
      () => own.verifyAudit(),
    ]) {
      await expect(refused()).rejects.toThrow(ForbiddenError);
    }
    await own.createToken('acme', { name: 'ours' });
    const { data, meta } = await own.listAudit({}, page);
    expect(meta.total).toBe(4);
    expect(data.map(({ actor }) => actor.address)).toEqual(['192.0.2.2', '192.0.2.2', '', '']);
  });
});

test('of two changes made for the same version one is made', async () => {
  await all.createTenant({ slug: 'acme', name: 'Acme' });
  const { token } = await all.createToken('acme', { name: 'one' });
  const tries = await Promise.allSettled(
    ['a', 'b', 'c'].map((name) => all.updateToken({ id: token.id }, { name }, { ifVersion: token.version })),
  );
  const refused = tries.filter((outcome) => outcome.status === 'rejected');
  expect(refused).toHaveLength(2);
  for (const { reason } of refused) expect(reason).toBeInstanceOf(VersionConflictError);
  const tenant = await all.showTenant('acme');
  await all.updateTenant('acme', { maxTokens: 3 }, { ifVersion: tenant.version });
  const stale = all.updateTenant('acme', { maxTokens: 4 }, { ifVersion: tenant.version });
  await expect(stale).rejects.toThrow(VersionConflictError);
});

test('a secret is shown again only in mode hmac and where the tenant wants it', async () => {
  await all.createTenant({ slug: 'acme', name: 'Acme' });
  const hmac = (await all.createToken('acme', { name: 'one', mode: 'hmac' })).token;
  await expect(all.revealToken({ id: hmac.id })).rejects.toThrow(ForbiddenError);
  await all.updateTenant('acme', { revealSecrets: true });
  const bearer = (await all.createToken('acme', { name: 'two' })).token;
  await expect(all.revealToken({ id: bearer.id })).rejects.toThrow(/only a hash is kept/);
  expect((await all.revealToken({ id: hmac.id })).secret).toMatch(/^tk_live_/);
});
