/** The verify plane as a proxy meets it: what it is told, what it answers, and whom it does not answer. */
import { createHash, createHmac } from 'node:crypto';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { signRequest } from '../../src/sign/sign.js';
import { type Answer, call, slugOf } from '../support/http-client.js';
import { type Installation, type IssuedToken, startInstallation } from '../support/installation.js';
import { rawExchange } from '../support/raw-client.js';
import { type Sidecar, startSidecar } from '../support/sidecar.js';
import { until } from '../support/until.js';

const planes = ['data', 'admin', 'verify'];

let installation: Installation;
let sidecar: Sidecar;
let reader: IssuedToken;
let signer: IssuedToken;

beforeAll(async () => {
  installation = await startInstallation();
  await installation.tenant('acme');
  reader = await installation.token('acme', '--limit', '1000000', '--subject', 'customer-7');
  signer = await installation.token('acme', '--mode', 'hmac', '--limit', '1000000');
  sidecar = await installation.sidecar({ env: { TOLLKEEPER_TRUSTED_PROXIES: '127.0.0.1' }, planes });
});

afterAll(() => installation.stop());

interface Question {
  readonly method?: string;
  readonly uri?: string;
  readonly token?: string;
  readonly headers?: Readonly<Record<string, string>>;
  readonly path?: string;
  readonly on?: Sidecar;
}

/** Asks as a proxy does. */
function ask(question: Question = {}): Promise<Answer> {
  const { method = 'GET', uri = '/api/v1/products', token, path = '/verify', on = sidecar } = question;
  return call(on.verifyUrl + path, {
    headers: {
      'X-Forwarded-Method': method,
      'X-Forwarded-Uri': uri,
      'X-Forwarded-Host': 'shop.test',
      'X-Forwarded-Proto': 'https',
      'X-Forwarded-For': '198.51.100.4',
      ...question.headers,
    },
    ...(token === undefined ? {} : { token }),
  });
}

const outcome = (answer: Answer): [number, string] => [answer.status, slugOf(answer)];

async function logEntry(requestId: string): Promise<Record<string, string>> {
  const client = installation.redis.client();
  const day = new Date().toISOString().slice(0, 10);
  let found: Record<string, string> | undefined;
  await until(async () => {
    for (const tenant of ['acme', '_']) {
      for (const [, flat] of await client.xrange(`log:{${tenant}}:${day}`, '-', '+')) {
        const entry = Object.fromEntries(
          flat.flatMap((name, at) => (at % 2 === 0 ? [[name, flat[at + 1] ?? '']] : [])),
        );
        if (entry.requestId === requestId) found = entry;
      }
    }
    return found !== undefined;
  });
  client.disconnect();
  return found as Record<string, string>;
}

