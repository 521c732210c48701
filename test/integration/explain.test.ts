/** `explain` against a real sidecar: the same request gets the same verdict, and explaining changes nothing. */
import { createHash, createHmac } from 'node:crypto';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { loadConfig } from '../../src/config/load.js';
import { parseMasterKeys, sealSecret } from '../../src/credential/sealed-secret.js';
import type { RequestDescription } from '../../src/explain/described-request.js';
import { Explainer } from '../../src/explain/explain.js';
import type { Explanation } from '../../src/explain/explanation.js';
import { loadPolicy } from '../../src/policy/load.js';
import { keys } from '../../src/redis/keys.js';
import { type RequestToSign, signRequest } from '../../src/sign/sign.js';
import { parseTenantDraft } from '../../src/tenant/draft.js';
import type { TokenRecord } from '../../src/token/token.js';
import { runCommand } from '../support/cli.js';
import { runInProcess } from '../support/command-line.js';
import { type Installation, type IssuedToken, startInstallation } from '../support/installation.js';
import { rawExchange } from '../support/raw-client.js';
import { importDraft, openRepositories, type Repositories, tokenDraft } from '../support/repositories.js';
import type { Sidecar } from '../support/sidecar.js';
import { until } from '../support/until.js';

const path = '/api/v1/products';
const search = '/api/v1/products/search';
const nowS = (): number => Math.floor(Date.now() / 1000);
const foreignText = 'an-imported-token-of-another-system';

let installation: Installation;
let repositories: Repositories;
let sidecar: Sidecar;
let explainer: Explainer;
/** What an owner of the tenant `safe` asks. */
let ownerOfSafe: Explainer;
const tokens = new Map<string, IssuedToken>();
const token = (name: string): IssuedToken => tokens.get(name) as IssuedToken;

beforeAll(async () => {
  installation = await startInstallation();
  const env = { ...installation.env, TOLLKEEPER_HMAC_MAX_BODY: '1000', TOLLKEEPER_API_KEY_HEADER: 'true' };
  Object.assign(env, { TOLLKEEPER_FOREIGN_TOKENS: 'true', TOLLKEEPER_BODY_MAX_BYTES: '5000' });
  const config = loadConfig({ env });
  const masterKeys = parseMasterKeys(config.masterKey as string);
  const lost = parseMasterKeys(`lost:${Buffer.alloc(32, 99).toString('base64')}`);
  repositories = await openRepositories(installation.redis.url, {
    sealSecret: (plaintext, id) => sealSecret(plaintext, id, masterKeys),
  });
  for (const tenant of [
    { slug: 'acme' },
    { slug: 'safe', requireHttps: true },
    { slug: 'busy', rateLimit: { limit: 1 } },
  ]) {
    await repositories.tenants.create(parseTenantDraft({ name: tenant.slug, maxTokens: 100, ...tenant }));
  }
  const make = async (name: string, fields: object = {}, tenant = 'acme', from = repositories): Promise<void> => {
    const draft = tokenDraft({ name, scopes: ['products:read'], rateLimit: { limit: 10_000 }, ...fields });
    const { record, secret } = await from.tokens.create(tenant, draft);
    tokens.set(name, { id: record.id, secret });
  };
  await make('bearer');
  await make('gone');
  await make('revoked');
  await make('inactive');
  await make('expired');
  await make('rotated');
  await make('graceful');
  await make('grace-over');
  await make('hmac', { mode: 'hmac' });
  await make('hmac-gone', { mode: 'hmac' });
  await make('hmac-graceful', { mode: 'hmac' });
  await make('elsewhere', { allowedIps: ['10.0.0.0/8'] });
  await make('used-up', { rateLimit: { limit: 1 } });
  await make('quota-used-up', { quota: { limit: 1, period: 'month' } });
  await make('poor', { rateLimit: { limit: 3 }, scopes: ['orders:write'] });
  await make('safe', {}, 'safe');
  await make('busy', {}, 'busy');
  const careless = await openRepositories(installation.redis.url, {
    sealSecret: (plaintext, id) => sealSecret(plaintext, id, lost),
  });
  await make('hmac-lost', { mode: 'hmac' }, 'acme', careless);
  await careless.store.close();
  await repositories.tokens.delete(token('gone').id);
  await repositories.tokens.delete(token('hmac-gone').id);
  await repositories.tokens.revoke(token('revoked').id);
  await repositories.tokens.deactivate(token('inactive').id);
  await repositories.tokens.rotate(token('rotated').id, { graceSeconds: 0 });
  await repositories.tokens.rotate(token('graceful').id, { graceSeconds: 3600 });
  await repositories.tokens.rotate(token('hmac-graceful').id, { graceSeconds: 3600 });
  await repositories.tokens.rotate(token('grace-over').id, { graceSeconds: 3600 });
  await alter('expired', { expiresAt: Date.now() - 5000 });
  await alter('grace-over', { previousUntil: Date.now() - 5000 });
  await repositories.tokens.import('acme', importDraft(sha256Hex(foreignText), { scopes: ['products:read'] }));
  sidecar = await installation.sidecar({ env });
  const explainerWithin = (within?: string): Explainer =>
    new Explainer(config, loadPolicy(config.policy), repositories.store, () => {}, within);
  explainer = explainerWithin();
  ownerOfSafe = explainerWithin('safe');
});

