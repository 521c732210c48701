/** A backup restored into an empty Redis gives back what was there, ends the outage, and lets nothing be used twice. */
import { createHash, randomBytes } from 'node:crypto';
import { appendFileSync, mkdtempSync, readdirSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { open } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, test } from 'vitest';
import { exportBackup } from '../../src/backup/export.js';
import { inspectBackup, versionStep } from '../../src/backup/inspect.js';
import { restoreBackup, type RestoreReport } from '../../src/backup/restore.js';
import { parseMasterKeys, sealSecret } from '../../src/credential/sealed-secret.js';
import { parseTenantDraft } from '../../src/tenant/draft.js';
import { hashPlaintext } from '../../src/token/format.js';
import { keys } from '../../src/redis/keys.js';
import { readInstallation } from '../../src/redis/meta.js';
import { AdminKeys } from '../../src/user/admin-key.js';
import { verifyPassword } from '../../src/user/password.js';
import { UserRepository } from '../../src/user/repository.js';
import { signRequest } from '../../src/sign/sign.js';
import { type CommandResult, runCommand } from '../support/cli.js';
import { runInProcess } from '../support/command-line.js';
import { call, slugOf } from '../support/http-client.js';
import { type Installation, startInstallation } from '../support/installation.js';
import { type RedisServer, startRedis } from '../support/redis.js';
import { importDraft, openRepositories, type Repositories, tokenDraft } from '../support/repositories.js';
import { until } from '../support/until.js';

const path = '/api/v1/products';
let dir: string;
beforeAll(() => {
  dir = mkdtempSync(join(tmpdir(), 'tk-backup-'));
});
afterAll(() => rmSync(dir, { recursive: true, force: true }));

describe('with a sidecar that runs', () => {
  let installation: Installation;
  beforeAll(async () => {
    installation = await startInstallation({ redis: { appendonly: true } });
  });
  afterAll(() => installation.stop());

  const command = (...args: string[]): Promise<CommandResult> => runCommand(args, installation.env);

  test('restoring ends the outage: same tokens, revoked stay revoked, a signature from before is refused', async () => {
    const file = join(dir, 'whole.ndjson');
    await installation.tenant('acme');
    const reader = await installation.token('acme', '--quota', '10/month');
    const signer = await installation.token('acme', '--mode', 'hmac');
    const revoked = await installation.token('acme');
    const rotated = await installation.token('acme');
    const foreign = 'a-secret-of-another-system';
    const imported = (await installation.command(
      'token',
      'import',
      '--tenant=acme',
      '--name=foreign',
      '--scopes=products:read',
      `--sha256=${hashPlaintext(foreign)}`,
    )) as { token: { id: string } };
    await installation.command('token', 'revoke', revoked.id);
    const { secret: second } = (await installation.command('token', 'rotate', rotated.id, '--grace', '600')) as {
      secret: string;
    };
    const { dataUrl, adminUrl } = await installation.sidecar({ env: { TOLLKEEPER_FOREIGN_TOKENS: 'true' } });
    const ask = (secret: string) => call(`${dataUrl}${path}`, { headers: { authorization: `Bearer ${secret}` } });
    const send = (signed: { headers: Readonly<Record<string, string>> }) =>
      call(`${dataUrl}${path}`, { headers: signed.headers });
    const sign = (timestamp?: number) =>
      signRequest({
        secret: signer.secret,
        method: 'GET',
        url: path,
        ...(timestamp === undefined ? {} : { timestamp }),
      });

    const usedBefore = sign();
    const unusedBefore = sign();
    expect((await send(usedBefore)).status).toBe(200);
    expect((await ask(reader.secret)).headers['x-ratelimit-limit']).toBeDefined();
    for (const secret of [rotated.secret, second, foreign]) expect((await ask(secret)).status).toBe(200);

    const exported = await command('export', file);
    expect(exported).toMatchObject({ code: 0, stdout: `${file}: 1 tenant, 5 tokens.\n` });
    expect(statSync(file).mode & 0o777).toBe(0o600);
    const text = readFileSync(file, 'utf8');
    for (const { secret } of [reader, signer, rotated]) expect(text).not.toContain(secret.slice(-38));

    await installation.redis.restart({ keepData: false });
    await until(async () => (await ask(reader.secret)).status === 503);
    expect((await send(usedBefore)).status).toBe(503);
    const restored = await command('import', file);
    expect(restored).toMatchObject({ code: 0, stderr: '' });
    expect(restored.stdout).toBe('Restored 1 tenant, 5 tokens; there already: 0 tenants, 0 tokens.\n');

    // The restore has answered: what is signed now is accepted, what was signed before is not, used or not.
    const fresh = sign();
    await until(async () => (await call(`${adminUrl}/readyz`)).status === 200);
    expect((await send(fresh)).status).toBe(200);
    expect(slugOf(await send(fresh))).toBe('replayed-request');
    for (const signed of [usedBefore, unusedBefore, sign(Math.floor(Date.now() / 1000) - 250)]) {
      const answer = await send(signed);
      expect([answer.status, slugOf(answer)]).toEqual([401, 'stale-timestamp']);
    }
    for (const secret of [reader.secret, rotated.secret, second, foreign]) {
      expect((await ask(secret)).status).toBe(200);
    }
    expect(slugOf(await ask(revoked.secret))).toBe('token-revoked');
    const shown = (await installation.command('token', 'show', imported.token.id)) as { foreign: boolean };
    expect(shown.foreign).toBe(true);
    // The quota goes on where it was: two calls of 10 are used.
    const answer = await ask(reader.secret);
    expect(answer.headers['ratelimit']).toContain('"token-month";r=7');
  });
});

