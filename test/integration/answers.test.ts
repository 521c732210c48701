/** What a caller gets: every refusal of the main path with its exact status, slug and headers, and what goes upstream. */
import { createHash } from 'node:crypto';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { call, slugOf } from '../support/http-client.js';
import { type Installation, type IssuedToken, startInstallation } from '../support/installation.js';
import { freePort } from '../support/ports.js';
import type { Sidecar } from '../support/sidecar.js';

let installation: Installation;
let sidecar: Sidecar;
let reader: IssuedToken;

beforeAll(async () => {
  installation = await startInstallation();
  await installation.tenant('acme');
  reader = await installation.token('acme', '--name', 'reader', '--subject', 'customer-7');
  sidecar = await installation.sidecar();
});

afterAll(() => installation.stop());

const products = (): string => `${sidecar.dataUrl}/api/v1/products`;

describe('an admitted request', () => {
  test('is answered with what the upstream said, the request id and the limit', async () => {
    const answer = await call(products(), { token: reader.secret, headers: { 'x-request-id': 'my-own-id-1' } });
    expect(answer.status).toBe(200);
    expect(answer.headers['x-request-id']).toBe('my-own-id-1');
    expect(answer.headers['x-ratelimit-limit']).toBe('60');
    expect(Number(answer.headers['x-ratelimit-remaining'])).toBeLessThan(60);
    expect(Number(answer.headers['x-ratelimit-reset'])).toBeGreaterThan(0);
    expect(String(answer.headers['ratelimit-policy'])).toContain('q=60;w=60');
    expect(String(answer.headers['ratelimit'])).toMatch(/;r=\d+;t=\d+$/);
    expect(answer.headers['uwebsockets']).toBeUndefined();
  });

  test('reaches the upstream with our identity headers and without the credential or what imitates them', async () => {
    const before = installation.upstream.requests.length;
    await call(`${products()}?q=a%20b&x=`, {
      token: reader.secret,
      headers: {
        'x-tollkeeper-scopes': 'admin:all',
        'x-forwarded-for': '10.9.8.7',
        'x-http-method-override': 'DELETE',
        'x-kept': 'yes',
      },
    });
    const seen = installation.upstream.requests[before];
    expect(seen?.url).toBe('/api/v1/products?q=a%20b&x=');
    expect(seen?.headers).toMatchObject({
      'x-tollkeeper-token-id': reader.id,
      'x-tollkeeper-tenant': 'acme',
      'x-tollkeeper-scopes': 'products:read',
      'x-tollkeeper-subject': 'customer-7',
      'x-forwarded-for': '127.0.0.1',
      'x-forwarded-proto': 'http',
      'x-kept': 'yes',
    });
    expect(seen?.headers.authorization).toBeUndefined();
    expect(seen?.headers['x-http-method-override']).toBeUndefined();
  });

  test('may carry a body, which arrives byte for byte', async () => {
    const body = Buffer.from(Array.from({ length: 100_000 }, (_, at) => at % 251));
    const before = installation.upstream.requests.length;
    const answer = await call(`${products()}/search`, { method: 'POST', token: reader.secret, body });
    expect(answer.status).toBe(200);
    expect(installation.upstream.requests[before]?.body.equals(body)).toBe(true);
  });
});