afterAll(async () => {
  await repositories.store.close();
  await installation.stop();
});

/** What time would make of a record. */
async function alter(name: string, fields: Partial<TokenRecord>): Promise<void> {
  const client = installation.redis.client();
  const key = keys.token(token(name).id);
  const record = { ...(JSON.parse((await client.hget(key, 'record')) as string) as TokenRecord), ...fields };
  await client.hset(key, 'record', JSON.stringify(record));
}

const sha256Hex = (text: string): string => createHash('sha256').update(text).digest('hex');

type Request = Partial<Omit<RequestDescription, 'body'>> & { readonly body?: string };

const described = (request: Request): RequestDescription => ({
  method: 'GET',
  target: path,
  fields: [],
  peer: '127.0.0.1',
  host: `127.0.0.1:${sidecar.dataPort}`,
  scheme: undefined,
  ...request,
  body: Buffer.from(request.body ?? ''),
});

const explain = (request: Request, tokenId?: string): Promise<Explanation> =>
  explainer.explain(described(request), tokenId);

/** What the sidecar answers: 200 and '' or the status and slug of a refusal, and its detail. */
async function answered(request: Request): Promise<[number | null, string, string]> {
  const { method, target, fields, host, body } = described(request);
  const names = fields.map(([name]) => name.toLowerCase());
  const lines = fields.map(([name, value]) => `${name}: ${value}\r\n`).join('');
  const own = names.includes('host') ? '' : `Host: ${host}\r\n`;
  const framed = names.includes('content-length') || names.includes('transfer-encoding') || body.length === 0;
  const length = framed ? '' : `Content-Length: ${body.length}\r\n`;
  const answer = await rawExchange(
    sidecar.dataPort,
    `${method} ${target} HTTP/1.1\r\n${own}${length}${lines}\r\n${body.toString('latin1')}`,
  );
  if (answer.status === 200) return [null, 'ok', ''];
  const problem = JSON.parse(answer.body.toString()) as { type: string; detail: string };
  return [answer.status, problem.type.replace('https://tollkeeper.dev/problems/', ''), problem.detail];
}

const bearer = (name: string): Request => ({ fields: [['Authorization', `Bearer ${token(name).secret}`]] });

/** Signed by the X-Tollkeeper headers. */
function signed(name: string, request: Partial<RequestToSign> = {}, change: Record<string, string> = {}): Request {
  const { method = 'GET', url = path, body } = request;
  const { headers } = signRequest({ secret: token(name).secret, method, url, ...request });
  const fields = Object.entries({ ...headers, ...change }).filter(([, value]) => value !== '');
  return { method, target: String(url), fields, ...(typeof body === 'string' ? { body } : {}) };
}

let nonces = 0;

/** Signed by RFC 9421, with a nonce of its own. */
function messageSigned(name: string, components = ['@method', '@path', '@query'], created = nowS()): Request {
  const values: Record<string, string> = { '@method': 'GET', '@path': path, '@query': '?' };
  const parameters = `(${components.map((part) => `"${part}"`).join(' ')});created=${created};keyid="${token(name).id}";nonce="${nonces++}"`;
  const base = [...components.map((part) => `"${part}": ${values[part]}`), `"@signature-params": ${parameters}`].join(
    '\n',
  );
  const mac = createHmac('sha256', token(name).secret).update(base).digest('base64');
  const fields = [
    ['Signature-Input', `s=${parameters}`],
    ['Signature', `s=:${mac}:`],
  ] as const;
  return { fields };
}