describe('an admitted request', () => {
  test('is answered 200 without a body, with who is calling and what is left of the limit', async () => {
    const answer = await ask({ token: reader.secret, headers: { 'X-Request-Id': 'ask-1' } });
    expect([answer.status, answer.text]).toEqual([200, '']);
    expect(answer.headers).toMatchObject({
      'x-request-id': 'ask-1',
      'x-tollkeeper-token-id': reader.id,
      'x-tollkeeper-tenant': 'acme',
      'x-tollkeeper-scopes': 'products:read',
      'x-tollkeeper-subject': 'customer-7',
      'ratelimit-policy': '"token-60s";q=1000000;w=60',
      'x-ratelimit-limit': '1000000',
      'cache-control': 'no-store',
    });
    expect(answer.headers).not.toHaveProperty('x-tollkeeper-content-sha256');
    expect(answer.headers).not.toHaveProperty('authorization');
  });

  test('is charged once, whichever plane it comes by, and 429 names when to come back', async () => {
    const token = await installation.token('acme', '--name', 'two', '--limit', '2', '--window', '3600');
    expect((await ask({ token: token.secret })).status).toBe(200);
    expect((await call(`${sidecar.dataUrl}/api/v1/products`, { token: token.secret })).status).toBe(200);
    const limited = await ask({ token: token.secret });
    expect(outcome(limited)).toEqual([429, 'rate-limit-exceeded']);
    expect(Number(limited.headers['retry-after'])).toBeGreaterThan(3500);
    expect(limited.headers['x-ratelimit-remaining']).toBe('0');
  });

  test('and a refused one are logged as the requests they are about, with their true status', async () => {
    await ask({
      token: reader.secret,
      headers: { 'X-Request-Id': 'logged-1', 'User-Agent': 'shop/1' },
      uri: '/api/v1/products/7?key=secret',
    });
    expect(await logEntry('logged-1')).toMatchObject({
      tenant: 'acme',
      tokenId: reader.id,
      method: 'GET',
      path: '/api/v1/products/7',
      route: '/api/v1/products/{id}',
      status: '200',
      outcome: 'ok',
      ip: '198.51.100.4',
      userAgent: 'shop/1',
    });
    await ask({
      token: reader.secret,
      method: 'DELETE',
      path: '/verify/nginx',
      headers: { 'X-Request-Id': 'logged-2' },
    });
    expect(await logEntry('logged-2')).toMatchObject({
      method: 'DELETE',
      status: '405',
      outcome: 'method-not-allowed',
    });
  });

  test('on a public route needs no credential and has no identity', async () => {
    const answer = await ask({ uri: '/status', headers: { 'X-Tollkeeper-Tenant': 'evil' } });
    expect(answer.status).toBe(200);
    expect(Object.keys(answer.headers).filter((name) => name.startsWith('x-tollkeeper-'))).toEqual([]);
  });

  test('is refused from the moment its token was revoked', async () => {
    const token = await installation.token('acme', '--name', 'to-revoke');
    expect((await ask({ token: token.secret })).status).toBe(200);
    await installation.command('token', 'revoke', token.id);
    expect(outcome(await ask({ token: token.secret }))).toEqual([401, 'token-revoked']);
  });

  test('is known by the key header when that is on', async () => {
    const withKeys = await installation.sidecar({
      env: { TOLLKEEPER_TRUSTED_PROXIES: '127.0.0.1', TOLLKEEPER_API_KEY_HEADER: 'true' },
      planes,
    });
    const headers = { 'X-API-Key': reader.secret };
    expect((await ask({ headers, on: withKeys })).status).toBe(200);
    expect(outcome(await ask({ headers, token: reader.secret, on: withKeys }))).toEqual([400, 'ambiguous-credentials']);
    expect(outcome(await ask({ headers }))).toEqual([401, 'missing-credentials']);
  });
});

describe('who may ask', () => {
  test('nobody, unless the operator lists proxies: 403 that says so, and a warning in the log', async () => {
    const closed = await installation.sidecar({ planes });
    for (const path of ['/verify', '/verify/nginx', '/verify/envoy/status']) {
      const answer = await ask({ token: reader.secret, uri: '/status', path, on: closed });
      expect(outcome(answer)).toEqual([403, 'address-not-allowed']);
      expect(answer.json().detail).toContain('TOLLKEEPER_TRUSTED_PROXIES');
      expect(answer.headers).not.toHaveProperty('x-tollkeeper-token-id');
    }
    const warning = await closed.logged((line) => line.peer === '127.0.0.1');
    expect(warning.level).toBe('warn');
    expect(closed.logs().filter((line) => line.peer !== undefined)).toHaveLength(1);
  });

  test('only peers on the list, and a peer cannot claim to be one', async () => {
    const bytes = (lines: string): string =>
      `GET /verify HTTP/1.1\r\nHost: v\r\nX-Forwarded-Method: GET\r\nX-Forwarded-Uri: /status\r\n${lines}\r\n`;
    const other = await rawExchange(sidecar.verifyPort, bytes('X-Forwarded-For: 127.0.0.1\r\n'), {
      localAddress: '127.0.0.2',
    });
    expect([other.status, other.closed || /connection: close/i.test(other.head)]).toEqual([403, true]);
    expect((await rawExchange(sidecar.verifyPort, bytes(''))).status).toBe(200);
  });
});