describe('a refusal', () => {
  test('without a credential is 401 missing-credentials with a bare challenge', async () => {
    const answer = await call(products());
    expect([answer.status, slugOf(answer)]).toEqual([401, 'missing-credentials']);
    expect(answer.headers['www-authenticate']).toBe('Bearer realm="tollkeeper"');
    expect(answer.headers['content-type']).toBe('application/problem+json');
    expect(answer.json()).toMatchObject({ status: 401, instance: answer.headers['x-request-id'] });
  });

  test('of a wrong secret and of an unknown id are the same 401 invalid-token', async () => {
    const stranger = await installation.token('acme', '--name', 'to-delete');
    await installation.command('token', 'delete', stranger.id);
    const unknown = await call(products(), { token: stranger.secret });
    expect([unknown.status, slugOf(unknown)]).toEqual([401, 'invalid-token']);
    expect(unknown.headers['www-authenticate']).toContain('error="invalid_token"');

    const rotated = await installation.token('acme', '--name', 'to-rotate');
    expect((await call(products(), { token: rotated.secret })).status).toBe(200);
    const { secret } = (await installation.command('token', 'rotate', rotated.id)) as { secret: string };
    const old = await call(products(), { token: rotated.secret });
    expect([old.status, slugOf(old)]).toEqual([401, 'invalid-token']);
    expect(old.json().detail).toBe(unknown.json().detail);
    expect((await call(products(), { token: secret })).status).toBe(200);
  });

  test('of a rotated secret comes only after its grace', async () => {
    const token = await installation.token('acme', '--name', 'graceful');
    const { secret } = (await installation.command('token', 'rotate', token.id, '--grace', '3600')) as {
      secret: string;
    };
    expect((await call(products(), { token: token.secret })).status).toBe(200);
    expect((await call(products(), { token: secret })).status).toBe(200);
  });

  test('of a revoked, an inactive and an expired token names which', async () => {
    const token = await installation.token('acme', '--name', 'switched');
    await installation.command('token', 'deactivate', token.id);
    const inactive = await call(products(), { token: token.secret });
    expect([inactive.status, slugOf(inactive)]).toEqual([401, 'token-inactive']);
    await installation.command('token', 'activate', token.id);
    expect((await call(products(), { token: token.secret })).status).toBe(200);
    await installation.command('token', 'revoke', token.id);
    const revoked = await call(products(), { token: token.secret });
    expect([revoked.status, slugOf(revoked)]).toEqual([401, 'token-revoked']);

    const soon = new Date(Date.now() + 3000).toISOString();
    const brief = await installation.token('acme', '--name', 'brief', '--expires-at', soon);
    await expect
      .poll(async () => slugOf(await call(products(), { token: brief.secret })), { interval: 50 })
      .toBe('token-expired');
  });

  test('for a missing scope is 403 insufficient-scope and names it in the challenge', async () => {
    const answer = await call(`${sidecar.dataUrl}/api/v1/admin/tokens`, { token: reader.secret });
    expect([answer.status, slugOf(answer)]).toEqual([403, 'insufficient-scope']);
    expect(answer.headers['www-authenticate']).toContain('error="insufficient_scope"');
    expect(answer.headers['www-authenticate']).toContain('scope="admin:all"');
  });

  test('for a path no route has is 403, for another method of a route 405 with Allow', async () => {
    const path = await call(`${sidecar.dataUrl}/api/v2/products`, { token: reader.secret });
    expect([path.status, slugOf(path)]).toEqual([403, 'route-not-allowed']);
    const method = await call(products(), { method: 'DELETE', token: reader.secret });
    expect([method.status, slugOf(method)]).toEqual([405, 'method-not-allowed']);
    expect(method.headers['allow']).toBe('GET, HEAD');
  });

  test('charges nothing: a limit of one is still whole after many refusals', async () => {
    const token = await installation.token('acme', '--name', 'untouched', '--limit', '1', '--window', '3600');
    for (let i = 0; i < 5; i++) {
      expect((await call(`${sidecar.dataUrl}/api/v1/admin/tokens`, { token: token.secret })).status).toBe(403);
    }
    expect((await call(products(), { token: token.secret })).status).toBe(200);
    const limited = await call(products(), { token: token.secret });
    expect([limited.status, slugOf(limited)]).toEqual([429, 'rate-limit-exceeded']);
    expect(limited.headers['x-ratelimit-remaining']).toBe('0');
    expect(Number(limited.headers['retry-after'])).toBeGreaterThan(3500);
    expect(Number(limited.headers['retry-after'])).toBeLessThanOrEqual(3600);
  });

  test('for a used-up quota is 429 quota-exceeded; a route may cost more than one', async () => {
    const token = await installation.token(
      'acme',
      '--name',
      'metered',
      '--scopes',
      'orders:write',
      '--quota',
      '12/day',
    );
    const retry = (): ReturnType<typeof call> =>
      call(`${sidecar.dataUrl}/api/v1/orders/7/retry`, { method: 'POST', token: token.secret });
    expect([(await retry()).status, (await retry()).status]).toEqual([200, 200]);
    const refused = await retry();
    expect([refused.status, slugOf(refused)]).toEqual([429, 'quota-exceeded']);
    expect(refused.headers['x-ratelimit-remaining']).toBe('2');
  });

  test('ends when a raised limit is written: it counts from the next request', async () => {
    const token = await installation.token('acme', '--name', 'raised', '--limit', '1', '--window', '3600');
    expect((await call(products(), { token: token.secret })).status).toBe(200);
    expect((await call(products(), { token: token.secret })).status).toBe(429);
    await installation.command('token', 'update', token.id, '--limit', '3', '--window', '3600');
    const statuses = [];
    for (let i = 0; i < 3; i++) statuses.push((await call(products(), { token: token.secret })).status);
    expect(statuses).toEqual([200, 200, 429]);
  });

  test('by address, by HTTPS and of two credentials each has its slug', async () => {
    const elsewhere = await installation.token('acme', '--name', 'elsewhere', '--allow-ip', '10.0.0.0/8');
    const address = await call(products(), { token: elsewhere.secret });
    expect([address.status, slugOf(address)]).toEqual([403, 'address-not-allowed']);

    await installation.tenant('secure', '--require-https');
    const clear = await installation.token('secure', '--name', 'clear');
    const https = await call(products(), { token: clear.secret });
    expect([https.status, slugOf(https)]).toEqual([403, 'https-required']);

    const both = await call(products(), { token: reader.secret, headers: { 'x-tollkeeper-signature': '00' } });
    expect([both.status, slugOf(both)]).toEqual([400, 'ambiguous-credentials']);
  });
});