/** The state in Redis that a request could change: counters and used signatures. */
async function state(): Promise<unknown> {
  const client = installation.redis.client();
  const names = (await client.keys('tk:*')).filter((name) => /^tk:(token|tenant|replay):/.test(name)).sort();
  const contents = async (name: string): Promise<unknown> =>
    name.startsWith('tk:replay:') ? client.expiretime(name) : client.hgetallBuffer(name);
  return Promise.all(names.map(async (name) => [name, await contents(name)]));
}

describe('the verdict is that of the sidecar for a request', () => {
  test.each<[string, () => Request]>([
    ['with a Bearer token', () => bearer('bearer')],
    ['with an API key', () => ({ fields: [['X-API-Key', token('bearer').secret]] })],
    ['with an imported token', () => ({ fields: [['Authorization', `Bearer ${foreignText}`]] })],
    ['with an unknown foreign token', () => ({ fields: [['Authorization', 'Bearer some-unknown-foreign-token']] })],
    ['without a credential', () => ({})],
    ['with two credentials', () => ({ fields: [...(bearer('bearer').fields ?? []), ['X-API-Key', 'x']] })],
    ['with a malformed token', () => ({ fields: [['Authorization', `Bearer ${token('bearer').secret}x`]] })],
    ['with Basic credentials', () => ({ fields: [['Authorization', 'Basic YTpi']] })],
    ['with a deleted token', () => bearer('gone')],
    ['with a revoked token', () => bearer('revoked')],
    ['with a token that is switched off', () => bearer('inactive')],
    ['with an expired token', () => bearer('expired')],
    ['with an expired token without scope', () => ({ ...bearer('expired'), target: '/api/v1/admin/tokens' })],
    ['with a rotated secret', () => bearer('rotated')],
    ['with a rotated secret in grace', () => bearer('graceful')],
    ['with a rotated secret after its grace', () => bearer('grace-over')],
    ['with a signing token as Bearer', () => bearer('hmac')],
    ['on plain HTTP where HTTPS is asked for', () => bearer('safe')],
    ['from an address that is not allowed', () => bearer('elsewhere')],
    ['without the scope', () => ({ ...bearer('bearer'), target: '/api/v1/admin/tokens' })],
    ['to no route', () => ({ ...bearer('bearer'), target: '/nowhere' })],
    ['to no route, without a credential', () => ({ target: '/nowhere' })],
    ['by a method the route has not', () => ({ ...bearer('bearer'), method: 'DELETE' })],
    ['by a method that is never forwarded', () => ({ ...bearer('bearer'), method: 'TRACE' })],
    ['to a public route', () => ({ target: '/status' })],
    ['that asks about itself', () => ({ ...bearer('bearer'), target: '/.well-known/tollkeeper' })],
    ['with a respelt path', () => ({ ...bearer('bearer'), target: '/api/v1/product%73?a=%20' })],
    ['with a trailing slash', () => ({ ...bearer('bearer'), target: `${path}/` })],
    ['with dot segments', () => ({ ...bearer('bearer'), target: '/status/../api/v1/admin/tokens' })],
    ['with a bad query', () => ({ ...bearer('bearer'), target: `${path}?a="` })],
    [
      'with a body that is too large',
      () => ({ ...bearer('bearer'), method: 'POST', target: search, body: 'x'.repeat(5001) }),
    ],
    [
      'in chunks',
      () => ({ ...bearer('bearer'), method: 'POST', target: search, fields: [['Transfer-Encoding', 'chunked']] }),
    ],
    ['with two hosts', () => ({ fields: [...(bearer('bearer').fields ?? []), ['Host', 'a'], ['Host', 'b']] })],
    ['with a signature', () => signed('hmac')],
    ['with a signed body', () => signed('hmac', { method: 'POST', url: search, body: '{"a":1}' })],
    ['with another body', () => ({ ...signed('hmac', { method: 'POST', url: search, body: 'a' }), body: 'b' })],
    [
      'with a signed body that is too large',
      () => signed('hmac', { method: 'POST', url: search, body: 'x'.repeat(1001) }),
    ],
    ['with a wrong signature', () => signed('hmac', {}, { 'X-Tollkeeper-Signature': '0'.repeat(64) })],
    ['with half a signature', () => signed('hmac', {}, { 'X-Tollkeeper-Timestamp': '' })],
    ['with an old signature', () => signed('hmac', { timestamp: nowS() - 400 })],
    ['with an early signature', () => signed('hmac', { timestamp: nowS() + 400 })],
    ['with a signature by a Bearer token', () => signed('bearer')],
    ['with a signature by a deleted token', () => signed('hmac-gone')],
    ['with a signature by a secret in grace', () => signed('hmac-graceful')],
    ['with a signature whose secret cannot be opened', () => signed('hmac-lost')],
    ['with a message signature', () => messageSigned('hmac')],
    ['with a message signature of less', () => messageSigned('hmac', ['@method', '@path'])],
    ['with an old message signature', () => messageSigned('hmac', ['@method', '@path', '@query'], nowS() - 400)],
    ['over its cost', () => ({ ...bearer('poor'), method: 'POST', target: '/api/v1/orders/7/retry' })],
  ])('%s', async (_, make) => {
    const request = make();
    const before = await state();
    const explanation = await explain(request);
    expect(await state()).toEqual(before);
    const { status, outcome, detail, admitted } = explanation.verdict;
    const [realStatus, realOutcome, realDetail] = await answered(request);
    expect([status, outcome, admitted ? '' : detail]).toEqual([realStatus, realOutcome, realDetail]);
    const failed = explanation.checks.find(({ result }) => result === 'fail');
    expect(failed?.problem ?? 'ok').toBe(realOutcome);
    expect(JSON.stringify(explanation)).not.toContain('tk_live_');
  });

  test.each(['used-up', 'quota-used-up', 'busy'])('whose limit is used up: %s', async (name) => {
    for (const expected of ['ok', expect.stringMatching(/rate-limit-exceeded|quota-exceeded/) as string]) {
      const explanation = await explain(bearer(name));
      const [status, outcome, detail] = await answered(bearer(name));
      expect(outcome).toEqual(expected);
      expect([explanation.verdict.status, explanation.verdict.outcome]).toEqual([status, outcome]);
      if (status !== null) expect(explanation.verdict.detail).toBe(detail);
    }
    const { limits } = await explain(bearer(name));
    expect(limits.some(({ remaining }) => remaining === 0)).toBe(true);
  });

  test.each(['hmac', 'rfc9421'])('whose signature was used before: %s', async (form) => {
    const request = form === 'hmac' ? signed('hmac') : messageSigned('hmac');
    expect((await explain(request)).verdict.outcome).toBe('ok');
    expect((await explain(request)).verdict.outcome).toBe('ok');
    expect((await answered(request))[1]).toBe('ok');
    const again = await explain(request);
    expect([again.verdict.outcome, (await answered(request))[1]]).toEqual(['replayed-request', 'replayed-request']);
    expect(again.checks.find(({ check }) => check === 'replay')).toMatchObject({
      result: 'fail',
      found: 'used before',
    });
  });
});

