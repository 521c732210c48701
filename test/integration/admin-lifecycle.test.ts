import { Validator } from '@seriousme/openapi-schema-validator';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { adminClient, adminKey, type AdminClient } from '../support/admin-api.js';
import { type Installation, startInstallation } from '../support/installation.js';
import type { Sidecar } from '../support/sidecar.js';

let installation: Installation;
let sidecar: Sidecar;
let client: AdminClient;

beforeAll(async () => {
  installation = await startInstallation();
  sidecar = await installation.sidecar({ env: { TOLLKEEPER_ADMIN_KEY: adminKey } });
  client = adminClient(sidecar.adminUrl);
});
afterAll(() => installation.stop());

/** Status of a call of the data plane with a Bearer token. */
async function call(secret: string): Promise<number> {
  const headers = { authorization: `Bearer ${secret}` };
  const response = await fetch(`${sidecar.dataUrl}/api/v1/products`, { headers });
  await response.arrayBuffer();
  return response.status;
}

test('the document is OpenAPI 3.1, and the page that shows it loads nothing from elsewhere', async () => {
  const document = (await (await fetch(`${sidecar.adminUrl}/openapi.json`)).json()) as Record<string, unknown>;
  expect(document.openapi).toMatch(/^3\.1\./);
  expect(await new Validator().validate(document)).toMatchObject({ valid: true });
  const page = await fetch(`${sidecar.adminUrl}/docs/`);
  expect(page.status).toBe(200);
  expect(page.headers.get('content-security-policy')).toContain("default-src 'none'");
  expect(await page.text()).not.toMatch(/(src|href)="https?:/);
});

describe('a generated client', () => {
  test('takes a tenant and its token through their lives, and the data plane follows at once', async () => {
    const created = await client.POST('/v1/tenants', { body: { slug: 'acme', name: 'Acme' } });
    expect([created.response.status, created.data]).toMatchObject([201, { slug: 'acme', maxTokens: 25, version: 1 }]);
    const issued = await client.POST('/v1/tenants/{tenant}/tokens', {
      params: { path: { tenant: 'acme' } },
      body: { name: 'shop', scopes: ['products:read'], rateLimit: { limit: 1000, window: 60 } },
    });
    expect(issued.response.status).toBe(201);
    const { token, secret = '' } = issued.data ?? {};
    const path = { tenant: 'acme', id: token?.id ?? '' };
    expect(await call(secret)).toBe(200);

    const listed = await client.GET('/v1/tenants/{tenant}/tokens', { params: { path: { tenant: 'acme' } } });
    expect(listed.data).toMatchObject({
      data: [{ id: path.id, name: 'shop' }],
      meta: { page: 1, per_page: 25, total: 1, total_pages: 1 },
    });

    const shown = await client.GET('/v1/tenants/{tenant}/tokens/{id}', { params: { path } });
    expect(shown.response.headers.get('etag')).toBe(`"${token?.version}"`);
    const changed = await client.PATCH('/v1/tenants/{tenant}/tokens/{id}', {
      params: { path, header: { 'If-Match': shown.response.headers.get('etag') ?? '' } },
      body: { scopes: [] },
    });
    expect(changed.data?.scopes).toEqual([]);
    expect(await call(secret)).toBe(403);
    await client.PATCH('/v1/tenants/{tenant}/tokens/{id}', { params: { path }, body: { scopes: ['products:read'] } });

    const switched = '/v1/tenants/{tenant}/tokens/{id}/deactivate';
    expect((await client.POST(switched, { params: { path } })).data?.state).toBe('inactive');
    expect(await call(secret)).toBe(401);
    await client.POST('/v1/tenants/{tenant}/tokens/{id}/activate', { params: { path } });
    expect(await call(secret)).toBe(200);

    const rotated = await client.POST('/v1/tenants/{tenant}/tokens/{id}/rotate', { params: { path }, body: {} });
    expect([await call(secret), await call(rotated.data?.secret ?? '')]).toEqual([401, 200]);
    const revoked = await client.POST('/v1/tenants/{tenant}/tokens/{id}/revoke', { params: { path } });
    expect(revoked.data?.state).toBe('revoked');
    expect(await call(rotated.data?.secret ?? '')).toBe(401);

    const scopes = await client.GET('/v1/scopes');
    expect(scopes.data?.data).toContain('products:read');
    const gone = await client.DELETE('/v1/tenants/{tenant}/tokens/{id}', { params: { path } });
    expect(gone.response.status).toBe(204);
    const missing = await client.GET('/v1/tenants/{tenant}/tokens/{id}', { params: { path } });
    expect([missing.response.status, missing.error]).toMatchObject([
      404,
      { type: 'https://tollkeeper.dev/problems/not-found' },
    ]);
    const ended = await client.DELETE('/v1/tenants/{tenant}', {
      params: { path: { tenant: 'acme' }, query: { force: 'true' } },
    });
    expect(ended.response.status).toBe(204);

    const audit = await client.GET('/v1/audit', {
      params: { query: { tenant: 'acme', result: 'done', per_page: 100 } },
    });
    expect(audit.data?.data.map(({ action }) => action).toReversed()).toEqual([
      'tenant.create',
      'token.create',
      'token.update',
      'token.update',
      'token.deactivate',
      'token.activate',
      'token.rotate',
      'token.revoke',
      'token.delete',
      'tenant.delete',
    ]);
    expect((await client.POST('/v1/audit/verify', { body: {} })).data).toMatchObject({ intact: true, openAttempts: 0 });
    for (const hidden of [secret, rotated.data?.secret ?? '', adminKey]) expect(sidecar.output()).not.toContain(hidden);
  });

  test('imports a token of another system and reveals an HMAC secret where the tenant wants it', async () => {
    await client.POST('/v1/tenants', { body: { slug: 'globex', name: 'Globex' } });
    const params = { path: { tenant: 'globex' } };
    const imported = await client.POST('/v1/tenants/{tenant}/tokens/import', {
      params,
      body: { name: 'old', sha256: 'ab'.repeat(32) },
    });
    expect(imported.data?.foreign).toBe(true);
    const issued = await client.POST('/v1/tenants/{tenant}/tokens', { params, body: { name: 'signed', mode: 'hmac' } });
    const path = { tenant: 'globex', id: issued.data?.token.id ?? '' };
    const reveal = () => client.POST('/v1/tenants/{tenant}/tokens/{id}/reveal', { params: { path } });
    expect((await reveal()).response.status).toBe(403);
    await client.PATCH('/v1/tenants/{tenant}', { params, body: { revealSecrets: true } });
    expect((await reveal()).data?.secret).toBe(issued.data?.secret);
  });
});

test('tokens of the data plane, wrong keys and no key open nothing', async () => {
  await client.POST('/v1/tenants', { body: { slug: 'initech', name: 'Initech' } });
  const issued = await client.POST('/v1/tenants/{tenant}/tokens', {
    params: { path: { tenant: 'initech' } },
    body: { name: 'x' },
  });
  for (const key of [issued.data?.secret ?? '', `${adminKey}x`, adminKey.slice(1)]) {
    const refused = await adminClient(sidecar.adminUrl, key).GET('/v1/tenants');
    expect(refused.response.status).toBe(401);
    expect(refused.response.headers.get('www-authenticate')).toBe(
      'Bearer realm="tollkeeper-admin", error="invalid_token"',
    );
  }
  const bare = await fetch(`${sidecar.adminUrl}/v1/tenants`);
  expect([bare.status, bare.headers.get('www-authenticate')]).toEqual([401, 'Bearer realm="tollkeeper-admin"']);
});