describe('a token of another tenant than the host', () => {
  test('is 403 tenant-mismatch; its own host admits it', async () => {
    const hosted = await installation.sidecar({ env: { TOLLKEEPER_TENANT_HOST: '*.shop.test' } });
    const url = `${hosted.dataUrl}/api/v1/products`;
    const foreign = await call(url, { token: reader.secret, headers: { host: 'other.shop.test' } });
    expect([foreign.status, slugOf(foreign)]).toEqual([403, 'tenant-mismatch']);
    expect((await call(url, { token: reader.secret, headers: { host: 'acme.shop.test' } })).status).toBe(200);
  });
});

describe('failed authentications', () => {
  test('past the limit of an address are 429, and a token known here goes on', async () => {
    const strict = await installation.sidecar({ env: { TOLLKEEPER_AUTH_FAILURE_LIMIT: '3' } });
    const url = `${strict.dataUrl}/api/v1/products`;
    expect((await call(url, { token: reader.secret })).status).toBe(200);
    const statuses = [];
    for (let i = 0; i < 5; i++) statuses.push((await call(url, { token: 'no-token-at-all' })).status);
    expect(statuses).toEqual([401, 401, 401, 429, 429]);
    const refused = await call(url, { token: 'no-token-at-all' });
    expect(slugOf(refused)).toBe('too-many-auth-failures');
    expect(Number(refused.headers['retry-after'])).toBeGreaterThan(0);
    expect((await call(url, { token: reader.secret })).status).toBe(200);
  });
});

