/** The checks of the probes can fail: each finds a made-up outcome that shows what it forbids. */
import { describe, expect, test } from 'vitest';
import { parseResponses } from '../support/raw-client.js';
import { type Observation, judge, violations } from './probe-violations.js';

const values = {
  host: '127.0.0.1:8080',
  token: 'tk_live_AAAAAAAAAAAA_secret',
  tokenId: 'AAAAAAAAAAAA',
  hmacId: 'BBBBBBBBBBBB',
  hmacSecret: 'tk_live_BBBBBBBBBBBB_secret',
  nowS: 0,
};
const address = '127.77.1.1';
const ok = 'HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n';

interface Outcome {
  readonly sent?: string;
  readonly raw?: string;
  readonly answer?: string;
  readonly upstream?: readonly string[];
  readonly logged?: readonly Readonly<Record<string, string>>[];
  readonly alive?: boolean;
  readonly status?: readonly number[];
  readonly closed?: boolean;
  readonly mustNot?: readonly string[];
}

function outcome(of: Outcome): Observation {
  const sent = of.sent ?? 'GET /api/v1/products HTTP/1.1\r\nHost: 127.0.0.1:8080\r\n\r\n';
  const closed = of.closed ?? false;
  const method = sent.slice(0, sent.indexOf(' '));
  return {
    probe: {
      id: 'x',
      category: 'x',
      raw: of.raw ?? sent,
      expect: { status: of.status ?? [200], must_not: of.mustNot ?? [] },
      why: 'x',
      source: 'x',
    },
    sent,
    values,
    address,
    result: { ...parseResponses(Buffer.from(of.answer ?? ok, 'latin1'), method, closed), closed },
    upstream: (of.upstream ?? []).map((head) => ({ head, body: Buffer.alloc(0), connection: 0 })),
    logged: of.logged ?? [],
    alive: of.alive ?? true,
  };
}

/** A request as the sidecar should send it, with further header lines. */
function forwarded(target = '/api/v1/products', ...lines: readonly string[]): string {
  return [
    `GET ${target} HTTP/1.1`,
    'host: 127.0.0.1:8080',
    'x-request-id: r1',
    `x-forwarded-for: ${address}`,
    'x-forwarded-proto: http',
    'x-forwarded-host: 127.0.0.1:8080',
    `x-tollkeeper-token-id: ${values.tokenId}`,
    'x-tollkeeper-tenant: acme',
    'x-tollkeeper-scopes: products:read',
    ...lines,
  ].join('\r\n');
}

