/**
 * What must hold behind every reverse proxy that runs with a generated configuration: one suite, told which proxy.
 * Everything is real: the proxy, Tollkeeper, Redis, the upstream and the client.
 */
import { createHash } from 'node:crypto';
import type { ServerResponse } from 'node:http';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { signRequest } from '../../src/sign/sign.js';
import { type Answer, call, slugOf } from './http-client.js';
import { type Installation, type IssuedToken, startInstallation } from './installation.js';
import { freePort } from './ports.js';
import type { ProxyPlan, ReverseProxy } from './proxy.js';
import { headersOf, rawExchange, type RawResult } from './raw-client.js';
import type { Sidecar } from './sidecar.js';
import { until } from './until.js';
import type { RecordedRequest, UpstreamHandler } from './upstream.js';
import { defaultWorkers, isAlive, signalAll, workerPids } from './workers.js';

export interface ProxyUnderTest {
  readonly name: string;
  readonly start: (plan: ProxyPlan) => Promise<ReverseProxy>;
  /** Whether the proxy refuses a field without a name itself (else it drops it: measured, and said in docs/verify.md). */
  readonly refusesEmptyNames: boolean;
  /** Whether the proxy names the fields it asks with, so that the size of others does not matter. */
  readonly passesLargeHeaders: boolean;
  /** Whether the proxy takes a body in chunks; one that would pass on its trailers must not. */
  readonly takesChunks: boolean;
  /** The target as the proxy asks about it and sends it on, where that is not byte for byte what the client sent. */
  readonly rewrites?: (target: string) => string;
}

/** The upstream imitates what only Tollkeeper may say, and answers /api/v1/products/s<status> with that status. */
const upstreamAnswers: UpstreamHandler = (request: RecordedRequest, response: ServerResponse) => {
  const status = Number(/\/s(\d{3})$/.exec(request.url)?.[1] ?? 200);
  response.statusCode = status;
  response.setHeader('Content-Type', 'text/plain');
  response.setHeader('RateLimit', '"spoofed";r=999999;t=1');
  response.setHeader('X-RateLimit-Remaining', '999999');
  response.setHeader('X-Request-Id', 'spoofed');
  if (status === 401) response.setHeader('WWW-Authenticate', 'Basic realm="upstream"');
  response.end(status === 204 ? undefined : `upstream ${status}`);
};

/** Targets a policy could be walked around with; what does not reach the upstream is refused with 4xx. */
const targets = [
  '/api/v1/products',
  '/api/v1/products?',
  '/api/v1/products?x=/../../status&y=%2F..%2f;z',
  '/api/v1/products/%C3%A9',
  '/api/v1/products/%c3%a9',
  '/api/v1/products/%41',
  '/%61pi/v1/products',
  '//api/v1/products',
  '///status',
  '/api//v1/products',
  '/api/v1/products/',
  '/api/v1/products//',
  '/api/v1/./products',
  '/./status',
  '/status/',
  '/STATUS',
  '/status/../api/v1/admin/tokens',
  '/api/v1/products/../admin/tokens',
  '/api/v1/products/..',
  '/api/v1/products/.',
  '/api/v1/products/%2e%2e/admin/tokens',
  '/api/v1/products/.%2e/admin/tokens',
  '/api/v1/products/..%2fadmin%2ftokens',
  '/api/v1/products/..%5cadmin',
  '/api/v1/products/..\\admin\\tokens',
  '/api/v1/products/..;/admin/tokens',
  '/api/v1/products;x=1',
  '/api/v1/products%3bx',
  '/api/v1/products%2f1',
  '/api%2fv1/products',
  '/api/v1/products%00',
  '/api/v1/products%20',
  '/api/v1/products%0d%0aX-Injected:%201',
  '/api/v1/products/%252e%252e',
  '/api/v1/products/%ff',
  '/api/v1/products/%',
  '/api/v1/products/%zz',
  '/api/v1/products/\x80',
  '/api/v1/products/"',
  '/api/v1/products/<a>',
  '/api/v1/products/{id}',
  '/api/v1/products#fragment',
  '/api/v1/products?x#fragment',
  '/status?/../api/v1/admin/tokens',
  '/status#/../api/v1/admin/tokens',
  '/api/v1/admin/tokens',
  '/.tollkeeper',
  '/.tollkeeper?x=1',
  '//.tollkeeper',
  '/verify',
  '/verify/nginx',
  'http://shop.test/api/v1/products',
  'http://shop.test/api/v1/products/../admin/tokens',
  'http://shop.test//api/v1/products',
  'http://shop.test',
  'http://evil.test/api/v1/admin/tokens',
  'api/v1/products',
  '*',
];

