/** Usage and logs over HTTP, from requests that were made of the data plane. */
import { once } from 'node:events';
import { connect, type Socket } from 'node:net';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import type { LogEntry } from '../../src/accesslog/entry.js';
import { adminClient, adminKey, type AdminClient } from '../support/admin-api.js';
import { type Installation, type IssuedToken, startInstallation } from '../support/installation.js';
import { sampleEntry } from '../support/log-entry.js';
import type { Sidecar } from '../support/sidecar.js';
import { until } from '../support/until.js';
import { writeLog } from '../support/written-log.js';

let installation: Installation;
let sidecar: Sidecar;
let operator: AdminClient;
let owner: AdminClient;
let token: IssuedToken;

const calls = 12;

beforeAll(async () => {
  installation = await startInstallation();
  await installation.tenant('acme');
  await installation.tenant('other');
  token = await installation.token('acme', '--limit', '10', '--window', '3600');
  sidecar = await installation.sidecar({ env: { TOLLKEEPER_ADMIN_KEY: adminKey } });
  operator = adminClient(sidecar.adminUrl);
  const password = 'a long password of a test';
  await operator.POST('/v1/users', { body: { name: 'olga', role: 'owner', tenant: 'acme', password } });
  const key = await operator.POST('/v1/users/{user}/keys', { params: { path: { user: 'olga' } }, body: { name: 'k' } });
  owner = adminClient(sidecar.adminUrl, key.data?.secret ?? '');
  for (let call = 0; call < calls; call += 1) await hit('/api/v1/products');
  await hit('/api/v1/admin/tokens');
  await until(
    async () =>
      ((await operator.GET('/v1/tenants/{tenant}/usage', { params: { path: { tenant: 'acme' } } })).data?.lifetime
        .calls ?? 0) ===
      calls + 1,
  );
});
afterAll(() => installation.stop());

async function hit(path: string): Promise<void> {
  const headers = { authorization: `Bearer ${token.secret}`, 'user-agent': 'test/1' };
  await (await fetch(`${sidecar.dataUrl}${path}`, { headers })).arrayBuffer();
}

const acme = { params: { path: { tenant: 'acme' } } };

function get(path: string, headers: Record<string, string> = {}): Promise<Response> {
  return fetch(`${sidecar.adminUrl}/v1${path}`, { headers: { authorization: `Bearer ${adminKey}`, ...headers } });
}

describe('usage', () => {
  test('of a token and of its tenant is what was called', async () => {
    const path = { tenant: 'acme', id: token.id };
    const { data } = await owner.GET('/v1/tenants/{tenant}/tokens/{id}/usage', { params: { path } });
    expect(data?.lifetime).toMatchObject({
      calls: calls + 1,
      succeeded: 10,
      refusals: { 'rate-limit-exceeded': 2, 'insufficient-scope': 1 },
      byStatus: { '2xx': 10, '4xx': 3 },
    });
    expect(data?.last24Hours.calls).toBe(calls + 1);
    expect(data?.lastUsed).toMatchObject({ ip: '127.0.0.1', userAgent: 'test/1' });
    expect(data?.topRoutes).toEqual([
      { route: '/api/v1/products', calls },
      { route: '/api/v1/admin/tokens', calls: 1 },
    ]);
    const ofTenant = await owner.GET('/v1/tenants/{tenant}/usage', acme);
    expect(ofTenant.data).toMatchObject({ tokenId: null, lifetime: data?.lifetime });
  });

  test('of a token that was never used is zero, of one that is deleted stays, of one that never was is 404', async () => {
    const unused = await installation.token('other');
    const zero = await operator.GET('/v1/tenants/{tenant}/tokens/{id}/usage', {
      params: { path: { tenant: 'other', id: unused.id } },
    });
    expect(zero.data?.lifetime).toMatchObject({ calls: 0, successRate: null, p99Ms: null });
    await writeLog(installation.redis.url, [
      sampleEntry({ tenant: 'other', tokenId: 'deletedtoken', timeMs: Date.now() }),
    ]);
    expect((await get('/tenants/other/tokens/deletedtoken/usage')).status).toBe(200);
    expect((await get('/tenants/other/tokens/deletedtoken/logs')).status).toBe(200);
    expect((await get('/tenants/other/tokens/neverwas1234/usage')).status).toBe(404);
    expect((await get('/tenants/other/tokens/neverwas1234/logs')).status).toBe(404);
  });
});