test('an owner is told the same of a token of another tenant as of one that there is not', async () => {
  const told = async (request: Request): Promise<unknown> => {
    const { verdict, token: seen, checks } = await ownerOfSafe.explain(described(request));
    return { verdict, seen, checks: checks.map(({ check, result }) => [check, result]) };
  };
  const wrong = { 'X-Tollkeeper-Signature': '0'.repeat(64), 'X-Tollkeeper-Timestamp': String(nowS()) };
  for (const make of [
    (name: string) => signed(name, {}, { ...wrong, 'X-Tollkeeper-Token': token(name).id }),
    (name: string) => messageSigned(name),
    (name: string) => bearer(name),
  ]) {
    const theirs = await told(make('hmac'));
    expect(theirs).toMatchObject({ seen: null, verdict: { status: 401 } });
    expect(theirs).toEqual(await told(make('hmac-gone')));
  }
  expect((await ownerOfSafe.explain(described({}), token('bearer').id)).verdict.outcome).toBe('invalid-token');
  const foreign = await ownerOfSafe.explain(described({ fields: [['Authorization', `Bearer ${foreignText}`]] }));
  expect([foreign.token, foreign.verdict.outcome]).toEqual([null, 'invalid-token']);
  expect(JSON.stringify(foreign)).toContain('no token was imported');
  expect((await ownerOfSafe.explain(described(bearer('safe')))).token).toMatchObject({ tenant: 'safe' });
});