const bad: Readonly<Record<string, readonly Outcome[]>> = {
  'reaches-upstream': [{ upstream: [forwarded()] }],
  'second-request-parsed': [
    { upstream: ['GET /status?smuggled=1 HTTP/1.1\r\nHost: smuggled.test'] },
    { upstream: [forwarded(), forwarded()] },
    { logged: [{ path: '/status?smuggled=1' }] },
    { answer: ok + ok },
  ],
  'privileged-path-reached': [
    { upstream: [forwarded('/api/v1/admin/tokens')] },
    { upstream: [forwarded('/api/v1/products/../admin/tokens')] },
    { upstream: [forwarded('/api/v1/products/%2e%2E%2fadmin%2ftokens')] },
    { upstream: [forwarded('/api/v1/products/..\\ADMIN\\tokens')] },
    { upstream: [forwarded('/api/v1/products/..;/admin/tokens;x=1')] },
    { upstream: [forwarded('/api/v1/orders/1/retry')] },
  ],
  'process-exit': [{ alive: false }],
  'hop-by-hop-forwarded': [
    { upstream: [forwarded('/', 'te: trailers')] },
    { sent: 'GET / HTTP/1.1\r\nConnection: close, X-Private\r\n\r\n', upstream: [forwarded('/', 'x-private: 1')] },
  ],
  'client-address-spoofed': [
    { upstream: [forwarded().replace(address, '127.0.0.1')] },
    { upstream: [forwarded('/', `x-forwarded-for: ${address}`)] },
    { upstream: [forwarded('/', 'x-real-ip: 10.0.0.1')] },
    { logged: [{ ip: '10.9.8.7' }] },
  ],
  'spoofed-identity-forwarded': [
    { upstream: [forwarded('/', 'X_Tollkeeper.Scopes: admin:all')] },
    { upstream: [forwarded('/', 'x-tollkeeper-scopes: products:read')] },
    { upstream: [forwarded().replace('products:read', 'admin:all')] },
    { upstream: [forwarded('/', 'x-tollkeeper-subject: root')] },
  ],
  'url-override-forwarded': [{ upstream: [forwarded('/', 'X-Original-URL: /api/v1/admin/tokens')] }],
  'method-override-forwarded': [{ upstream: [forwarded('/', 'X-HTTP-Method-Override: DELETE')] }],
  'credential-forwarded': [
    { upstream: [forwarded('/', 'Authorization: Bearer x')] },
    { upstream: [forwarded('/', `x-other: ${values.token}`)] },
  ],
  'credential-echoed': [{ answer: `HTTP/1.1 405 No\r\nX: ${values.token}\r\nContent-Length: 0\r\n\r\n` }],
  'body-on-bodyless-response': [{ sent: 'HEAD / HTTP/1.1\r\n\r\n', answer: `${ok}body` }],
  'protocol-upgraded': [
    { answer: 'HTTP/1.1 101 Switching Protocols\r\n\r\n' },
    { sent: 'CONNECT example.com:443 HTTP/1.1\r\n\r\n' },
    { upstream: [forwarded('/', 'Upgrade: h2c')] },
  ],
  'header-injected': [
    { answer: 'HTTP/1.1 200 OK\r\nSet-Cookie: x=1\r\nContent-Length: 0\r\n\r\n' },
    { upstream: [forwarded('/', 'Host: x')] },
  ],
  'host-spoofed': [
    { upstream: [forwarded('/', 'x-forwarded-host: admin.internal')] },
    { upstream: [forwarded('/', 'x-forwarded-port: 9090')] },
  ],
  'insane-request-id-echoed': [
    {
      sent: 'GET / HTTP/1.1\r\nX-Request-Id: <b>\r\n\r\n',
      answer: 'HTTP/1.1 200 OK\r\nX-Request-Id: <b>\r\nContent-Length: 0\r\n\r\n',
    },
    { sent: 'GET / HTTP/1.1\r\nX-Request-Id: r1\r\n\r\n', upstream: [forwarded()] },
  ],
  'responses-out-of-order': [
    {
      sent: 'GET /a HTTP/1.1\r\n\r\nGET /b HTTP/1.1\r\n\r\n',
      answer: 'HTTP/1.1 200 OK\r\nContent-Length: 19\r\n\r\nupstream got GET /b',
    },
  ],
  'mangled-bytes-forwarded': [
    { sent: 'GET / HTTP/1.1\r\nX-Test: a\xe9b\r\n\r\n', upstream: [forwarded('/', 'x-test: a\xc3\xa9b')] },
  ],
  'unnormalised-path-forwarded': [{ upstream: [forwarded('/api/v1/%70roducts')] }],
  'own-header-removed': [{ upstream: [forwarded().replace(/x-tollkeeper-scopes.*/, 'x: y')] }],
  'host-missing-upstream': [{ upstream: [forwarded().replace(/host: .*/, 'x: y')] }],
  'query-changed': [{ sent: 'GET /a? HTTP/1.1\r\n\r\n', upstream: [forwarded('/a')] }],
  'header-lost': [
    { sent: 'GET / HTTP/1.1\r\nCookie: a=1\r\nCookie: b=2\r\n\r\n', upstream: [forwarded('/', 'cookie: a=1')] },
  ],
};

describe('checks of the probes', () => {
  test.each(Object.keys(violations))('%s: nothing is found in a good outcome', (name) => {
    const body = 'upstream got GET /api/v1/products';
    const withBody = `HTTP/1.1 200 OK\r\nContent-Length: ${body.length}\r\n\r\n${body}`;
    const good = outcome({
      upstream: name === 'reaches-upstream' ? [] : [forwarded()],
      answer: name === 'responses-out-of-order' ? withBody : ok,
    });
    expect(violations[name]?.(good)).toBe('');
  });

  test.each(Object.keys(violations))('%s: what it forbids is found', (name) => {
    expect(bad[name]?.length).toBeGreaterThan(0);
    for (const of of bad[name] ?? []) {
      expect(judge(outcome({ ...of, status: [200, 405], mustNot: [name] })).join()).toContain(
        name === 'process-exit' ? 'the sidecar ended' : `${name}: `,
      );
    }
  });

  test('a connection that is neither answered nor closed is a failure, a close without an answer is status 0', () => {
    expect(judge(outcome({ answer: '', status: [0] }))).toEqual(['neither answered nor closed within 15 s']);
    expect(judge(outcome({ answer: '', status: [0], closed: true }))).toEqual([]);
    expect(judge(outcome({ answer: '', status: [400], closed: true }))).toEqual(['status 0, expected 400: ']);
  });
});