describe('what the proxy says', () => {
  let hosts: Sidecar;
  beforeAll(async () => {
    hosts = await installation.sidecar({
      env: { TOLLKEEPER_TRUSTED_PROXIES: '127.0.0.1', TOLLKEEPER_TENANT_HOST: '*.shop.test' },
      planes,
    });
  });

  test.each([
    [['X-Forwarded-Uri: /status'], 400],
    [['X-Forwarded-Method: GET'], 400],
    [['X-Forwarded-Method: GET', 'X-Forwarded-Method: GET', 'X-Forwarded-Uri: /status'], 400],
    [['X-Forwarded-Method: GET', 'X-Forwarded-Uri: /status', 'X-Forwarded-Uri: /status'], 400],
    [['X-Forwarded-Method: GET', 'X-Forwarded-Uri: /status', 'X-Original-URI: /api/v1/products'], 400],
    [['X-Forwarded-Method: GET', 'X-Forwarded-Uri: /status', 'X-Original-Method: PUT'], 400],
    [
      ['X-Forwarded-Method: GET', 'X-Forwarded-Uri: /status', 'X-Forwarded-Proto: http', 'X-Forwarded-Proto: https'],
      400,
    ],
    [['X-Forwarded-Method: GET', 'X-Forwarded-Uri: /status', 'X-Forwarded-Proto: ftp'], 400],
    [['X-Forwarded-Method: GET', 'X-Forwarded-Uri: /status', 'X-Forwarded-Host: a b'], 400],
    [['X-Forwarded-Method: GET', 'X-Forwarded-Uri: /status', 'X-Forwarded-For: unknown'], 400],
    [['X-Forwarded-Method: GET', 'X_Forwarded_Uri: /status'], 400],
    [['X-Original-Method: GET', 'X-Original-URI: /status'], 200],
    [['X-Original-Method: GET', 'X-Original-URL: https://shop.test/status?x'], 200],
    [['X-Forwarded-Method: GET', 'X-Forwarded-Uri: /status', 'X-Original-URI: /status'], 200],
  ])('is complete and without contradiction, or refused: %j', async (lines, status) => {
    const answer = await rawExchange(
      sidecar.verifyPort,
      `GET /verify HTTP/1.1\r\nHost: v\r\n${lines.map((line) => `${line}\r\n`).join('')}\r\n`,
    );
    expect(answer.status).toBe(status);
    if (status === 400) expect(answer.body.toString()).toContain('/problems/malformed-request"');
  });

  test('counts, not what the verify request itself is: method, query, host', async () => {
    const headers = { 'X-Forwarded-Method': 'POST', 'X-Forwarded-Uri': '/api/v1/products/search' };
    const answer = await call(`${sidecar.verifyUrl}/verify?/status`, { headers, token: reader.secret });
    expect(answer.status).toBe(200);
    const head = await call(`${sidecar.verifyUrl}/verify`, { method: 'HEAD', headers, token: reader.secret });
    expect([head.status, head.text, head.headers['x-tollkeeper-tenant']]).toEqual([200, '', 'acme']);
    const refused = await call(`${sidecar.verifyUrl}/verify`, { method: 'HEAD', headers });
    expect([refused.status, refused.text]).toEqual([401, '']);
  });

  test('about the method: HEAD is asked about with GET and answered with a body, an unknown method is 405', async () => {
    expect((await ask({ method: 'HEAD', token: reader.secret })).status).toBe(200);
    const head = await ask({ method: 'HEAD' });
    expect([head.status, slugOf(head)]).toEqual([401, 'missing-credentials']);
    for (const method of ['TRACE', 'CONNECT', 'FOO', 'get']) {
      expect(outcome(await ask({ method, token: reader.secret }))).toEqual([405, 'method-not-allowed']);
    }
  });

  test('about an unknown method is refused also where any valid token may pass', async () => {
    const open = await startInstallation({
      policy: 'policy: { default: allow-authenticated, scopes: [products:read], routes: [] }',
    });
    try {
      await open.tenant('acme');
      const token = await open.token('acme');
      const on = await open.sidecar({ env: { TOLLKEEPER_TRUSTED_PROXIES: '127.0.0.1' }, planes });
      expect((await ask({ token: token.secret, on })).status).toBe(200);
      expect(outcome(await ask({ method: 'FOO', token: token.secret, on }))).toEqual([405, 'method-not-allowed']);
      // The data plane keeps this path for itself; a proxy would send it on.
      const wellKnown = await ask({ uri: '/.well-known/tollkeeper', token: token.secret, on });
      expect([wellKnown.status, wellKnown.text]).toEqual([200, '']);
      expect(wellKnown.headers['x-tollkeeper-token-id']).toBe(token.id);
    } finally {
      await open.stop();
    }
  });

  test.each([
    '//api/v1/products',
    '/api/v1/products/',
    '/api/v1/../v1/products',
    '/api/v1/%2e%2e/products',
    '/api/v1/products%2f1',
    '/api/v1/products;x',
    '/api/v1/products%00',
    '/api/v1/products#x',
    '/api/v1/products?x#y',
    '/api/v1/products\\x',
    '/%61pi/v1/products',
    '/api/v1/products/%c3%a9',
    '/api/v1/products/%7E',
  ])('about the path is judged as strictly as on the data plane, and never repaired: %s', async (uri) => {
    const answer = await ask({ uri, token: reader.secret });
    expect(outcome(answer)).toEqual([400, 'malformed-request']);
  });

  test('about the client is believed: host, HTTPS and address decide', async () => {
    await installation.tenant('secure', '--require-https');
    const secure = await installation.token('secure', '--name', 'secure');
    expect((await ask({ token: secure.secret })).status).toBe(200);
    expect(outcome(await ask({ token: secure.secret, headers: { 'X-Forwarded-Proto': 'http' } }))).toEqual([
      403,
      'https-required',
    ]);
    const office = await installation.token('acme', '--name', 'office', '--allow-ip', '198.51.100.0/24,127.0.0.1');
    expect((await ask({ token: office.secret })).status).toBe(200);
    // The client's own claim stands left of what the proxy wrote.
    const claimed = await ask({ token: office.secret, headers: { 'X-Forwarded-For': '198.51.100.4, 203.0.113.9' } });
    expect(outcome(claimed)).toEqual([403, 'address-not-allowed']);
    const at = (host: string): Promise<Answer> =>
      ask({ token: reader.secret, headers: { 'X-Forwarded-Host': host }, on: hosts });
    expect((await at('acme.shop.test')).status).toBe(200);
    expect(outcome(await at('other.shop.test'))).toEqual([403, 'tenant-mismatch']);
  });

  test('not, about host, protocol or address, refuses whatever depends on it: the proxy itself is not the client', async () => {
    const quiet = (token: IssuedToken, on = sidecar): Promise<Answer> =>
      call(`${on.verifyUrl}/verify`, {
        token: token.secret,
        headers: { 'X-Forwarded-Method': 'GET', 'X-Forwarded-Uri': '/api/v1/products' },
      });
    expect((await quiet(reader)).status).toBe(200);
    const office = await installation.token('acme', '--name', 'local-office', '--allow-ip', '127.0.0.0/8');
    expect(outcome(await quiet(office))).toEqual([403, 'address-not-allowed']);
    const secure = await installation.token('secure', '--name', 'secure-too');
    expect(outcome(await quiet(secure))).toEqual([403, 'https-required']);
    expect(outcome(await quiet(reader, hosts))).toEqual([403, 'tenant-mismatch']);
  });
});