describe('an explanation', () => {
  const checkOf = (explanation: Explanation, name: string) => explanation.checks.find(({ check }) => check === name);

  test('by the id of a token takes its secret for shown and makes every other check', async () => {
    const explanation = await explain({ target: '/api/v1/admin/tokens' }, token('bearer').id);
    expect(explanation.verdict).toMatchObject({ admitted: false, status: 403, outcome: 'insufficient-scope' });
    expect(checkOf(explanation, 'secret')).toMatchObject({ result: 'assumed' });
    expect(checkOf(explanation, 'scope')?.found).toBe('needs admin:all; the token has products:read');
    expect(explanation.token).toMatchObject({ id: token('bearer').id, tenant: 'acme', mode: 'bearer' });
    expect(explanation.limits).toEqual([
      { name: 'token-60s', limit: 10_000, remaining: expect.any(Number), resetS: expect.any(Number) },
    ]);
    const both = await explain({ target: '/api/v1/admin/tokens' }, token('elsewhere').id);
    expect(both.checks.filter(({ result }) => result === 'fail').map(({ check }) => check)).toEqual([
      'address',
      'scope',
    ]);
    expect(both.verdict.outcome).toBe('address-not-allowed');
    expect((await explain({}, token('revoked').id)).verdict.outcome).toBe('token-revoked');
    expect((await explain({}, token('expired').id)).verdict.outcome).toBe('token-expired');
    expect((await explain({}, token('gone').id)).verdict.outcome).toBe('invalid-token');
  });

  test('says where a path that is not in its normal form fares otherwise', async () => {
    const found = checkOf(await explain({ target: '/api/v1/products/%41' }, token('bearer').id), 'path')?.found;
    expect(found).toMatch(/%41, sent on as .*\/A; where a proxy asks, 400/);
  });

  test('of a signing token shows what is to be signed, and never a signature', async () => {
    const assumed = await explain({ target: `${path}?b=1&a=2` }, token('hmac').id);
    expect(assumed.verdict.admitted).toBe(true);
    const lines = assumed.signature?.canonicalString.split('\n') ?? [];
    expect([lines[0], lines[1], lines[3]]).toEqual(['GET', `${path}?b=1&a=2`, sha256Hex('')]);
    expect(assumed.signature?.matches).toBeNull();
    const own = createHmac('sha256', token('hmac').secret).update(lines.join('\n')).digest('hex');
    expect(JSON.stringify(assumed)).not.toContain(own);
    expect((await explain({}, token('hmac-lost').id)).verdict.outcome).toBe('store-unavailable');
  });

  test('of a signature says whether it is one of the text that it shows', async () => {
    const request = signed('hmac', { method: 'POST', url: search, body: '{}', nonce: 'n', timestamp: nowS() });
    const right = await explain(request);
    expect(right.signature).toMatchObject({ form: 'hmac', matches: true });
    expect(right.signature?.canonicalString).toBe(
      signRequest({
        secret: token('hmac').secret,
        method: 'POST',
        url: search,
        body: '{}',
        nonce: 'n',
        timestamp: nowS(),
      }).canonicalString,
    );
    const wrong = await explain({ ...request, target: `${search}?x` });
    expect(wrong.signature).toMatchObject({ matches: false });
    expect(wrong.signature?.canonicalString).toContain(`${search}?x\n`);
    const message = await explain(messageSigned('hmac'));
    expect(message.signature).toMatchObject({ form: 'rfc9421', matches: true });
    expect(message.signature?.canonicalString).toMatch(/^"@method": GET\n"@path": \/api/);
    const half = await explain(signed('hmac', { timestamp: 1_700_000_000 }, { 'X-Tollkeeper-Signature': '' }));
    expect(half.signature?.canonicalString.split('\n')[2]).toBe('1700000000');
  });
});