test('an owner is told of its own tenant alone: of another one as of one that is not there', async () => {
  const paths = ['usage', 'logs', 'logs/stream', 'logs/export', `tokens/${token.id}/usage`, `tokens/${token.id}/logs`];
  const key = await operator.POST('/v1/users/{user}/keys', {
    params: { path: { user: 'olga' } },
    body: { name: 'k2' },
  });
  for (const path of paths) {
    const answers = await Promise.all(
      ['other', 'nobody'].map(async (tenant) => {
        const response = await get(`/tenants/${tenant}/${path}`, { authorization: `Bearer ${key.data?.secret ?? ''}` });
        return [response.status, ((await response.json()) as { detail: string }).detail];
      }),
    );
    expect([path, ...answers]).toEqual([path, [404, 'There is no such tenant.'], [404, 'There is no such tenant.']]);
    expect((await fetch(`${sidecar.adminUrl}/v1/tenants/acme/${path}`)).status).toBe(401);
    expect((await get(`/tenants/acme/${path}`, { authorization: `Bearer ${token.secret}` })).status).toBe(401);
  }
});

describe('logs', () => {
  test('page by page, newest first, with filters', async () => {
    const first = await owner.GET('/v1/tenants/{tenant}/logs', {
      params: { path: acme.params.path, query: { limit: 5 } },
    });
    expect(first.data?.data).toHaveLength(5);
    expect(first.data?.data[0]).toMatchObject({ outcome: 'insufficient-scope', status: 403, tokenId: token.id });
    const cursor = first.data?.meta.next_cursor ?? '';
    const next = await owner.GET('/v1/tenants/{tenant}/logs', {
      params: { path: acme.params.path, query: { limit: 100, cursor } },
    });
    expect(next.data?.data).toHaveLength(calls + 1 - 5);
    expect(next.data?.meta).toEqual({ next_cursor: null, complete: true });
    const limited = await owner.GET('/v1/tenants/{tenant}/logs', {
      params: { path: acme.params.path, query: { status: '429', method: 'GET', path: '/api/', token: token.id } },
    });
    expect(limited.data?.data.map(({ outcome }) => outcome)).toEqual(['rate-limit-exceeded', 'rate-limit-exceeded']);
    const ofToken = await owner.GET('/v1/tenants/{tenant}/tokens/{id}/logs', {
      params: { path: { tenant: 'acme', id: token.id }, query: { status: '2xx' } },
    });
    expect(ofToken.data?.data).toHaveLength(10);
  });

  test.each([
    ['cursor=x', 'cursor'],
    ['limit=0', 'limit'],
    ['limit=1001', 'limit'],
    ['from=yesterday', 'from'],
    ['status=9xx', 'status'],
    ['method=get', 'method'],
    ['colour=red', 'colour'],
  ])('%s is refused, and the field named', async (query, field) => {
    const response = await get(`/tenants/acme/logs?${query}`);
    const { errors } = (await response.json()) as { errors: { field: string }[] };
    expect([response.status, errors.map((error) => error.field)]).toEqual([422, [field]]);
  });
});

describe('export', () => {
  test('NDJSON or CSV, by the query or by Accept', async () => {
    const ndjson = await get('/tenants/acme/logs/export');
    expect(ndjson.headers.get('content-type')).toBe('application/x-ndjson');
    const lines = (await ndjson.text())
      .trimEnd()
      .split('\n')
      .map((line) => JSON.parse(line) as LogEntry);
    expect(lines.map(({ status }) => status)).toEqual([...Array.from({ length: 10 }, () => 200), 429, 429, 403]);
    for (const csv of [
      await get('/tenants/acme/logs/export?format=csv&status=429'),
      await get('/tenants/acme/logs/export?status=429', { accept: 'text/csv' }),
    ]) {
      expect(csv.headers.get('content-type')).toContain('text/csv');
      expect(csv.headers.get('content-disposition')).toBe('attachment; filename="acme-logs.csv"');
      expect((await csv.text()).trimEnd().split('\r\n')).toHaveLength(3);
    }
  });
});