describe('the verify request itself', () => {
  test('is GET or HEAD on a known path, without a body; a sound one keeps its connection whatever it asks', async () => {
    const facts = 'X-Forwarded-Method: GET\r\nX-Forwarded-Uri: /status\r\n';
    const send = (line: string, lines = ''): ReturnType<typeof rawExchange> =>
      rawExchange(sidecar.verifyPort, `${line} HTTP/1.1\r\nHost: v\r\n${facts}${lines}\r\n`);
    const closes = (head: string): boolean => /^connection: close$/im.test(head);
    for (const [line, lines, status] of [
      ['POST /verify', '', 405],
      ['GET /', '', 400],
      ['GET /verify/', '', 400],
      ['GET /verify/nginx/x', '', 400],
      ['GET //verify', '', 400],
      ['GET /verify', 'Content-Length: 5\r\n', 400],
      ['GET /verify', 'Transfer-Encoding: chunked\r\n', 400],
    ] as const) {
      const answer = await send(line, lines);
      expect([line, answer.status, closes(answer.head)]).toEqual([line, status, true]);
    }
    const subject = await rawExchange(
      sidecar.verifyPort,
      'GET /verify HTTP/1.1\r\nHost: v\r\nX-Forwarded-Method: FOO\r\nX-Forwarded-Uri: //\r\n\r\n',
    );
    expect([subject.status, closes(subject.head)]).toEqual([405, false]);
  });
});

