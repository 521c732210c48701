/** Replacing the master key: every secret moves while requests go on, and doctor says what is missing before and after. */
import { randomBytes } from 'node:crypto';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import type { Check } from '../../src/cli/doctor-check.js';
import { parseMasterKeys, sealingKeyId, sealSecret } from '../../src/credential/sealed-secret.js';
import { keys } from '../../src/redis/keys.js';
import { signRequest } from '../../src/sign/sign.js';
import { parseTenantDraft } from '../../src/tenant/draft.js';
import { decodeTokenRecord, type TokenRecord } from '../../src/token/token.js';
import type { CommandResult } from '../support/cli.js';
import { runInProcess } from '../support/command-line.js';
import { call, slugOf } from '../support/http-client.js';
import { type Installation, type IssuedToken, startInstallation } from '../support/installation.js';
import { openRepositories, type Repositories, tokenDraft } from '../support/repositories.js';
import type { LogLine, Sidecar } from '../support/sidecar.js';
import { until } from '../support/until.js';

const oldKey = `old:${Buffer.alloc(32, 1).toString('base64')}`;
const newKey = `new:${Buffer.alloc(32, 2).toString('base64')}`;
const lostKey = `lost:${Buffer.alloc(32, 3).toString('base64')}`;
const path = '/api/v1/products';

let installation: Installation;
let repositories: Repositories;

beforeAll(async () => {
  installation = await startInstallation();
  repositories = await opened(oldKey);
  await installation.tenant('acme', '--max-tokens', '1000');
  await installation.tenant('other', '--max-tokens', '10');
});

afterAll(async () => {
  await repositories.store.close();
  await installation.stop();
});

function opened(masterKey: string): Promise<Repositories> {
  const sealing = parseMasterKeys(masterKey);
  return openRepositories(installation.redis.url, {
    sealSecret: (plaintext, tokenId) => sealSecret(plaintext, tokenId, sealing),
  });
}

const command = (masterKey: string, ...args: string[]): Promise<CommandResult> =>
  runInProcess(args, { ...installation.env, TOLLKEEPER_MASTER_KEY: masterKey });

async function rekey(masterKey: string, ...flags: string[]): Promise<{ code: number; stderr: string; report: Report }> {
  const { code, stdout, stderr } = await command(masterKey, 'token', 'rekey', '--json', ...flags);
  return { code, stderr, report: JSON.parse(stdout) as Report };
}

interface Report {
  readonly masterKey: string;
  readonly dryRun: boolean;
  readonly moved: number;
  readonly current: number;
  readonly left: readonly { readonly id: string; readonly message: string }[];
}

async function doctor(masterKey: string | undefined): Promise<Check> {
  const env = { ...installation.env, TOLLKEEPER_MASTER_KEY: masterKey ?? '' };
  const { stdout } = await runInProcess(['doctor', '--json'], env);
  const { checks } = JSON.parse(stdout) as { checks: Check[] };
  return checks.find(({ check }) => check === 'masterKey') as Check;
}

const issue = async (tenant: string, from = repositories): Promise<IssuedToken> => {
  const scopes = ['products:read'];
  const { record, secret } = await from.tokens.create(tenant, tokenDraft({ mode: 'hmac', scopes }));
  return { id: record.id, secret };
};

async function recordOf(id: string): Promise<TokenRecord> {
  const json = await installation.redis.client().hget(keys.token(id), 'record');
  return decodeTokenRecord(json as string);
}

describe('doctor', () => {
  test('wants no master key without HMAC tokens, and names the one that is missing with them', async () => {
    expect(await doctor(undefined)).toMatchObject({ status: 'ok' });
    await issue('acme');
    expect(await doctor(oldKey)).toMatchObject({ status: 'ok', found: 'opens all 1 HMAC tokens' });
    expect(await doctor(undefined)).toMatchObject({ status: 'fail', todo: expect.stringContaining('id old') });
    const wrong = await doctor(newKey);
    expect(wrong).toMatchObject({ status: 'fail', found: '1 of 1 HMAC tokens cannot be opened' });
    expect(wrong.todo).toContain('id old');
    const impostor = `old:${Buffer.alloc(32, 9).toString('base64')}`;
    expect(await doctor(impostor)).toMatchObject({ status: 'fail', todo: expect.stringContaining('same id') });
    expect(await doctor(`${newKey},${oldKey}`)).toMatchObject({
      status: 'warn',
      todo: expect.stringContaining('rekey'),
    });
  });
});