describe('a backup', () => {
  let server: RedisServer;
  let opened: Repositories[];
  let repositories: Repositories;
  const masterKey = randomBytes(32).toString('base64');
  let file: string;

  beforeAll(async () => {
    server = await startRedis();
  });
  afterAll(() => server.stop());
  beforeEach(async () => {
    opened = [];
    repositories = await openOne();
    await repositories.redis.flushall();
    file = join(mkdtempSync(join(dir, 'case-')), 'backup.ndjson');
  });
  afterEach(() => Promise.all(opened.map(({ store }) => store.close())));

  const openOne = async (): Promise<Repositories> => {
    const one = await openRepositories(server.url, {
      sealSecret: (plaintext, id) => sealSecret(plaintext, id, parseMasterKeys(masterKey)),
    });
    opened.push(one);
    return one;
  };
  const command = (...args: string[]): Promise<CommandResult> =>
    runInProcess(args, { TOLLKEEPER_REDIS_URL: server.url, TOLLKEEPER_MASTER_KEY: masterKey });
  const exported = (path = file, { store } = repositories): Promise<unknown> => {
    const write = async (text: string): Promise<void> => appendFileSync(path, text);
    return exportBackup(store, {
      tollkeeper: '0.0.0',
      nowMs: Date.now(),
      policy: undefined,
      write,
      progress: () => {},
    });
  };
  const restored = async (
    path = file,
    {
      merge = false,
      key = masterKey,
      signal = new AbortController().signal,
      progress = () => {},
      by = repositories,
    } = {},
  ): Promise<RestoreReport> => {
    const handle = await open(path);
    try {
      const summary = await inspectBackup(handle, key === '' ? undefined : parseMasterKeys(key));
      return await restoreBackup(by.store, handle, summary, { merge, signal, progress });
    } finally {
      await handle.close();
    }
  };
  const created = async (tokens: number): Promise<void> => {
    const { tenants } = repositories;
    for (const slug of ['acme', 'globex']) {
      await tenants.create(draftOf(slug));
      await Promise.all(Array.from({ length: tokens }, () => repositories.tokens.create(slug, tokenDraft())));
    }
  };
  /** Every key of ours that is not of this restore alone, with its contents. */
  const contents = async (): Promise<Record<string, unknown>> => {
    const { redis } = repositories;
    const found: Record<string, unknown> = {};
    for (const key of (await redis.keys('tk:*')).sort()) {
      // The audit log grows with every command, and is not in a backup.
      if (key.startsWith('tk:audit')) continue;
      const type = await redis.type(key);
      if (type === 'hash') {
        const { record, version: _version, tenantVersion: _tenantVersion, ...rest } = await redis.hgetall(key);
        const {
          version: _raised,
          signaturesFrom: _from,
          ...settings
        } = JSON.parse(record ?? '{}') as Record<string, unknown>;
        found[key] = { ...rest, settings };
      } else if (type === 'zset') found[key] = await redis.zrange(key, 0, '-1', 'WITHSCORES');
      else found[key] = await redis.get(key);
    }
    return found;
  };

  test('gives back every key, and versions that no sidecar can have seen', async () => {
    await created(3);
    await repositories.tokens.import('acme', importDraft('ab'.repeat(32)));
    await repositories.tenants.create(draftOf('gone'));
    await repositories.tenants.delete('gone');
    const before = await contents();
    await exported();
    await repositories.redis.flushall();
    await restored();
    expect(await contents()).toEqual(before);
    const [id] = await repositories.redis.zrange(keys.tenantTokens('acme'), 0, '0');
    expect((await repositories.tokens.get(id as string)).version).toBe(1 + versionStep);
    // A tenant that was created after the backup, lost with the data and created again must not repeat a version either.
    for (const slug of ['gone', 'new']) {
      expect((await repositories.tenants.create(draftOf(slug))).version).toBeGreaterThan(versionStep);
    }
    await expect(repositories.tokens.import('acme', importDraft('ab'.repeat(32)))).rejects.toThrow(/already imported/);
  });

  test('brings users and their keys back into an empty Redis, and a merge brings nobody back', async () => {
    const users = new UserRepository(repositories.store);
    const adminKeys = new AdminKeys(repositories.store);
    await created(0);
    const draft = { name: 'ann', role: 'operator', tenant: null, password: 'correct horse battery' } as const;
    const ann = await users.create(draft);
    const { record: key } = await adminKeys.create(ann, { name: 'ci', expiresAt: Date.now() + 86_400_000 });
    await exported();
    const before = await contents();
    await repositories.redis.flushall();
    expect((await restored()).restored).toMatchObject({ user: 1, adminKey: 1 });
    expect(await contents()).toEqual(before);
    expect(await verifyPassword((await users.get('ann')).passwordHash, draft.password)).toBe(true);
    for (const name of [keys.adminKey(key.id), keys.userAdminKeys('ann')]) {
      expect(Math.abs((await repositories.redis.pexpiretime(name)) - key.expiresAt)).toBeLessThan(5000);
    }
    await users.remove('ann');
    await restored(file, { merge: true });
    expect(await users.find('ann')).toBeNull();
    expect(await repositories.redis.keys('tk:*admin-key*')).toEqual([]);
  });

  test('is made of what each record was, while others change and delete', async () => {
    await created(300);
    const other = await openOne();
    const ids = await other.redis.zrange(keys.tenantTokens('acme'), 0, '-1');
    await Promise.all([...ids.slice(0, 100).map((id) => other.tokens.delete(id)), exported()]);
    const handle = await open(file);
    const { counts } = await inspectBackup(handle, undefined);
    await handle.close();
    expect(counts.token).toBeGreaterThanOrEqual(500);
    expect(counts.token).toBeLessThanOrEqual(600);
  });

  test('whose secrets need another master key is refused with the id of that key, and nothing is restored', async () => {
    await created(0);
    await repositories.tokens.create('acme', tokenDraft({ mode: 'hmac' }));
    await exported();
    await repositories.redis.flushall();
    const id = createHash('sha256').update(Buffer.from(masterKey, 'base64')).digest('hex').slice(0, 8);
    const other = randomBytes(32).toString('base64');
    for (const key of ['', other]) await expect(restored(file, { key })).rejects.toThrow(`${id} (1 token)`);
    await expect(restored(file, { key: `${id}:${other}` })).rejects.toThrow('does not open with master key');
    expect(await repositories.redis.dbsize()).toBe(0);
    await restored(file, { key: `${other},${masterKey}` });
  });

  test('is not restored over what is there; --merge adds what is missing and changes nothing', async () => {
    await created(2);
    await exported();
    const [kept, lost] = await repositories.redis.zrange(keys.tenantTokens('acme'), 0, '-1');
    await repositories.tokens.revoke(kept as string);
    await repositories.tokens.delete(lost as string);
    const before = await contents();
    expect(await command('import', file)).toMatchObject({ code: 1, stderr: expect.stringContaining('not empty') });
    expect(await contents()).toEqual(before);
    const merged = await command('import', file, '--merge');
    expect(merged.stdout).toBe('Restored 0 tenants, 1 token; there already: 2 tenants, 3 tokens.\n');
    expect((await repositories.tokens.get(kept as string)).state).toBe('revoked');
    expect((await repositories.tokens.get(lost as string)).state).toBe('active');
    await repositories.redis.flushall();
    await expect(restored(file, { merge: true })).rejects.toThrow('without --merge');
  });

  test('a merge leaves out an imported secret that another token has by now, and says which', async () => {
    await created(0);
    const first = await repositories.tokens.import('acme', importDraft('cd'.repeat(32)));
    await exported();
    await repositories.tokens.delete(first.id);
    const second = await repositories.tokens.import('globex', importDraft('cd'.repeat(32)));
    expect((await restored(file, { merge: true })).conflicts).toEqual([first.id]);
    expect(await repositories.tokens.find(first.id)).toBeNull();
    expect(await repositories.redis.get(keys.foreign('cd'.repeat(32)))).toBe(second.id);
  });

  test('that was broken off half way holds the place, is not taken for complete, and goes on', async () => {
    await created(300);
    const before = await contents();
    await exported();
    await repositories.tenants.create(draftOf('late'));
    const another = `${file}.2`;
    await exported(another);
    await repositories.redis.flushall();

    const broken = new AbortController();
    const half = restored(file, { signal: broken.signal, progress: () => broken.abort() });
    await expect(half).rejects.toThrow(/same file again/);
    expect(await readInstallation(repositories.redis)).toBeNull();
    const some = await repositories.redis.keys('tk:token:*');
    expect(some.length).toBeGreaterThan(0);
    expect(some.length).toBeLessThan(600);
    await expect(repositories.tenants.create(draftOf('new'))).rejects.toThrow(/being restored/);
    await expect(restored(another)).rejects.toThrow(/being restored/);
    expect(await command('token', 'list', '--tenant', 'acme')).toMatchObject({ code: 1 });

    const rest = await restored();
    expect([rest.restored.token, rest.present.token]).toEqual([600 - some.length, some.length]);
    expect(await contents()).toEqual(before);
    expect(await repositories.redis.exists(keys.restore())).toBe(0);
  });

  test('that two restore at once is restored once', async () => {
    await created(200);
    const before = await contents();
    await exported();
    await repositories.redis.flushall();
    const both = await Promise.allSettled([restored(), restored(file, { by: await openOne() })]);
    expect(both.map(({ status }) => status)).toContain('fulfilled');
    // The later one may find it complete already.
    for (const one of both) if (one.status === 'rejected') expect(String(one.reason)).toContain('not empty');
    expect(await contents()).toEqual(before);
  });

  test('does not replace a file unless told to, and leaves none behind when it fails', async () => {
    await created(1);
    writeFileSync(file, 'precious');
    expect(await command('export', file)).toMatchObject({ code: 1, stderr: expect.stringContaining('--force') });
    expect(readFileSync(file, 'utf8')).toBe('precious');
    expect((await command('export', file, '--force')).code).toBe(0);
    const nowhere = await command('export', join(dir, 'no', 'folder'));
    expect(nowhere).toMatchObject({ code: 1, stderr: expect.stringContaining('ENOENT') });
    await repositories.redis.flushall();
    expect(await command('export', join(dir, 'failed'))).toMatchObject({ code: 1 });
    expect(readdirSync(dir).filter((name) => name.startsWith('failed'))).toEqual([]);
  });

  test('carries the policy when asked, and writes it to a new file', async () => {
    await created(0);
    const policy = join(dir, 'policy.yaml');
    writeFileSync(policy, 'policy:\n  default: deny\n');
    const env = { TOLLKEEPER_REDIS_URL: server.url, TOLLKEEPER_POLICY: policy };
    expect((await runCommand(['export', file, '--with-policy'], env)).code).toBe(0);
    const target = `${file}.policy`;
    expect((await command('import', file, '--dry-run', '--policy-to', target)).code).toBe(0);
    expect(readFileSync(target, 'utf8')).toBe(readFileSync(policy, 'utf8'));
    expect(await command('import', file, '--dry-run', '--policy-to', target)).toMatchObject({ code: 1 });
  });
});

const draftOf = (slug: string) => parseTenantDraft({ slug, name: slug, maxTokens: 10_000 });