describe('/verify/nginx', () => {
  const nginx = (question: Question): Promise<Answer> => ask({ ...question, path: '/verify/nginx' });

  test('answers 200, 401 and 403 as they are', async () => {
    expect((await nginx({ token: reader.secret })).headers['x-tollkeeper-token-id']).toBe(reader.id);
    const missing = await nginx({});
    expect(outcome(missing)).toEqual([401, 'missing-credentials']);
    expect(missing.headers['www-authenticate']).toBe('Bearer realm="tollkeeper"');
    const scope = await nginx({ token: reader.secret, uri: '/api/v1/admin/tokens' });
    expect(outcome(scope)).toEqual([403, 'insufficient-scope']);
    for (const answer of [missing, scope]) expect(answer.headers).not.toHaveProperty('x-error-status');
  });

  test('answers every other refusal 403 with the true status, its headers and its body in a header', async () => {
    const limited = await installation.token('acme', '--name', 'nginx-limited', '--limit', '1', '--window', '3600');
    await nginx({ token: limited.secret });
    const cases: readonly (readonly [Question, number, string])[] = [
      [{ token: limited.secret }, 429, 'rate-limit-exceeded'],
      [{ token: reader.secret, method: 'DELETE' }, 405, 'method-not-allowed'],
      [{ token: reader.secret, uri: '//' }, 400, 'malformed-request'],
      [{ token: reader.secret, headers: { 'X-Forwarded-Uri': '' } }, 400, 'malformed-request'],
    ];
    for (const [question, status, slug] of cases) {
      const answer = await nginx(question);
      expect([answer.status, answer.headers['x-error-status']]).toEqual([403, String(status)]);
      expect(answer.headers['x-error-problem']).toBe(answer.text);
      expect(answer.json()).toMatchObject({ status, type: `https://tollkeeper.dev/problems/${slug}` });
      if (status === 429) expect(Number(answer.headers['retry-after'])).toBeGreaterThan(3500);
      if (status === 429) expect(answer.headers['x-ratelimit-remaining']).toBe('0');
      if (status === 405) expect(answer.headers.allow).toBe('GET, HEAD');
    }
  });
});

describe('/verify/envoy/', () => {
  const envoy = (line: string, lines: readonly string[] = []): ReturnType<typeof rawExchange> =>
    rawExchange(
      sidecar.verifyPort,
      `${line} HTTP/1.1\r\nHost: shop.test\r\nX-Forwarded-For: 198.51.100.4\r\nX-Forwarded-Proto: http\r\nContent-Length: 0\r\nAuthorization: Bearer ${reader.secret}\r\n${lines.map((text) => `${text}\r\n`).join('')}\r\n`,
    );

  test('takes method and target from the request line, byte for byte', async () => {
    expect((await envoy('GET /verify/envoy/api/v1/products?a=%2F&b')).head).toContain(reader.id);
    expect((await envoy('POST /verify/envoy/api/v1/products/search')).status).toBe(200);
    expect((await envoy('HEAD /verify/envoy/api/v1/products')).status).toBe(200);
    expect((await envoy('DELETE /verify/envoy/api/v1/products')).status).toBe(405);
    for (const target of ['//status', '/../verify/nginx', '/status/', '/%2e%2e/status', '/status#', '/']) {
      const { status } = await envoy(`GET /verify/envoy${target}`);
      expect([target, status]).toEqual([target, target === '/' ? 403 : 400]);
    }
    expect((await envoy('GET /verify/envoy')).status).toBe(400);
  });

  test('and refuses when a header says otherwise', async () => {
    expect((await envoy('GET /verify/envoy/api/v1/admin/tokens', ['X-Forwarded-Uri: /status'])).status).toBe(400);
    expect((await envoy('GET /verify/envoy/status', ['X-Original-Method: POST'])).status).toBe(400);
  });

  test('has a digest that nobody signed removed', async () => {
    const answer = await envoy('GET /verify/envoy/api/v1/products', [`X-Tollkeeper-Content-SHA256: ${'0'.repeat(64)}`]);
    expect(answer.status).toBe(200);
    expect(answer.head).toMatch(/^x-envoy-auth-headers-to-remove: X-Tollkeeper-Content-SHA256$/im);
    expect(answer.head).not.toMatch(/^x-tollkeeper-content-sha256:/im);
  });
});