describe('on the command line', () => {
  const run = (...args: string[]) => runInProcess(['explain', ...args], installation.env);

  test('prints every check and the verdict; a refusal is an answer, exit code 0', async () => {
    const { code, stdout } = await run('--token', token('bearer').id, '--request', 'GET /api/v1/admin/tokens');
    expect(code).toBe(0);
    expect(stdout).toMatch(/^scope +fail: insufficient-scope +needs admin:all/m);
    expect(stdout.trimEnd().split('\n').at(-1)).toBe('403 insufficient-scope: This route needs the scope admin:all.');
    const admitted = await run(
      '--token',
      token('safe').id,
      '--request',
      `GET https://store.example.com${path}`,
      '--json',
    );
    expect(JSON.parse(admitted.stdout)).toMatchObject({
      verdict: { admitted: true },
      request: { host: 'store.example.com', scheme: 'https' },
    });
  });

  test('reads headers and bodies from files, and shows the text to be signed', async () => {
    const dir = mkdtempSync(join(tmpdir(), 'tk-explain-'));
    try {
      writeFileSync(join(dir, 'body'), '{}');
      const request = signed('hmac', { method: 'POST', url: search, body: '{}' });
      const headers = (request.fields ?? []).flatMap(([name, value]) => ['--header', `${name}: ${value}`]);
      const signedRun = await run('--request', `POST ${search}`, ...headers, '--body-file', join(dir, 'body'));
      expect(signedRun.stdout).toContain("The signature given is one of this text under the token's secret.");
      expect(signedRun.stdout).toContain(`  POST\n  ${search}\n`);
      writeFileSync(join(dir, 'headers'), `Authorization: Bearer ${token('bearer').secret}\r\n`);
      const bearerRun = await run('--request', `GET ${path}`, '--headers-file', join(dir, 'headers'));
      expect(bearerRun.stdout).toMatch(/^secret +pass/m);
      expect(bearerRun.stdout).not.toContain(token('bearer').secret);
    } finally {
      rmSync(dir, { recursive: true, force: true });
    }
  });

  test.each([
    ['a secret as an argument', ['--request', 'GET /', '--header', 'Authorization: Bearer CANARY']],
    ['no request', ['--token', 'ACyXamQ8gI07']],
    ['a request without a target', ['--request', 'GET']],
    ['a token that is no id', ['--request', 'GET /', '--token', 'tk_live_CANARY']],
    ['an address that is none', ['--request', 'GET /', '--ip', '10.1']],
    ['a host that is none', ['--request', 'GET /', '--host', 'a b']],
    ['a header that is none', ['--request', 'GET /', '--header', 'CANARY']],
    ['a file that is not there', ['--request', 'GET /', '--body-file', '/no/such/file']],
  ])('%s is wrong usage, in one sentence', async (_, args) => {
    const { code, stderr } = await run(...args);
    expect(code).toBe(2);
    expect(stderr).toMatch(/^tollkeeper: .*\.\n$/);
    expect(stderr).not.toContain('CANARY');
  });

  test('asks for the host where it names the tenant', async () => {
    const env = { ...installation.env, TOLLKEEPER_TENANT_HOST: '*.example.com' };
    const args = ['explain', '--token', token('bearer').id, '--request', `GET ${path}`];
    expect((await runCommand(args, env)).code).toBe(2);
    const other = await runCommand([...args, '--host', 'safe.example.com'], env);
    expect(other.stdout).toMatch(/^tenant +fail: tenant-mismatch/m);
  });

  test('finds a request in the access log by its id, with what its outcome means', async () => {
    const id = `explained-${nowS()}`;
    await answered({
      ...bearer('bearer'),
      target: '/api/v1/admin/tokens',
      fields: [...(bearer('bearer').fields ?? []), ['X-Request-Id', id]],
    });
    let found = '';
    await until(async () => {
      const { code, stdout } = await run('--request-id', id, '--json');
      found = stdout;
      return code === 0;
    });
    expect((JSON.parse(found) as { entries: unknown[] }).entries).toEqual([
      expect.objectContaining({
        requestId: id,
        status: 403,
        outcome: 'insufficient-scope',
        tokenId: token('bearer').id,
        problem: expect.objectContaining({ title: 'The token lacks the scope this route needs' }) as unknown,
      }),
    ]);
    const text = await run('--request-id', id);
    expect(text.stdout).toMatch(/^what to do +Ask for the scope that the detail names\./m);
    const none = await run('--request-id', 'never-seen', '--since', '10m');
    expect([none.code, none.stderr]).toEqual([1, expect.stringContaining('--since')]);
  });
});