describe('the upstream', () => {
  test('that does not listen is 502 upstream-unreachable, and logged', async () => {
    const lonely = await installation.sidecar({
      env: { TOLLKEEPER_UPSTREAM: `http://127.0.0.1:${await freePort()}` },
    });
    const answer = await call(`${lonely.dataUrl}/api/v1/products`, { token: reader.secret });
    expect([answer.status, slugOf(answer)]).toEqual([502, 'upstream-unreachable']);
    expect(await lonely.stop()).toBe(0);
    const client = installation.redis.client();
    const day = new Date().toISOString().slice(0, 10);
    const entries = await client.xrevrange(`log:{acme}:${day}`, '+', '-', 'COUNT', 1);
    const fields = entries[0]?.[1] ?? [];
    expect(fields[fields.indexOf('outcome') + 1]).toBe('upstream-unreachable');
    expect(fields[fields.indexOf('status') + 1]).toBe('502');
    client.disconnect();
  });
});

describe('a malformed token', () => {
  test('with a wrong checksum is refused without a single Redis command', async () => {
    const client = installation.redis.client();
    const monitor = await client.monitor();
    const commands: string[] = [];
    monitor.on('monitor', (_time: string, args: string[]) => commands.push(args.join(' ')));
    const last = reader.secret.at(-1) === 'A' ? 'B' : 'A';
    const answer = await call(products(), { token: reader.secret.slice(0, -1) + last });
    expect([answer.status, slugOf(answer)]).toEqual([401, 'invalid-token']);
    // A marker of our own after it: when it is seen, everything before it has been seen too.
    await client.echo('after-the-request');
    await expect.poll(() => commands.some((line) => line.includes('after-the-request'))).toBe(true);
    const admissions = commands.filter(
      (line) => /^evalsha|^eval|tk:token|tk:foreign/i.test(line) && !/logseq/.test(line),
    );
    expect(admissions).toEqual([]);
    monitor.disconnect();
    client.disconnect();
  });
});

describe('the holder of a token', () => {
  test('reads its own scopes, limits and what remains, and pays nothing for it', async () => {
    const token = await installation.token('acme', '--name', 'curious', '--limit', '5', '--window', '3600');
    const url = `${sidecar.dataUrl}/.well-known/tollkeeper`;
    const before = installation.upstream.requests.length;
    for (let i = 0; i < 7; i++) expect((await call(url, { token: token.secret })).status).toBe(200);
    await call(products(), { token: token.secret });
    const answer = await call(url, { token: token.secret });
    expect(answer.json()).toMatchObject({
      id: token.id,
      tenant: 'acme',
      scopes: ['products:read'],
      expiresAt: null,
      limits: [{ limit: 5, window: 3600, algorithm: 'sliding-window' }],
      nearest: { remaining: 4 },
    });
    expect(answer.text).not.toContain(token.secret.slice(-38));
    expect(installation.upstream.requests.length - before).toBe(1);
    expect((await call(url)).status).toBe(401);
  });
});

describe('a token that another system issued', () => {
  const plaintext = 'legacy-0123456789abcdef';
  const sha256 = createHash('sha256').update(plaintext).digest('hex');

  test('is admitted once its hash was imported, also after that hash moved to another token', async () => {
    const open = await installation.sidecar({ env: { TOLLKEEPER_FOREIGN_TOKENS: 'true' } });
    const url = `${open.dataUrl}/api/v1/products`;
    expect(slugOf(await call(url, { token: plaintext }))).toBe('invalid-token');
    const importing = ['--tenant', 'acme', '--scopes', 'products:read', '--sha256', sha256];
    const first = (await installation.command('token', 'import', '--name', 'legacy', ...importing)) as {
      token: { id: string };
    };
    expect((await call(url, { token: plaintext })).status).toBe(200);
    await installation.command('token', 'rotate', first.token.id);
    expect((await call(url, { token: plaintext })).status).toBe(401);
    await installation.command('token', 'delete', first.token.id);
    await installation.command('token', 'import', '--name', 'legacy again', ...importing);
    expect((await call(url, { token: plaintext })).status).toBe(200);
    // A sidecar that was not told to look for such tokens refuses them without asking.
    expect(slugOf(await call(products(), { token: plaintext }))).toBe('invalid-token');
  });
});