describe('a signed request', () => {
  const body = 'hello';
  const digest = createHash('sha256').update(body).digest('hex');
  const uri = '/api/v1/products/search?q=1';
  const signed = (declareBody: boolean, text = body): Record<string, string> => ({
    ...signRequest({ secret: signer.secret, method: 'POST', url: uri, body: text, declareBody }).headers,
  });
  const post = (headers: Record<string, string>): Promise<Answer> => ask({ method: 'POST', uri, headers });

  test('is checked against the digest its client declares, which is passed on', async () => {
    const answer = await post(signed(true));
    expect([answer.status, answer.headers['x-tollkeeper-token-id']]).toEqual([200, signer.id]);
    expect(answer.headers['x-tollkeeper-content-sha256']).toBe(digest);
  });

  test('that declares none has the empty body', async () => {
    expect(outcome(await post(signed(false)))).toEqual([401, 'invalid-signature']);
    const empty = await post(signed(false, ''));
    expect(empty.status).toBe(200);
    expect(empty.headers['x-tollkeeper-content-sha256']).toBe(createHash('sha256').digest('hex'));
  });

  test.each([
    ['another digest', '0'.repeat(64)],
    ['upper-case hex', digest.toUpperCase()],
    ['a shortened digest', digest.slice(1)],
    ['no hex at all', 'x'.repeat(64)],
  ])('is refused with %s', async (_, declared) => {
    expect(outcome(await post({ ...signed(true), 'X-Tollkeeper-Content-SHA256': declared }))).toEqual([
      401,
      'invalid-signature',
    ]);
  });

  test('is refused when the method, the target or the order of the query is not the signed one', async () => {
    expect(outcome(await ask({ method: 'GET', uri, headers: signed(true) }))).toEqual([401, 'invalid-signature']);
    expect(outcome(await ask({ method: 'POST', uri: `${uri}&`, headers: signed(true) }))).toEqual([
      401,
      'invalid-signature',
    ]);
  });

  test('is accepted once on both planes together', async () => {
    const headers = signed(true);
    expect((await post(headers)).status).toBe(200);
    expect(outcome(await post(headers))).toEqual([401, 'replayed-request']);
    const forwarded = await call(sidecar.dataUrl + uri, { method: 'POST', body, headers });
    expect(outcome(forwarded)).toEqual([401, 'replayed-request']);
  });

  test('by RFC 9421 is checked against its Content-Digest', async () => {
    const contentDigest = `sha-256=:${createHash('sha256').update(body).digest('base64')}:`;
    const parameters = `("@method" "@target-uri" "content-digest");created=${Math.floor(Date.now() / 1000)};keyid="${signer.id}";alg="hmac-sha256"`;
    const base = `"@method": POST\n"@target-uri": https://shop.test${uri}\n"content-digest": ${contentDigest}\n"@signature-params": ${parameters}`;
    const headers = {
      'Signature-Input': `sig=${parameters}`,
      Signature: `sig=:${createHmac('sha256', signer.secret).update(base).digest('base64')}:`,
      'Content-Digest': contentDigest,
    };
    const other = `sha-256=:${createHash('sha256').update('other').digest('base64')}:`;
    expect(outcome(await post({ ...headers, 'Content-Digest': other }))).toEqual([401, 'invalid-signature']);
    const answer = await post(headers);
    expect([answer.status, answer.headers['x-tollkeeper-content-sha256']]).toEqual([200, digest]);
  });
});