/** Paths of the policy that these targets may reach, whatever the proxy makes of the rest. */
const reachable = new Set(['/api/v1/products', '/api/v1/products/%C3%A9', '/status']);

const methods = ['GET', 'HEAD', 'POST', 'PUT', 'PATCH', 'DELETE', 'OPTIONS', 'TRACE', 'FOO', 'get', 'GET_', 'PROPFIND'];

/** Each must not reach the upstream with the client's value, in whatever spelling a backend folds together. */
const spoofed = [
  'X-Tollkeeper-Token-Id',
  'X-Tollkeeper-Tenant',
  'X-Tollkeeper-Scopes',
  'X-Tollkeeper-Subject',
  'X-Tollkeeper-Content-SHA256',
  'X-Forwarded-For',
  'X-Forwarded-Host',
  'X-Forwarded-Proto',
  'X-Forwarded-Uri',
  'X-Forwarded-Method',
  'X-Forwarded-Prefix',
  'X-Original-URL',
  'X-Original-URI',
  'X-Original-Method',
  'X-Rewrite-URL',
  'X-HTTP-Method-Override',
  'X-Method-Override',
  'Forwarded',
  'X-Real-IP',
  'True-Client-IP',
  'Proxy',
];

const spellings: readonly ((name: string) => string)[] = [
  (name) => name,
  (name) => name.toLowerCase(),
  (name) => name.toUpperCase(),
  (name) => name.replaceAll('-', '_'),
  (name) => name.replaceAll('-', '.'),
  (name) => name.replace(/-([^-]*)$/, '_$1'),
  // The other marks of RFC 9110: lighttpd, for one, folds them all.
  ...Array.from(
    "!#$%&'*+^`|~",
    (mark) =>
      (name: string): string =>
        name.replaceAll('-', mark),
  ),
  (name) => name.replace(/-([^-]*)$/, '~$1'),
];