describe('live tail', () => {
  /** A client on a socket of its own, which reads only when it is told to. */
  async function stream(path: string, headers = '', of = sidecar): Promise<{ socket: Socket; text: () => string }> {
    const socket = connect(of.adminPort, '127.0.0.1');
    let text = '';
    socket.on('data', (chunk: Buffer) => {
      text += chunk.toString();
    });
    await once(socket, 'connect');
    socket.write(
      `GET /v1${path} HTTP/1.1\r\nHost: 127.0.0.1:${of.adminPort}\r\nAuthorization: Bearer ${adminKey}\r\n${headers}\r\n`,
    );
    await until(() => text.includes('retry: 2000'));
    return { socket, text: () => text };
  }

  const idsOf = (text: string): string[] =>
    [...text.matchAll(/"requestId":"live-(\d+)"/g)].map(([, id]) => id as string);

  function write(from: number, to: number, fields: Partial<LogEntry> = {}): Promise<void> {
    const entries = Array.from({ length: to - from }, (_, index) =>
      sampleEntry({ timeMs: Date.now(), requestId: `live-${from + index}`, ...fields }),
    );
    return writeLog(installation.redis.url, entries);
  }

  test('events come as they are written, with filters, and go on behind Last-Event-ID', async () => {
    const first = await stream('/tenants/acme/logs/stream?status=2xx');
    expect(first.text()).toContain('text/event-stream');
    await write(0, 3);
    await write(3, 4, { status: 500 });
    await until(() => idsOf(first.text()).length === 3);
    const lastId = [...first.text().matchAll(/^id: (.*)$/gm)].at(-1)?.[1] ?? '';
    first.socket.destroy();
    await write(4, 7);
    const second = await stream('/tenants/acme/logs/stream', `Last-Event-ID: ${lastId}\r\n`);
    await write(7, 9);
    await until(() => idsOf(second.text()).includes('8'));
    expect(idsOf(second.text())).toEqual(['3', '4', '5', '6', '7', '8']);
    second.socket.destroy();
  });

  test('a Last-Event-ID that is none is refused', async () => {
    const response = await get('/tenants/acme/logs/stream', { 'last-event-id': '17' });
    expect(response.status).toBe(422);
  });

  test('a client that does not read costs no memory, is told what it missed, and goes on with the newest', async () => {
    const total = 80_000;
    // Kept for the client, the entries would be 120 MB and more: a process with this heap ends when it keeps them.
    const bounded = await installation.sidecar({
      env: { TOLLKEEPER_ADMIN_KEY: adminKey, NODE_OPTIONS: '--max-old-space-size=80' },
    });
    const slow = await stream('/tenants/acme/logs/stream', '', bounded);
    slow.socket.pause();
    const fast = await stream('/tenants/acme/logs/stream?path=/the-last', '', bounded);
    for (let from = 0; from < total; from += 10_000) {
      await write(100_000 + from, 100_000 + from + 10_000, { userAgent: 'x'.repeat(256) });
    }
    await write(500_000, 500_001, { path: '/the-last' });
    await until(() => idsOf(fast.text()).includes('500000'));
    slow.socket.resume();
    await until(() => idsOf(slow.text()).includes('500000'));
    const skipped = [...slow.text().matchAll(/"skipped":(\d+)/g)].reduce((sum, [, count]) => sum + Number(count), 0);
    expect(skipped).toBeGreaterThan(0);
    expect(skipped + idsOf(slow.text()).length).toBe(total + 1);
    slow.socket.destroy();
    fast.socket.destroy();
    expect(await bounded.stop()).toBe(0);
  });

  test('the end of the process ends the streams', async () => {
    const other = await installation.sidecar({ env: { TOLLKEEPER_ADMIN_KEY: adminKey } });
    const response = await fetch(`${other.adminUrl}/v1/tenants/acme/logs/stream`, {
      headers: { authorization: `Bearer ${adminKey}` },
    });
    const ended = response.text();
    expect(await other.stop()).toBe(0);
    expect(await ended).toContain('retry: 2000');
  });
});