describe('the listener', () => {
  test('can be off', async () => {
    const off = await installation.sidecar({ env: { TOLLKEEPER_VERIFY_LISTEN: 'off' } });
    expect(off.logs().filter((line) => line.plane === 'verify')).toEqual([]);
  });

  test.each(['1', '2'])('is alone, without an upstream, where the data plane is off (workers: %s)', async (workers) => {
    const env = { TOLLKEEPER_LISTEN: 'off', TOLLKEEPER_UPSTREAM: '', TOLLKEEPER_WORKERS: workers };
    const on = await installation.sidecar({
      env: { ...env, TOLLKEEPER_TRUSTED_PROXIES: '127.0.0.1' },
      planes: ['verify', 'admin'],
    });
    expect((await ask({ token: reader.secret, on })).headers['x-tollkeeper-token-id']).toBe(reader.id);
    // Workers report to their primary every second.
    await until(async () => (await call(`${on.adminUrl}/readyz`)).status === 200);
    expect(on.logs().filter(({ plane }) => plane === 'data')).toEqual([]);
    expect(await on.stop()).toBe(0);
  });

  test('may be off only beside a data plane, which may not be without an upstream', async () => {
    const both = { TOLLKEEPER_LISTEN: 'off', TOLLKEEPER_VERIFY_LISTEN: 'off' };
    await expect(installation.sidecar({ env: both })).rejects.toThrow(/listen: found off, and verifyListen is off too/);
    await expect(installation.sidecar({ env: { TOLLKEEPER_UPSTREAM: '' } })).rejects.toThrow(/upstream is not set/);
  });

  test.each(['TOLLKEEPER_LISTEN', 'TOLLKEEPER_VERIFY_LISTEN', 'TOLLKEEPER_ADMIN_LISTEN'])(
    'and no other plane opens when the address of %s is taken, and the message names it',
    async (variable) => {
      const port = variable === 'TOLLKEEPER_VERIFY_LISTEN' ? sidecar.verifyPort : sidecar.dataPort;
      const taken = installation.sidecar({ env: { [variable]: `127.0.0.1:${port}` } });
      const message = await taken.then(
        () => 'it started',
        (error: Error) => error.message,
      );
      expect(message).toContain(`Cannot listen on 127.0.0.1:${port} (another process listens there)`);
      expect(message).toContain(variable);
      expect(message).not.toContain('"msg":"listening"');
    },
  );

  test('is there in every worker', async () => {
    const on = await installation.sidecar({
      env: { TOLLKEEPER_TRUSTED_PROXIES: '127.0.0.1', TOLLKEEPER_WORKERS: '2' },
      planes,
    });
    const answers = await Promise.all(
      Array.from({ length: 40 }, () =>
        rawExchange(
          on.verifyPort,
          `GET /verify HTTP/1.1\r\nHost: v\r\nX-Forwarded-Method: GET\r\nX-Forwarded-Uri: /api/v1/products\r\nAuthorization: Bearer ${reader.secret}\r\n\r\n`,
        ),
      ),
    );
    expect(answers.filter(({ status }) => status !== 200)).toEqual([]);
  });

  test('cannot share the port of another listener', async () => {
    const env = { ...installation.env, TOLLKEEPER_LISTEN: '127.0.0.1:9', TOLLKEEPER_VERIFY_LISTEN: '127.0.0.1:9' };
    await expect(startSidecar({ env })).rejects.toThrow(/verifyListen: found port 9, which listen takes too/);
  });

  test('answers 503, and nginx 403 with 503 in X-Error-Status, while Redis is away', async () => {
    const own = await startInstallation();
    try {
      await own.tenant('acme');
      const token = await own.token('acme');
      const on = await own.sidecar({ env: { TOLLKEEPER_TRUSTED_PROXIES: '127.0.0.1' }, planes });
      expect((await ask({ token: token.secret, on })).status).toBe(200);
      await own.redis.kill();
      const answer = await ask({ token: token.secret, on });
      expect(outcome(answer)).toEqual([503, 'store-unavailable']);
      expect(Number(answer.headers['retry-after'])).toBeGreaterThan(0);
      const nginx = await ask({ token: token.secret, path: '/verify/nginx', on });
      expect([nginx.status, nginx.headers['x-error-status'], nginx.headers['retry-after']]).toEqual([403, '503', '1']);
      expect((await ask({ uri: '/status', on })).status).toBe(200);
    } finally {
      await own.stop();
    }
  });
});