describe('token rekey', () => {
  test('moves every secret while requests are signed with it, and can then do without the old key', async () => {
    const tokens = await Promise.all(Array.from({ length: 250 }, (_, at) => issue(at % 50 === 0 ? 'other' : 'acme')));
    await repositories.tokens.create('acme', tokenDraft({ mode: 'bearer' }));
    const graceful = tokens[0] as IssuedToken;
    const rotated = await repositories.tokens.rotate(graceful.id, { graceSeconds: 3600 });
    const signer = await installation.token('acme', '--mode', 'hmac', '--limit', '100000');
    // Sealed under the installation's own key, which is a third one.
    const third = installation.env.TOLLKEEPER_MASTER_KEY as string;
    const all = `${newKey},${oldKey},${third}`;
    const sidecar = await installation.sidecar({ env: { TOLLKEEPER_MASTER_KEY: all } });
    const statusOf = async (secret: string): Promise<number> => {
      const { headers } = signRequest({ secret, method: 'GET', url: path });
      return (await call(sidecar.dataUrl + path, { headers })).status;
    };

    const dry = await rekey(all, '--dry-run');
    expect(dry).toMatchObject({
      code: 0,
      report: { masterKey: 'new', dryRun: true, moved: 252, current: 0, left: [] },
    });
    expect(sealingKeyId((await recordOf(signer.id)).sealedSecret as string)).not.toBe('new');

    const moving = rekey(all);
    let running = true;
    const done = moving.finally(() => {
      running = false;
    });
    const seen = new Set<number>();
    while (running) seen.add(await statusOf(signer.secret));
    const { code, stderr, report } = await done;
    expect({ code, report }).toMatchObject({ code: 0, report: { dryRun: false, moved: 252, current: 0, left: [] } });
    expect(stderr.trim().split('\n').length).toBe(3);
    expect([...seen]).toEqual([200]);

    const record = await recordOf(graceful.id);
    expect(sealingKeyId(record.sealedSecret as string)).toBe('new');
    expect(sealingKeyId(record.previousSealedSecret as string)).toBe('new');
    expect(await statusOf(graceful.secret)).toBe(200);
    expect(await statusOf(rotated.secret)).toBe(200);
    expect(await doctor(newKey)).toMatchObject({ status: 'ok', found: 'opens all 252 HMAC tokens' });
    expect(await rekey(newKey)).toMatchObject({ code: 0, report: { moved: 0, current: 252, left: [] } });
  });

  test('leaves and names what it cannot open, moves the rest, ends with 1 and shows no secret', async () => {
    const lost = await opened(lostKey);
    const unknown = await issue('acme', lost);
    await lost.store.close();
    const altered = await issue('acme');
    const client = installation.redis.client();
    const record = await recordOf(altered.id);
    const sealedSecret = `${record.sealedSecret?.slice(0, -2)}AA`;
    await client.hset(keys.token(altered.id), 'record', JSON.stringify({ ...record, sealedSecret }));
    const sound = await issue('acme');

    const { code, stderr, report } = await rekey(`${newKey},${oldKey}`);
    expect(code).toBe(1);
    expect(report).toMatchObject({ moved: 1, current: 252 });
    expect(report.left.map(({ id }) => id).sort()).toEqual([unknown.id, altered.id].sort());
    expect(sealingKeyId((await recordOf(unknown.id)).sealedSecret as string)).toBe('lost');
    expect(sealingKeyId((await recordOf(sound.id)).sealedSecret as string)).toBe('new');
    for (const { id } of report.left) expect(stderr).toContain(id);
    expect(stderr).not.toContain(sealedSecret);

    // With the key found again it goes on where it stopped.
    await installation.command('token', 'delete', altered.id);
    expect(await rekey(`${newKey},${lostKey}`)).toMatchObject({
      code: 0,
      report: { moved: 1, current: 253, left: [] },
    });
  });

  test('does not undo a rotation that comes in between', async () => {
    const token = await issue('acme');
    const again = await opened(oldKey);
    const secrets = parseMasterKeys(`${newKey},${oldKey}`);
    const running = rekey(`${newKey},${oldKey}`);
    const { secret } = await again.tokens.rotate(token.id, { graceSeconds: 0 });
    expect((await running).code).toBe(0);
    await again.store.close();
    await rekey(`${newKey},${oldKey}`);
    const { sealedSecret, rotatedAt } = await recordOf(token.id);
    expect(rotatedAt).not.toBeNull();
    expect(sealSecret(secret, token.id, secrets).split('.')[1]).toBe((sealedSecret as string).split('.')[1]);
    const sidecar = await installation.sidecar({ env: { TOLLKEEPER_MASTER_KEY: newKey } });
    const { headers } = signRequest({ secret, method: 'GET', url: path });
    expect((await call(sidecar.dataUrl + path, { headers })).status).toBe(200);
  });

  test('drops a secret under another key once its grace is over', async () => {
    const token = await issue('acme');
    await repositories.tokens.rotate(token.id, { graceSeconds: 3600 });
    const record = await recordOf(token.id);
    const over = { ...record, previousUntil: Date.now() - 5000 };
    await installation.redis.client().hset(keys.token(token.id), 'record', JSON.stringify(over));
    expect((await rekey(`${newKey},${oldKey}`)).code).toBe(0);
    const moved = await recordOf(token.id);
    expect(moved.previousSealedSecret).toBeNull();
    expect(sealingKeyId(moved.sealedSecret as string)).toBe('new');
  });

  test('without a master key says how to set one', async () => {
    const { code, stderr } = await command('', 'token', 'rekey');
    expect(code).toBe(1);
    expect(stderr).toContain('TOLLKEEPER_MASTER_KEY');
  });
});