export function describeBehindProxy({
  name,
  start,
  refusesEmptyNames,
  passesLargeHeaders,
  takesChunks,
  rewrites,
}: ProxyUnderTest): void {
  let installation: Installation;
  let sidecar: Sidecar;
  let proxy: ReverseProxy;
  let reader: IssuedToken;
  let signer: IssuedToken;
  let base: string;

  beforeAll(async () => {
    installation = await startInstallation({ upstream: upstreamAnswers });
    await installation.tenant('acme');
    reader = await installation.token('acme', '--limit', '1000000', '--subject', 'customer-7');
    signer = await installation.token('acme', '--mode', 'hmac', '--limit', '1000000');
    sidecar = await installation.sidecar({
      env: { ...defaultWorkers, TOLLKEEPER_TRUSTED_PROXIES: '127.0.0.1', TOLLKEEPER_LOG_QUERY: 'true' },
      planes: ['data', 'admin', 'verify'],
    });
    const port = await freePort();
    proxy = await start({ port, upstream: installation.upstream.url, verify: sidecar.verifyUrl });
    base = `http://127.0.0.1:${port}`;
  });

  afterAll(async () => {
    await proxy?.stop();
    await installation?.stop();
  });

  const products = (): string => `${base}/api/v1/products`;
  const seen = (): number => installation.upstream.requests.length;
  const last = (): RecordedRequest => installation.upstream.requests.at(-1) as RecordedRequest;

  /** Bytes as they are, for what no HTTP client sends. */
  const raw = (method: string, target: string, lines: readonly string[], body = ''): Promise<RawResult> =>
    rawExchange(
      proxy.port,
      `${method} ${target} HTTP/1.1\r\nHost: shop.test\r\n${lines.map((line) => `${line}\r\n`).join('')}\r\n${body}`,
    );

  const asReader = (): string => `Authorization: Bearer ${reader.secret}`;

  /** What Tollkeeper logged of a request, by its id. */
  const logged = async (requestId: string): Promise<Record<string, string>> => {
    const client = installation.redis.client();
    const day = new Date().toISOString().slice(0, 10);
    let found: Record<string, string> | undefined;
    try {
      await until(async () => {
        for (const tenant of ['acme', '_']) {
          for (const [, fields] of await client.xrange(`log:{${tenant}}:${day}`, '-', '+')) {
            const entry = fieldsOf(fields);
            if (entry.requestId === requestId) found = entry;
          }
        }
        return found !== undefined;
      });
    } finally {
      client.disconnect();
    }
    return found as Record<string, string>;
  };

  describe(`behind ${name}, an admitted request`, () => {
    test('reaches the upstream with the identity Tollkeeper gives, and the client sees its limits', async () => {
      const answer = await call(`${products()}?q=a%20b&x=`, {
        token: reader.secret,
        headers: { 'x-request-id': 'my-id-1' },
      });
      expect([answer.status, answer.text]).toEqual([200, 'upstream 200']);
      expect(answer.headers['x-request-id']).toBe('my-id-1');
      expect(answer.headers['x-ratelimit-limit']).toBe('1000000');
      expect(Number(answer.headers['x-ratelimit-remaining'])).toBeLessThan(1_000_000);
      expect(String(answer.headers['ratelimit-policy'])).toBe('"token-60s";q=1000000;w=60');
      expect(String(answer.headers.ratelimit)).toMatch(/^"token-60s";r=\d{6};t=\d+$/);
      expect(last().url).toBe('/api/v1/products?q=a%20b&x=');
      expect(last().headers).toMatchObject({
        host: new URL(base).host,
        'x-request-id': 'my-id-1',
        'x-tollkeeper-token-id': reader.id,
        'x-tollkeeper-tenant': 'acme',
        'x-tollkeeper-scopes': 'products:read',
        'x-tollkeeper-subject': 'customer-7',
        'x-forwarded-for': '127.0.0.1',
        'x-forwarded-proto': 'http',
        'x-forwarded-host': new URL(base).host,
      });
      expect(last().headers.authorization).toBeUndefined();
      expect(last().headers['x-tollkeeper-content-sha256']).toBeUndefined();
    });

    test('of a token without a subject, or on a public route, carries no empty identity', async () => {
      const plain = await installation.token('acme', '--name', 'plain');
      expect((await call(products(), { token: plain.secret })).status).toBe(200);
      expect(last().headers['x-tollkeeper-token-id']).toBe(plain.id);
      expect(last().headers).not.toHaveProperty('x-tollkeeper-subject');
      const open = await call(`${base}/status`);
      expect(open.status).toBe(200);
      expect(open.headers).not.toHaveProperty('x-ratelimit-limit');
      expect(Object.keys(last().headers).filter((field) => field.startsWith('x-tollkeeper-'))).toEqual([]);
    });

    test('keeps its method and its body, of announced length or in chunks', async () => {
      const body = Buffer.from(Array.from({ length: 300_000 }, (_, at) => at % 251));
      const answer = await call(`${products()}/search`, { method: 'POST', token: reader.secret, body });
      expect(answer.status).toBe(200);
      expect(last().method).toBe('POST');
      expect(last().body.equals(body)).toBe(true);
      const chunked = await raw(
        'POST',
        '/api/v1/products/search',
        [asReader(), 'Transfer-Encoding: chunked'],
        '5\r\nhello\r\n6\r\n world\r\n0\r\n\r\n',
      );
      expect(chunked.status).toBe(takesChunks ? 200 : 411);
      if (takesChunks) expect(last().body.toString()).toBe('hello world');
      else expect(chunked.body.toString()).toContain('/length-required"');
      const head = await call(products(), { method: 'HEAD', token: reader.secret });
      expect([head.status, head.text, last().method]).toEqual([200, '', 'HEAD']);
    });

    test('gets what the upstream answers, its own 401, 403, 429 and 500 included', async () => {
      for (const status of [204, 400, 401, 403, 404, 429, 500, 503]) {
        const answer = await call(`${products()}/s${status}`, { token: reader.secret });
        expect([answer.status, answer.text]).toEqual([status, status === 204 ? '' : `upstream ${status}`]);
        expect(answer.headers['www-authenticate']).toBe(status === 401 ? 'Basic realm="upstream"' : undefined);
        expect(Number(answer.headers['x-ratelimit-remaining'])).toBeLessThan(999_999);
        expect(answer.headers['x-request-id']).not.toBe('spoofed');
      }
    });

    test('carries the subject byte for byte, whatever it means to a configuration language', async () => {
      const subject = '{env.PATH}${x}$host%[src]{http.request.host}"q"\\n;';
      const odd = await installation.token('acme', '--name', 'odd', '--subject', subject);
      expect((await call(products(), { token: odd.secret })).status).toBe(200);
      expect(last().headers['x-tollkeeper-subject']).toBe(subject);
    });

    test('may have a cookie larger than Tollkeeper reads', async () => {
      const answer = await call(products(), { token: reader.secret, headers: { cookie: `a=${'x'.repeat(6000)}` } });
      expect(answer.status).toBe(200);
      expect(last().headers.cookie).toHaveLength(6002);
    });
  });

  describe(`behind ${name}, a refusal`, () => {
    const refused = (answer: Answer): [number, string] => [answer.status, slugOf(answer)];

    test('without, and with a wrong credential is 401 with one challenge, and the upstream hears nothing', async () => {
      const before = seen();
      const missing = await call(products());
      expect(refused(missing)).toEqual([401, 'missing-credentials']);
      expect(missing.headers['www-authenticate']).toBe('Bearer realm="tollkeeper"');
      expect(missing.json()).toMatchObject({ status: 401, instance: missing.headers['x-request-id'] });
      const wrong = await call(products(), {
        token: `${reader.secret.slice(0, -1)}${reader.secret.endsWith('A') ? 'B' : 'A'}`,
      });
      expect(refused(wrong)).toEqual([401, 'invalid-token']);
      expect(String(wrong.headers['www-authenticate'])).toContain('error="invalid_token"');
      expect(seen()).toBe(before);
    });

    test('for a missing scope is 403 and names it, for another method 405 with Allow', async () => {
      const before = seen();
      const scope = await call(`${base}/api/v1/admin/tokens`, { token: reader.secret });
      expect(refused(scope)).toEqual([403, 'insufficient-scope']);
      expect(String(scope.headers['www-authenticate'])).toContain('scope="admin:all"');
      expect(scope.headers['x-ratelimit-limit']).toBe('1000000');
      const method = await call(products(), { method: 'DELETE', token: reader.secret });
      expect(refused(method)).toEqual([405, 'method-not-allowed']);
      expect(method.headers.allow).toBe('GET, HEAD');
      expect(method.headers).not.toHaveProperty('x-error-status');
      expect(seen()).toBe(before);
    });

    test('by a limit is 429 with Retry-After and the limits, as JSON, and to HEAD without a body', async () => {
      const limited = await installation.token('acme', '--name', 'limited', '--limit', '1', '--window', '3600');
      expect((await call(products(), { token: limited.secret })).status).toBe(200);
      const before = seen();
      const answer = await call(products(), { token: limited.secret });
      expect(refused(answer)).toEqual([429, 'rate-limit-exceeded']);
      expect(answer.json()).toMatchObject({ status: 429, instance: answer.headers['x-request-id'] });
      expect(Number(answer.headers['retry-after'])).toBeGreaterThan(3500);
      expect(answer.headers['ratelimit-policy']).toBe('"token-3600s";q=1;w=3600');
      expect(String(answer.headers.ratelimit)).toMatch(/^"token-3600s";r=0;t=\d+$/);
      expect(answer.headers['x-ratelimit-limit']).toBe('1');
      expect(answer.headers['x-ratelimit-remaining']).toBe('0');
      const head = await call(products(), { method: 'HEAD', token: limited.secret });
      expect([head.status, head.text]).toEqual([429, '']);
      expect(seen()).toBe(before);
    });

    test('of a body does not disturb the next request on the connection', async () => {
      const refusedUpload = await raw('POST', '/api/v1/products/search', ['Content-Length: 11'], 'hello world');
      expect(refusedUpload.status).toBe(401);
      expect((await call(products(), { token: reader.secret })).status).toBe(200);
    });

    test('for more than Tollkeeper reads is 431, unless the proxy asks without it', async () => {
      const before = seen();
      const header = await raw('GET', '/api/v1/products', [asReader(), `X-Large: ${'x'.repeat(5000)}`]);
      expect(header.status).toBe(passesLargeHeaders ? 200 : 431);
      expect(seen() - before).toBe(passesLargeHeaders ? 1 : 0);
      const target = await raw('GET', `/api/v1/products?x=${'x'.repeat(5000)}`, [asReader()]);
      expect(target.status).toBe(431);
      expect(seen() - before).toBe(passesLargeHeaders ? 1 : 0);
    });

    test('of two credentials of one kind is 400: none is chosen', async () => {
      const before = seen();
      const twice = await raw('GET', '/api/v1/products', [asReader(), 'Authorization: Bearer other']);
      expect(twice.status).toBe(400);
      expect(seen()).toBe(before);
    });
  });

  describe(`behind ${name}, what a client could spoof`, () => {
    test('is removed in every spelling: identity, forwarding, method and URL overrides', async () => {
      for (const spell of spellings) {
        const before = seen();
        const lines = spoofed.map((field) => `${spell(field)}: spoofed-by-client`);
        const answer = await raw('GET', '/api/v1/products', [asReader(), ...lines]);
        expect(answer.status).toBe(200);
        expect(seen()).toBe(before + 1);
        expect(last().rawHeaders.filter((value) => value.includes('spoofed-by-client'))).toEqual([]);
        expect(identityOf(last())).toEqual({
          'x-tollkeeper-token-id': [reader.id],
          'x-tollkeeper-tenant': ['acme'],
          'x-tollkeeper-scopes': ['products:read'],
          'x-tollkeeper-subject': ['customer-7'],
        });
      }
    });

    test('does not reach the upstream on a public route either', async () => {
      const lines = spoofed.map((field) => `${field}: spoofed-by-client`);
      expect((await raw('GET', '/status', lines)).status).toBe(200);
      expect(last().rawHeaders.filter((value) => value.includes('spoofed-by-client'))).toEqual([]);
      expect(identityOf(last())).toEqual({});
    });

    test('cannot have our own fields removed by naming them in Connection, nor upgrade the connection', async () => {
      const names = 'X-Tollkeeper-Token-Id, X-Tollkeeper-Tenant, X-Tollkeeper-Scopes, X-Forwarded-For';
      for (const connection of [`close, ${names}`, `keep-alive, ${names}`, `Upgrade, HTTP2-Settings, ${names}`]) {
        const answer = await raw('GET', '/api/v1/products', [
          asReader(),
          `Connection: ${connection}`,
          'Upgrade: h2c',
          'HTTP2-Settings: AAMAAABkAARAAAAAAAIAAAAA',
        ]);
        expect(answer.status).toBe(200);
        expect(Object.keys(identityOf(last()))).toHaveLength(4);
        expect(last().headers['x-forwarded-for']).toBe('127.0.0.1');
        expect((last().headers.connection ?? '').toLowerCase()).not.toMatch(/tollkeeper|forwarded|upgrade|http2/);
        expect(last().headers).not.toHaveProperty('upgrade');
        expect(last().headers).not.toHaveProperty('http2-settings');
      }
    });

    test('does not reach the upstream as a trailer', async () => {
      const before = seen();
      const trailers = spoofed.map((field) => `${field}: spoofed-by-client\r\n`).join('');
      const lines = [asReader(), `Trailer: ${spoofed.join(', ')}`, 'TE: trailers', 'Transfer-Encoding: chunked'];
      const chunks = `5\r\nhello\r\n0\r\n${trailers}\r\n`;
      const answer = await raw('POST', '/api/v1/products/search', lines, chunks);
      expect(answer.status).toBe(takesChunks ? 200 : 411);
      expect(seen() - before).toBe(takesChunks ? 1 : 0);
      if (!takesChunks) return;
      expect(last().rawTrailers).toEqual([]);
      expect(Object.keys(identityOf(last()))).toHaveLength(4);
    });

    test('is no host where the request names none, and nothing else by HTTP/1.0', async () => {
      const spoof = 'X-Forwarded-Host: evil.test\r\nX-Tollkeeper-Tenant: evil\r\n';
      for (const [version, host] of [
        ['1.1', ''],
        ['1.1', 'Host:\r\n'],
        ['1.0', ''],
        ['1.0', 'Host: shop.test\r\n'],
      ]) {
        const before = seen();
        const request = `GET /api/v1/products HTTP/${version}\r\n${host}${asReader()}\r\n${spoof}\r\n`;
        const { status } = await rawExchange(proxy.port, request);
        if (host === 'Host: shop.test\r\n') expect(status).toBe(200);
        if (version === '1.1' && host === '') expect(status).toBe(400); // RFC 9112, 3.2
        if (status === 400) {
          expect(seen()).toBe(before);
          continue;
        }
        expect([status, seen()]).toEqual([200, before + 1]);
        expect(last().headers['x-forwarded-host'] ?? '').toBe(host === 'Host: shop.test\r\n' ? 'shop.test' : '');
        expect(identityOf(last())['x-tollkeeper-tenant']).toEqual(['acme']);
      }
    });

    test('does not change what is asked: method, URI, host, protocol, address', async () => {
      await installation.tenant('secure', '--require-https');
      const secure = await installation.token('secure', '--name', 'secure');
      const office = await installation.token('acme', '--name', 'office', '--allow-ip', '203.0.113.7');
      const claims = [
        'X-Forwarded-Proto: https',
        'X-Original-Proto: https',
        'X-Forwarded-For: 203.0.113.7',
        'X-Original-For: 203.0.113.7',
        'X-Real-IP: 203.0.113.7',
        'Forwarded: for=203.0.113.7;proto=https',
      ];
      const https = await raw('GET', '/api/v1/products', [`Authorization: Bearer ${secure.secret}`, ...claims]);
      expect([https.status, https.body.toString()]).toEqual([403, expect.stringContaining('/https-required"')]);
      const address = await raw('GET', '/api/v1/products', [`Authorization: Bearer ${office.secret}`, ...claims]);
      expect([address.status, address.body.toString()]).toEqual([
        403,
        expect.stringContaining('/address-not-allowed"'),
      ]);
      const before = seen();
      const other = await raw('GET', '/api/v1/admin/tokens', [
        asReader(),
        'X-Forwarded-Uri: /status',
        'X-Original-URI: /status',
        'X-Original-URL: http://shop.test/status',
        'X-Forwarded-Method: HEAD',
        'X-Original-Method: HEAD',
      ]);
      expect([other.status, other.body.toString()]).toEqual([403, expect.stringContaining('/insufficient-scope"')]);
      expect(seen()).toBe(before);
    });

    test('no credential reaches the upstream, in whichever form it came', async () => {
      const from = seen();
      await call(products(), { token: reader.secret });
      await raw('GET', '/api/v1/products', [`authorization: bEARER ${reader.secret}`]);
      const signed = signRequest({ secret: signer.secret, method: 'GET', url: '/api/v1/products' });
      expect((await call(products(), { headers: signed.headers })).status).toBe(200);
      await raw('GET', '/status', [asReader(), `X-Tollkeeper-Token: ${signer.id}`, 'X-Tollkeeper-Signature: abc']);
      const requests = installation.upstream.requests.slice(from);
      expect(requests).toHaveLength(4);
      for (const request of requests) {
        const text = request.rawHeaders.join('\n').toLowerCase();
        expect(text).not.toContain(reader.secret.toLowerCase());
        expect(text).not.toMatch(/^(authorization|x-tollkeeper-(token|timestamp|nonce|signature))$/m);
      }
    });

    test(`a field without a name is ${refusesEmptyNames ? 'refused' : 'dropped'} and hides nothing behind it`, async () => {
      const before = seen();
      const answer = await raw('POST', '/api/v1/products/search', [asReader(), ': x', 'Content-Length: 5'], 'hello');
      if (refusesEmptyNames) {
        expect(answer.status).toBe(400);
        expect(seen()).toBe(before);
      } else {
        expect(answer.status).toBe(200);
        expect(last().body.toString()).toBe('hello');
        expect(last().rawHeaders).not.toContain('');
      }
    });
  });

  describe(`behind ${name}, what is sent on is what was asked about`, () => {
    test.each(targets)('target %s', async (target) => {
      const before = seen();
      const requestId = `target-${targets.indexOf(target)}`;
      const answer = await raw('GET', target, [asReader(), `X-Request-Id: ${requestId}`]);
      const sent = installation.upstream.requests.slice(before);
      if (sent.length === 0) {
        // 404: nginx' own, for the location that only it may use.
        expect(answer.status).toBeGreaterThanOrEqual(400);
        expect(answer.status).toBeLessThan(500);
        return;
      }
      expect(sent).toHaveLength(1);
      const [request] = sent as [RecordedRequest];
      const path = target.replace(/^http:\/\/[^/]*/, '');
      expect(request.url).toBe(rewrites?.(path) ?? path);
      if (request.url === path) expect(reachable).toContain(path.replace(/\?.*$/, ''));
      const entry = await logged(requestId);
      expect([entry.method, entry.path, entry.outcome]).toEqual(['GET', request.url, 'ok']);
    });

    test.each(methods)('method %s', async (method) => {
      for (const target of ['/api/v1/products', '/status', '/files/a']) {
        const before = seen();
        const requestId = `method-${method}-${target.length}`.replace(/_/g, '~');
        const answer = await raw(method, target, [asReader(), `X-Request-Id: ${requestId}`, 'Content-Length: 0']);
        const sent = installation.upstream.requests.slice(before);
        if (sent.length === 0) {
          expect(answer.status).toBeGreaterThanOrEqual(400);
          expect(answer.status).toBeLessThan(502);
          continue;
        }
        expect(sent).toHaveLength(1);
        expect([sent[0]?.method, sent[0]?.url]).toEqual([method, target]);
        const entry = await logged(requestId);
        expect([entry.method, entry.path, entry.outcome]).toEqual([method, target, 'ok']);
      }
    });
  });

  describe(`behind ${name}, a signed request`, () => {
    const body = '{"name":"caf\u00e9"}';
    const target = '/api/v1/products/search?page=2&q=%C3%A9';
    const sign = (declareBody: boolean): Record<string, string> => ({
      ...signRequest({ secret: signer.secret, method: 'POST', url: target, body, declareBody }).headers,
    });

    test('passes when it declares the digest of its body, which the upstream gets to check', async () => {
      const answer = await call(base + target, { method: 'POST', body, headers: sign(true) });
      expect([answer.status, answer.text]).toEqual([200, 'upstream 200']);
      expect(last().url).toBe(target);
      expect(last().headers['x-tollkeeper-token-id']).toBe(signer.id);
      const digest = createHash('sha256').update(last().body).digest('hex');
      expect(last().headers['x-tollkeeper-content-sha256']).toBe(digest);
    });

    test('is accepted once', async () => {
      const headers = sign(true);
      expect((await call(base + target, { method: 'POST', body, headers })).status).toBe(200);
      const before = seen();
      const again = await call(base + target, { method: 'POST', body, headers });
      expect([again.status, slugOf(again)]).toEqual([401, 'replayed-request']);
      expect(seen()).toBe(before);
    });

    test('is refused when its body is not declared, its digest is another one, or its target was changed', async () => {
      const before = seen();
      const undeclared = await call(base + target, { method: 'POST', body, headers: sign(false) });
      expect([undeclared.status, slugOf(undeclared)]).toEqual([401, 'invalid-signature']);
      const headers = { ...sign(true), 'X-Tollkeeper-Content-SHA256': createHash('sha256').update('x').digest('hex') };
      const other = await call(base + target, { method: 'POST', body, headers });
      expect([other.status, slugOf(other)]).toEqual([401, 'invalid-signature']);
      const moved = await call(`${base}${target}&x=1`, { method: 'POST', body, headers: sign(true) });
      expect([moved.status, slugOf(moved)]).toEqual([401, 'invalid-signature']);
      expect(seen()).toBe(before);
    });

    test('is the only one whose digest goes on: nobody vouches for that of a Bearer request', async () => {
      const headers = { 'X-Tollkeeper-Content-SHA256': createHash('sha256').update(body).digest('hex') };
      const answer = await call(`${products()}/search`, { method: 'POST', body, token: reader.secret, headers });
      expect(answer.status).toBe(200);
      expect(last().headers).not.toHaveProperty('x-tollkeeper-content-sha256');
    });
  });

  // Last: these take away what the others need.
  describe(`behind ${name}, when Tollkeeper cannot decide`, () => {
    const refusedAll = async (): Promise<void> => {
      const before = seen();
      for (const path of ['/api/v1/products', '/status']) {
        const answer = await call(base + path, { token: reader.secret });
        expect([answer.status, slugOf(answer)]).toEqual([503, 'store-unavailable']);
        expect(answer.headers['retry-after']).toBe('1');
      }
      expect(seen()).toBe(before);
    };

    test('it is frozen: 503 within the timeout, nothing reaches the upstream, and it recovers', async () => {
      signalAll(sidecar, 'SIGSTOP');
      try {
        await refusedAll();
      } finally {
        signalAll(sidecar, 'SIGCONT');
      }
      await until(async () => (await call(products(), { token: reader.secret })).status === 200);
    });

    test('its Redis is gone: its 503 reaches the client', async () => {
      await installation.redis.kill();
      const answer = await call(products(), { token: reader.secret });
      expect([answer.status, slugOf(answer)]).toEqual([503, 'store-unavailable']);
      expect(answer.json()).toMatchObject({ instance: answer.headers['x-request-id'] });
      expect(Number(answer.headers['retry-after'])).toBeGreaterThan(0);
      expect((await call(`${base}/status`)).status).toBe(200);
    });

    test('it is stopped: 503, nothing reaches the upstream', async () => {
      await sidecar.kill();
      // Its workers follow as soon as they notice.
      await until(() => workerPids(sidecar).every((pid) => !isAlive(pid)));
      await refusedAll();
      expect(headersOf((await raw('GET', '/api/v1/products', [asReader()])).head, 'X-Tollkeeper-Token-Id')).toEqual([]);
    });
  });
}

function fieldsOf(flat: readonly string[]): Record<string, string> {
  return Object.fromEntries(
    flat.flatMap((name, at) => (at % 2 === 0 ? [[name, flat[at + 1] as string] as const] : [])),
  );
}

/** The identity a backend would read, names folded as CGI-like interfaces do, every value it could choose from. */
function identityOf({ rawHeaders }: RecordedRequest): Record<string, string[]> {
  const identity: Record<string, string[]> = {};
  for (let at = 0; at < rawHeaders.length; at += 2) {
    const name = (rawHeaders[at] as string).toLowerCase().replace(/[^a-z0-9]/g, '-');
    if (name.startsWith('x-tollkeeper-')) (identity[name] ??= []).push(rawHeaders[at + 1] as string);
  }
  return identity;
}