test('hundreds of tenants are scanned whole', async () => {
  const slugs = Array.from({ length: 300 }, () => `t-${randomBytes(6).toString('hex')}`);
  for (const slug of slugs) await repositories.tenants.create(parseTenantDraft({ slug, name: slug }));
  await Promise.all(slugs.map((slug) => issue(slug)));
  const { report } = await rekey(`${newKey},${oldKey}`, '--dry-run');
  expect(report.moved).toBe(300);
});

describe('a secret that a sidecar cannot open', () => {
  let sidecar: Sidecar;
  let known: Repositories;
  let lost: Repositories;
  let good: IssuedToken;

  beforeAll(async () => {
    sidecar = await installation.sidecar({ env: { TOLLKEEPER_MASTER_KEY: newKey } });
    [known, lost] = await Promise.all([opened(newKey), opened(lostKey)]);
    good = await issue('other', known);
  });

  afterAll(() => Promise.all([known.store.close(), lost.store.close()]));

  const send = async (secret: string): Promise<[number, string]> => {
    const answer = await call(sidecar.dataUrl + path, {
      headers: signRequest({ secret, method: 'GET', url: path }).headers,
    });
    return [answer.status, slugOf(answer)];
  };
  const change = async (id: string, changes: Partial<TokenRecord>): Promise<void> => {
    const client = installation.redis.client();
    const record = { ...(await recordOf(id)), ...changes };
    record.version++;
    await client.hset(keys.token(id), { record: JSON.stringify(record), version: record.version });
    client.disconnect();
  };
  const outage: [number, string] = [503, 'store-unavailable'];

  test('is an outage and no 401, and the log says so once, however often it is asked', async () => {
    const sealed = await issue('other', lost);
    for (let at = 0; at < 5; at++) expect(await send(sealed.secret)).toEqual(outage);
    const told = (): LogLine[] => sidecar.logs().filter(({ msg }) => String(msg).includes(sealed.id));
    await until(() => told().length > 0);
    expect(told().map(({ msg }) => msg)).toEqual([expect.stringContaining('TOLLKEEPER_MASTER_KEY')]);
    expect(await send(good.secret)).toEqual([200, '']);
  });

  test('is the secret of another token, whoever copied it there: neither secret signs for it', async () => {
    const victim = await issue('other', known);
    const { sealedSecret } = await recordOf(good.id);
    await change(victim.id, { sealedSecret });
    const moved = good.secret.replace(good.id, victim.id);
    for (const secret of [victim.secret, moved]) expect(await send(secret)).toEqual(outage);
    const { headers } = signRequest({ secret: good.secret, method: 'GET', url: path });
    const borrowed = await call(sidecar.dataUrl + path, { headers: { ...headers, 'X-Tollkeeper-Token': victim.id } });
    expect([borrowed.status, slugOf(borrowed)]).toEqual(outage);
  });

  test('of before a rotation is an outage to who signs with it while its grace lasts, and 401 later', async () => {
    const rotated = await issue('other', known);
    const unknown = sealSecret(rotated.secret, rotated.id, parseMasterKeys(lostKey));
    const fresh = await issue('other', known);
    const previous = { previousSealedSecret: unknown };
    await change(fresh.id, { ...previous, previousUntil: Date.now() + 3_600_000 });
    expect(await send(fresh.secret)).toEqual([200, '']);
    expect(await send(rotated.secret.replace(rotated.id, fresh.id))).toEqual(outage);
    await change(fresh.id, { ...previous, previousUntil: Date.now() - 1 });
    expect(await send(rotated.secret.replace(rotated.id, fresh.id))).toEqual([401, 'invalid-signature']);
    expect(await send(fresh.secret)).toEqual([200, '']);
  });
});
